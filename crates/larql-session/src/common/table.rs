//! Tables: what conditions test, ORDER BY sorts and SELECT's columns pick from.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use larql_lql::ast::{self, Column, Direction, Field, Filter, OrderBy, Select, Spanned};
use larql_lql::output::{Datum, FeatureRow, Record, Selected};

use crate::QueryError;
use crate::common::condition::{check_types, numeric, passes_filter, texts};

/// A row whose cells are computed when they are asked for.
pub(crate) trait Row {
    /// Returns the value of a field, if the row has one.
    fn cell(&self, field: Field) -> Option<Datum>;
}

impl Row for Record {
    fn cell(&self, field: Field) -> Option<Datum> {
        self.get(field).cloned()
    }
}

impl Row for FeatureRow {
    fn cell(&self, field: Field) -> Option<Datum> {
        match field {
            Field::Layer => Some(self.layer.into()),
            Field::Feature => Some(self.feature.into()),
            Field::Tokens => Some(self.tokens.clone().into()),
            Field::Target => Some(self.tokens.first()?.trim().into()),
            Field::Score => self.score.map(Datum::from),
            Field::Label | Field::Relation => self.label.clone().map(Datum::from),
            Field::Source => self.source.map(|source| source.name().into()),
            _ => None,
        }
    }
}

/// A table that can be asked.
pub(crate) struct Table<'a> {
    pub(crate) from: ast::Table,
    /// Its fields, in the order in which `*` shows them.
    pub(crate) fields: &'static [Field],
    pub(crate) rows: BoxedRows<'a, Box<dyn Row + 'a>>,
}

/// An iterator of any kind.
pub(crate) type BoxedRows<'a, T> = Box<dyn Iterator<Item = T> + 'a>;

/// A question to a table.
pub(crate) struct Query<'a> {
    pub(crate) select: &'a Select,
    /// The rows of the statement before `|>`, one of which each row must agree with.
    pub(crate) piped: Option<PipedRows>,
    /// Rows that are made if the statement has no LIMIT; the others are counted.
    pub(crate) most_rows: Option<usize>,
}

/// Rows that a pipe hands on, as far as they name something.
pub(crate) struct PipedRows {
    fields: Vec<Field>,
    keys: HashSet<Vec<String>>,
}

impl PipedRows {
    /// The fields of rows that name an entity, a relation or a feature; figures name nothing.
    const NAMING: [Field; 6] =
        [Field::Entity, Field::Relation, Field::Target, Field::Layer, Field::Feature, Field::Label];

    /// Returns the rows, as far as a table with `fields` can be asked for them; nothing if they share no field.
    pub(crate) fn new(rows: &[Record], fields: &[Field]) -> Option<PipedRows> {
        let shared = |field: &Field| {
            fields.contains(field) && !rows.is_empty() && rows.iter().all(|row| row.get(*field).is_some())
        };
        let fields: Vec<Field> = Self::NAMING.into_iter().filter(shared).collect();
        let keys = rows.iter().map(|row| key(row, &fields)).collect();
        (!fields.is_empty()).then_some(PipedRows { fields, keys })
    }

    fn agree_with(&self, row: &dyn Row) -> bool {
        self.keys.contains(&key(row, &self.fields))
    }
}

/// The values of some fields, without regard to the case of texts and surrounding white space.
fn key(row: &dyn Row, fields: &[Field]) -> Vec<String> {
    let text = |field: &Field| match row.cell(*field) {
        None => String::new(),
        Some(Datum::Integer(number)) => number.to_string(),
        Some(Datum::Number(number)) => number.to_string(),
        Some(Datum::Text(text)) => text.trim().to_lowercase(),
        Some(Datum::List(texts)) => texts.join("\n"),
    };
    fields.iter().map(text).collect()
}

