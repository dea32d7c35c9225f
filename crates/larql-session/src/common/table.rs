//! Tables: what conditions test, ORDER BY sorts and SELECT's fields pick from.

use std::cmp::Ordering;

use larql_lql::ast::{self, Comparison, Condition, Direction, Field, OrderBy, Spanned, Test, Value};
use larql_lql::output::{Datum, FeatureRow, Record, Selected};

use crate::QueryError;

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
            Field::Confidence => self.confidence.map(Datum::from),
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
    pub(crate) rows: Box<dyn Iterator<Item = Box<dyn Row + 'a>> + 'a>,
}

/// A question to a table.
pub(crate) struct Query<'a> {
    /// The fields to show; all if empty.
    pub(crate) fields: &'a [Spanned<Field>],
    pub(crate) conditions: &'a [Condition],
    pub(crate) order_by: Option<OrderBy>,
    pub(crate) limit: usize,
}

/// Returns an iterator of rows as a table has them.
pub(crate) fn boxed<'a, R: Row + 'a>(
    rows: impl Iterator<Item = R> + 'a,
) -> Box<dyn Iterator<Item = Box<dyn Row + 'a>> + 'a> {
    Box::new(rows.map(|row| Box::new(row) as Box<dyn Row + 'a>))
}

impl Table<'_> {
    /// Returns the rows that pass every condition, sorted, cut, and narrowed to the wanted fields. Of the other rows no more
    /// is computed than the conditions and ORDER BY ask for, and without ORDER BY nothing after the last row that is shown.
    pub(crate) fn select(self, query: &Query<'_>) -> Result<Selected, QueryError> {
        let named = query.fields.iter().chain(query.conditions.iter().map(|condition| &condition.field));
        for field in named.chain(query.order_by.iter().map(|order| &order.field)) {
            self.check(*field)?;
        }
        let mut kept = Vec::new();
        for row in self.rows {
            if query.order_by.is_none() && kept.len() >= query.limit {
                break;
            }
            if passes(&*row, query.conditions)? {
                let key = query.order_by.and_then(|order| row.cell(order.field.value));
                kept.push((key, row));
            }
        }
        if let Some(order) = query.order_by {
            let descending = order.direction == Some(Direction::Descending);
            kept.sort_by(|(a, _), (b, _)| order_cells(a.as_ref(), b.as_ref(), descending));
        }
        kept.truncate(query.limit);
        let fields: Vec<Field> = match query.fields {
            [] => self.fields.to_vec(),
            fields => fields.iter().map(|field| field.value).collect(),
        };
        let record = |row: &dyn Row| {
            let cells = fields.iter().filter_map(|field| Some((*field, row.cell(*field)?)));
            cells.fold(Record::default(), |record, (field, cell)| record.with(field, cell))
        };
        let rows = kept.iter().map(|(_, row)| record(&**row)).collect();
        Ok(Selected { from: self.from, fields, rows })
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

/// Returns what a table is called in messages.
fn name(table: ast::Table) -> &'static str {
    match table {
        ast::Table::Edges => "edges",
        ast::Table::Features => "features",
        ast::Table::Entities => "entities",
    }
}

/// Returns true if a row passes every condition.
pub(crate) fn passes(row: &dyn Row, conditions: &[Condition]) -> Result<bool, QueryError> {
    for condition in conditions {
        let cell = row.cell(condition.field.value);
        let cell = cell.as_ref();
        let pass = match &condition.test {
            Test::In(values) => values.iter().any(|value| equals(cell, value)),
            Test::Compare(Comparison::Equal, value) => equals(cell, value),
            Test::Compare(Comparison::NotEqual, value) => cell.is_some() && !equals(cell, value),
            Test::Compare(Comparison::Like, value) => like_any(cell, value),
            Test::Compare(comparison, value) => match (cell, numeric(cell), number_of(value)) {
                (None, ..) => false,
                (_, Some(found), Some(wanted)) => match comparison {
                    Comparison::Less => found < wanted,
                    Comparison::Greater => found > wanted,
                    Comparison::LessEqual => found <= wanted,
                    _ => found >= wanted,
                },
                (_, found, _) => {
                    return Err(QueryError::NotComparable {
                        field: condition.field.value.name(),
                        found: if found.is_some() { "a number and the value a text" } else { "a text" },
                        at: value.span,
                    });
                }
            },
        };
        if !pass {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The texts of a cell; a list passes if one of its texts does.
fn texts(cell: Option<&Datum>) -> &[String] {
    match cell {
        Some(Datum::Text(text)) => std::slice::from_ref(text),
        Some(Datum::List(texts)) => texts,
        Some(Datum::Integer(_) | Datum::Number(_)) | None => &[],
    }
}

fn numeric(cell: Option<&Datum>) -> Option<f64> {
    match cell? {
        Datum::Integer(number) => Some(*number as f64),
        Datum::Number(number) => Some((*number).into()),
        Datum::Text(_) | Datum::List(_) => None,
    }
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::Text(_) => None,
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        number => number.to_string(),
    }
}

/// Numbers by value; texts without regard to case and surrounding white space.
fn equals(cell: Option<&Datum>, value: &Value) -> bool {
    match (numeric(cell), number_of(value)) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => {
            let wanted = text_of(value).trim().to_lowercase();
            texts(cell).iter().any(|text| text.trim().to_lowercase() == wanted)
        }
    }
}

fn like_any(cell: Option<&Datum>, value: &Value) -> bool {
    let pattern: Vec<char> = text_of(value).to_lowercase().chars().collect();
    texts(cell).iter().any(|text| {
        let text: Vec<char> = text.trim().to_lowercase().chars().collect();
        like(&text, &pattern)
    })
}

/// SQL's LIKE: `%` is any text, `_` any one character.
fn like(text: &[char], pattern: &[char]) -> bool {
    let (mut t, mut p) = (0, 0);
    // Where to go on if the text after the last `%` does not match: one character further.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('%') => {
                retry = Some((t, p));
                p += 1;
            }
            Some(c) if *c == '_' || *c == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match &mut retry {
                Some((start, percent)) => {
                    *start += 1;
                    (t, p) = (*start, *percent + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
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

    fn is_like(text: &str, pattern: &str) -> bool {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        like(&chars(text), &chars(pattern))
    }

    #[test]
    fn like_knows_its_two_signs() {
        for (text, pattern) in
            [("paris", "par%"), ("paris", "%is"), ("paris", "p_r_s"), ("", "%"), ("aXbXc", "a%X%c")]
        {
            assert!(is_like(text, pattern), "{text} LIKE {pattern}");
        }
        for (text, pattern) in [("paris", "par"), ("paris", "_"), ("paris", "%z%"), ("", "_"), ("ab", "%ba")]
        {
            assert!(!is_like(text, pattern), "{text} LIKE {pattern}");
        }
    }

    fn table() -> Table<'static> {
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
        let query = Query {
            fields: &select.fields,
            conditions: &select.conditions,
            order_by: select.order_by,
            limit: 10,
        };
        table().select(&query).map(|selected| selected.rows)
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
        let error = select("SELECT * FROM EDGES WHERE target > 3").unwrap_err().to_string();
        assert_eq!(error, "target is a text, which cannot be compared this way");
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
        let rows = boxed((0..).map(|row| {
            assert!(row < 3);
            Sparse(row)
        }));
        let table = Table { from: ast::Table::Edges, fields: &[Field::Layer, Field::Target], rows };
        let ast::Statement::Select(select) =
            larql_lql::parse_statement("SELECT * FROM EDGES WHERE layer = 1 LIMIT 1").unwrap()
        else {
            panic!()
        };
        let query = Query { fields: &[], conditions: &select.conditions, order_by: None, limit: 1 };
        assert_eq!(table.select(&query).unwrap().rows.len(), 1);
    }
}