/// Returns an iterator of rows as a table has them.
pub(crate) fn boxed<'a, R: Row + 'a>(rows: impl Iterator<Item = R> + 'a) -> BoxedRows<'a, Box<dyn Row + 'a>> {
    Box::new(rows.map(|row| Box::new(row) as Box<dyn Row + 'a>))
}

impl<'a> Table<'a> {
    /// Returns the rows that pass every condition, counted, sorted, cut, and narrowed to the wanted columns. Of the other
    /// rows no more is computed than the conditions and ORDER BY ask for, and without ORDER BY nothing after the last row
    /// of LIMIT.
    pub(crate) fn select(self, query: Query<'a>) -> Result<Selected, QueryError> {
        let Query { select, piped, most_rows } = query;
        let fields = self.checked_fields(select)?;
        let from = self.from;
        let filter = select.filter.as_ref();
        let passing = self.rows.filter_map(move |row| match passes_filter(&*row, filter) {
            Ok(passes) => {
                (passes && piped.as_ref().is_none_or(|piped| piped.agree_with(&*row))).then_some(Ok(row))
            }
            Err(error) => Some(Err(error)),
        });
        let mut rows: BoxedRows<'a, Result<Box<dyn Row + 'a>, QueryError>> = Box::new(passing);
        if is_grouped(select) {
            let groups = groups(rows, select)?;
            rows = Box::new(groups.into_iter().map(|group| Ok(Box::new(group) as Box<dyn Row + 'a>)));
        }
        if !select.order_by.is_empty() {
            let sorted = sorted(rows.collect::<Result<_, _>>()?, &select.order_by);
            rows = Box::new(sorted.into_iter().map(Ok));
        }
        if select.distinct {
            let (mut seen, fields) = (HashSet::new(), fields.clone());
            let is_new = move |row: &Result<Box<dyn Row + 'a>, QueryError>| match row {
                Ok(row) => seen.insert(key(&**row, &fields)),
                Err(_) => true,
            };
            rows = Box::new(rows.filter(is_new));
        }
        let offset = select.offset.map_or(0, |offset| offset.value);
        let end = select.limit.map(|limit| offset.saturating_add(limit.value));
        let most = select.limit.map(|limit| limit.value).or(most_rows).unwrap_or(usize::MAX);
        let (mut shown, mut count) = (Vec::new(), 0);
        while end.is_none_or(|end| count < end) {
            let Some(row) = rows.next().transpose()? else { break };
            if count >= offset && shown.len() < most {
                shown.push(narrowed(&*row, &fields));
            }
            count += 1;
        }
        let left_out = count.saturating_sub(offset) - shown.len();
        Ok(Selected { from, fields, rows: shown, left_out, next: None })
    }

    /// Returns the fields of the result, if the statement asks for nothing that the table does not have.
    fn checked_fields(&self, select: &Select) -> Result<Vec<Field>, QueryError> {
        let grouped = is_grouped(select);
        let mut counts = 0;
        for column in &select.columns {
            match column.value {
                Column::CountRows => counts += 1,
                Column::CountDistinct(field) => {
                    counts += 1;
                    self.check(field)?;
                }
                Column::Field(field) => {
                    let field = Spanned::new(field, column.span);
                    self.check(field)?;
                    if grouped && !select.group_by.iter().any(|group| group.value == field.value) {
                        return Err(QueryError::NotGrouped { field: field.value.name(), at: field.span });
                    }
                }
            }
            if counts > 1 {
                return Err(QueryError::CountedTwice { at: column.span });
            }
        }
        for field in &select.group_by {
            self.check(*field)?;
            if select.columns.is_empty() {
                return Err(QueryError::GroupedStar { field: field.value.name(), at: field.span });
            }
        }
        let conditions = select.filter.iter().flat_map(Filter::conditions);
        for condition in conditions {
            self.check(condition.field)?;
            check_types(condition)?;
        }
        for OrderBy { field, .. } in &select.order_by {
            let counted = grouped && field.value == Field::Count && counts > 0;
            if counted || select.group_by.iter().any(|group| group.value == field.value) {
                continue;
            }
            if grouped {
                return Err(QueryError::NotGrouped { field: field.value.name(), at: field.span });
            }
            self.check(*field)?;
        }
        Ok(match &select.columns[..] {
            [] => self.fields.to_vec(),
            columns => columns.iter().map(|column| column.value.field()).collect(),
        })
    }

    fn check(&self, field: Spanned<Field>) -> Result<(), QueryError> {
        if self.fields.contains(&field.value) {
            return Ok(());
        }
        let names: Vec<&str> = self.fields.iter().map(|field| field.name()).collect();
        Err(QueryError::NoSuchField {
            table: name(self.from),
            field: field.value.name(),
            fields: names.join(", "),
            at: field.span,
        })
    }
}

/// Returns true if rows are counted and not shown.
fn is_grouped(select: &Select) -> bool {
    !select.group_by.is_empty()
        || select.columns.iter().any(|column| !matches!(column.value, Column::Field(_)))
}

/// One row for each group of rows that agree in the fields of GROUP BY, those of most rows first; without GROUP BY one
/// row for all.
fn groups<'a>(
    rows: impl Iterator<Item = Result<Box<dyn Row + 'a>, QueryError>>,
    select: &Select,
) -> Result<Vec<Record>, QueryError> {
    let fields: Vec<Field> = select.group_by.iter().map(|field| field.value).collect();
    let distinct = select.columns.iter().find_map(|column| match column.value {
        Column::CountDistinct(field) => Some(field.value),
        Column::CountRows | Column::Field(_) => None,
    });
    let mut groups: Vec<(Record, usize)> = Vec::new();
    let mut numbers: HashMap<Vec<String>, usize> = HashMap::new();
    let mut seen = HashSet::new();
    if fields.is_empty() {
        numbers.insert(Vec::new(), 0);
        groups.push((Record::default(), 0));
    }
    for row in rows {
        let row = row?;
        let number = *numbers.entry(key(&*row, &fields)).or_insert_with(|| {
            groups.push((narrowed(&*row, &fields), 0));
            groups.len() - 1
        });
        let counts = match distinct {
            None => true,
            Some(field) => row.cell(field).is_some() && seen.insert((number, key(&*row, &[field]))),
        };
        groups[number].1 += usize::from(counts);
    }
    groups.sort_by(|(_, a), (_, b)| b.cmp(a));
    Ok(groups.into_iter().map(|(record, count)| record.with(Field::Count, count)).collect())
}

/// Rows in the order of some fields, the first of them the weightiest.
fn sorted<'a>(rows: Vec<Box<dyn Row + 'a>>, order_by: &[OrderBy]) -> Vec<Box<dyn Row + 'a>> {
    type Keyed<'a> = (Vec<Option<Datum>>, Box<dyn Row + 'a>);
    let keys = |row: Box<dyn Row + 'a>| {
        (order_by.iter().map(|order| row.cell(order.field.value)).collect::<Vec<_>>(), row)
    };
    let mut rows: Vec<Keyed<'a>> = rows.into_iter().map(keys).collect();
    rows.sort_by(|(a, _), (b, _)| {
        let mut orders = a.iter().zip(b).zip(order_by).map(|((a, b), order)| {
            order_cells(a.as_ref(), b.as_ref(), order.direction == Some(Direction::Descending))
        });
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The record with some fields of a row.
fn narrowed(row: &dyn Row, fields: &[Field]) -> Record {
    let cells = fields.iter().filter_map(|field| Some((*field, row.cell(*field)?)));
    cells.fold(Record::default(), |record, (field, cell)| record.with(field, cell))
}

/// Returns what a table is called in messages.
fn name(table: ast::Table) -> &'static str {
    match table {
        ast::Table::Edges => "edges",
        ast::Table::Features => "features",
        ast::Table::Evidence => "evidence rows",
        ast::Table::Entities => "entities",
    }
}

/// Numbers by value, texts by their characters; nulls last in both directions.
fn order_cells(a: Option<&Datum>, b: Option<&Datum>, descending: bool) -> Ordering {
    let by_value = match (numeric(a), numeric(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => texts(a).cmp(texts(b)),
    };
    let by_value = if descending { by_value.reverse() } else { by_value };
    a.is_none().cmp(&b.is_none()).then(by_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table<'a>() -> Table<'a> {
        let row = |layer: usize, target: &str| {
            Record::default().with(Field::Layer, layer).with(Field::Target, target)
        };
        let rows = vec![row(3, "Paris"), row(1, " paris"), row(2, "London")];
        Table {
            from: ast::Table::Edges,
            fields: &[Field::Layer, Field::Target],
            rows: boxed(rows.into_iter()),
        }
    }

    fn select(statement: &str) -> Result<Vec<Record>, QueryError> {
        let ast::Statement::Select(select) = larql_lql::parse_statement(statement).unwrap() else { panic!() };
        let query = Query { select: &select, piped: None, most_rows: None };
        table().select(query).map(|selected| selected.rows)
    }

    #[test]
    fn conditions_order_and_fields_work_together() {
        let rows =
            select("SELECT layer FROM EDGES WHERE target = 'PARIS' AND layer >= 1 ORDER BY layer").unwrap();
        let layer = |layer: usize| Record::default().with(Field::Layer, layer);
        assert_eq!(rows, [layer(1), layer(3)]);
        let rows = select("SELECT target FROM EDGES WHERE layer IN (2, 9)").unwrap();
        assert_eq!(rows, [Record::default().with(Field::Target, "London")]);
    }

    #[test]
    fn what_a_table_lacks_and_what_cannot_be_compared_is_named() {
        let error = select("SELECT count FROM EDGES").unwrap_err().to_string();
        assert_eq!(error, "edges have no field count; they have layer, target");
        let error = |text: &str| select(text).unwrap_err().to_string();
        assert_eq!(
            error("SELECT * FROM EDGES WHERE target > 3"),
            "target is a text, which cannot be compared this way"
        );
        for value in ["= 'abc'", "!= abc", "IN (1, 'abc')", "< abc"] {
            let text = format!("SELECT * FROM EDGES WHERE target = 'x' AND layer {value}");
            assert_eq!(error(&text), "layer is a number, and the value a text", "{text}");
        }
        assert_eq!(
            error("SELECT * FROM EDGES WHERE layer LIKE '1%'"),
            "layer is a number, which LIKE does not compare"
        );
    }

    #[test]
    fn or_and_parentheses() {
        let layers = |filter: &str| -> Vec<Option<Datum>> {
            let rows = select(&format!("SELECT layer FROM EDGES WHERE {filter} ORDER BY layer")).unwrap();
            rows.iter().map(|row| row.get(Field::Layer).cloned()).collect()
        };
        let numbers = |numbers: &[usize]| numbers.iter().map(|n| Some(Datum::from(*n))).collect::<Vec<_>>();
        assert_eq!(layers("layer = 1 OR layer = 3"), numbers(&[1, 3]));
        assert_eq!(layers("target = paris AND layer = 1 OR layer = 2"), numbers(&[1, 2]));
        assert_eq!(layers("target = paris AND (layer = 1 OR layer = 2)"), numbers(&[1]));
        assert_eq!(layers("(target = london)"), numbers(&[2]));
    }

    #[test]
    fn counts_by_group_most_first() {
        let row = |target: &str, count: usize| {
            Record::default().with(Field::Target, target).with(Field::Count, count)
        };
        let of_all = |count: usize| Record::default().with(Field::Count, count);
        // Texts that differ in case and blanks are one.
        let rows = select("SELECT target, COUNT(*) FROM EDGES GROUP BY target").unwrap();
        assert_eq!(rows, [row("Paris", 2), row("London", 1)]);
        let rows = select("SELECT target, COUNT(*) FROM EDGES GROUP BY target ORDER BY count").unwrap();
        assert_eq!(rows, [row("London", 1), row("Paris", 2)]);
        assert_eq!(select("SELECT COUNT(*) FROM EDGES").unwrap(), [of_all(3)]);
        assert_eq!(select("SELECT COUNT(*) FROM EDGES WHERE layer > 7").unwrap(), [of_all(0)]);
        assert_eq!(select("SELECT COUNT(DISTINCT target) FROM EDGES").unwrap(), [of_all(2)]);
        let error = |text: &str| select(text).unwrap_err().to_string();
        assert_eq!(
            error("SELECT layer, COUNT(*) FROM EDGES GROUP BY target"),
            "layer has many values in a group: count it, or add it to GROUP BY"
        );
        assert_eq!(
            error("SELECT * FROM EDGES GROUP BY target"),
            "expected columns, found * beside GROUP BY: for instance SELECT target, COUNT(*)"
        );
    }

    #[test]
    fn each_row_once_some_passed_over() {
        let target = |target: &str| Record::default().with(Field::Target, target);
        assert_eq!(select("SELECT DISTINCT target FROM EDGES").unwrap(), [target("Paris"), target("London")]);
        let text = "SELECT target FROM EDGES ORDER BY layer DESC LIMIT 1 OFFSET 1";
        assert_eq!(select(text).unwrap(), [target("London")]);
        assert!(select("SELECT target FROM EDGES OFFSET 3").unwrap().is_empty());
    }

    #[test]
    fn several_fields_order_one_after_another() {
        let rows = select("SELECT layer FROM EDGES ORDER BY target DESC, layer DESC").unwrap();
        let layers: Vec<_> = rows.iter().filter_map(|row| row.get(Field::Layer).cloned()).collect();
        assert_eq!(layers, [3, 2, 1].map(Datum::from));
    }

    #[test]
    fn rows_beyond_those_wanted_are_counted() {
        let parsed = |text| match larql_lql::parse_statement(text).unwrap() {
            ast::Statement::Select(select) => select,
            other => panic!("{other:?}"),
        };
        for (text, most_rows, shown, left_out) in [
            ("SELECT * FROM EDGES", Some(2), 2, 1),
            ("SELECT * FROM EDGES", None, 3, 0),
            ("SELECT * FROM EDGES ORDER BY layer", Some(1), 1, 2),
            ("SELECT * FROM EDGES LIMIT 3", Some(1), 3, 0),
            ("SELECT * FROM EDGES OFFSET 2", Some(1), 1, 0),
            ("SELECT DISTINCT target FROM EDGES", Some(1), 1, 1),
        ] {
            let select = parsed(text);
            let selected = table().select(Query { select: &select, piped: None, most_rows }).unwrap();
            assert_eq!((selected.rows.len(), selected.left_out), (shown, left_out), "{text}");
        }
    }

    #[test]
    fn piped_rows_agree_in_every_name_that_both_have() {
        let fields = [Field::Layer, Field::Target];
        let piped = [Record::default().with(Field::Target, "PARIS ").with(Field::Count, 4_usize)];
        let piped = PipedRows::new(&piped, &fields).unwrap();
        let ast::Statement::Select(select) = larql_lql::parse_statement("SELECT layer FROM EDGES").unwrap()
        else {
            panic!()
        };
        let query = Query { select: &select, piped: Some(piped), most_rows: None };
        let rows = table().select(query).unwrap().rows;
        let layers: Vec<_> = rows.iter().filter_map(|row| row.get(Field::Layer).cloned()).collect();
        assert_eq!(layers, [3, 1].map(Datum::from));
        let others = [Record::default().with(Field::Entity, "France")];
        assert!(PipedRows::new(&others, &fields).is_none());
    }

    #[test]
    fn rows_after_the_last_one_shown_are_not_asked() {
        /// A row that answers for its layer alone.
        struct Sparse(usize);
        impl Row for Sparse {
            fn cell(&self, field: Field) -> Option<Datum> {
                assert!(field == Field::Layer || self.0 == 1, "{field:?} of row {}", self.0);
                Some(self.0.into())
            }
        }
        let ast::Statement::Select(select) =
            larql_lql::parse_statement("SELECT * FROM EDGES WHERE layer = 1 LIMIT 1").unwrap()
        else {
            panic!()
        };
        let rows = boxed((0..).map(|row| {
            assert!(row < 3);
            Sparse(row)
        }));
        let table = Table { from: ast::Table::Edges, fields: &[Field::Layer, Field::Target], rows };
        let query = Query { select: &select, piped: None, most_rows: None };
        assert_eq!(table.select(query).unwrap().rows.len(), 1);
    }
}
