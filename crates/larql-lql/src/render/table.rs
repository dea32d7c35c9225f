//! Results as typed columns, for programs that take tables.

use super::grid::{Cell, Grid};
use crate::output::Output;

/// Rows of a result as columns of one type each.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name, as in CSV.
    pub name: &'static str,
    /// A value for each row; none where the row has none.
    pub values: Values,
}

/// Values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Names, and values of several types.
    Texts(Vec<Option<String>>),
    /// Lists of tokens, examples or parts.
    Lists(Vec<Option<Vec<String>>>),
    /// Numbers of things, and numbers that name things.
    Integers(Vec<Option<i64>>),
    /// Scores, in the precision in which they are computed.
    Scores(Vec<Option<f32>>),
    /// Shares of one, durations in the unit that the name says.
    Figures(Vec<Option<f64>>),
    /// Yes or no.
    Flags(Vec<Option<bool>>),
}

/// Returns the table of a result: one, or those of a pipe's answers, of which neighbours with the same columns are one. Names
/// of columns and order of rows are those of CSV. Columns without a value have the type of other results' columns of that name.
pub fn tables(output: &Output) -> Vec<Table> {
    super::tables(output, None).into_iter().map(Table::of).collect()
}

impl Table {
    fn of(grid: Grid) -> Table {
        let column = |(name, cells): (&'static str, Vec<Cell>)| Column { name, values: values(name, cells) };
        Table { columns: grid.columns().map(column).collect() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }
}

impl Values {
    /// Number of values, absent ones included.
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(values) => values.len(),
            Self::Lists(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Scores(values) => values.len(),
            Self::Figures(values) => values.len(),
            Self::Flags(values) => values.len(),
        }
    }

    /// Returns true if there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Type of a column.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Texts,
    Lists,
    Integers,
    Scores,
    Figures,
    Flags,
}

impl Kind {
    fn of(cell: &Cell) -> Option<Kind> {
        match cell {
            Cell::Empty => None,
            Cell::Text(_) | Cell::Shown(_) => Some(Kind::Texts),
            Cell::Tokens(_) => Some(Kind::Lists),
            Cell::Integer(_) | Cell::Count(_) | Cell::Bytes(_) | Cell::Signed(_) => Some(Kind::Integers),
            Cell::Score(_) => Some(Kind::Scores),
            Cell::Share(_) | Cell::Figure(_) => Some(Kind::Figures),
            Cell::Flag(_) => Some(Kind::Flags),
        }
    }

    /// Type of a column in which no row has a value.
    fn of_empty(name: &str) -> Kind {
        match name {
            "also" | "tokens" | "examples" | "parts" | "writes" => Kind::Lists,
            "layer" | "layer_max" | "layers" | "feature" | "features" | "count" | "rank" | "token_id"
            | "top1_token_id" | "head" | "position" | "operations" | "bytes" | "id" | "number" => {
                Kind::Integers
            }
            "confidence" | "gate" | "activation" | "contribution" | "score" | "gate_norm" | "distance"
            | "weight" | "prob" | "whole_prob" | "logit" | "attn_logit" | "ffn_logit" | "norm_logit"
            | "gate_cosine" | "influence" => Kind::Scores,
            "probability" | "lens_probability" | "answer_probability" | "labelled" | "latency_ms" => {
                Kind::Figures
            }
            "bundled" | "open" | "saved" | "converged" => Kind::Flags,
            _ => Kind::Texts,
        }
    }
}

fn values(name: &str, cells: Vec<Cell>) -> Values {
    let mut kinds = cells.iter().filter_map(Kind::of);
    let first = kinds.next();
    let kind = match first {
        None => Kind::of_empty(name),
        Some(first) if kinds.all(|other| other == first) => first,
        Some(_) => Kind::Texts,
    };
    let cells = cells.into_iter();
    match kind {
        Kind::Texts => Values::Texts(cells.map(text).collect()),
        Kind::Lists => Values::Lists(
            cells
                .map(|cell| match cell {
                    Cell::Tokens(tokens) => Some(tokens),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Integers => Values::Integers(cells.map(integer).collect()),
        Kind::Scores => Values::Scores(
            cells
                .map(|cell| match cell {
                    Cell::Score(score) => Some(score),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Figures => Values::Figures(
            cells
                .map(|cell| match cell {
                    Cell::Share(figure) | Cell::Figure(figure) => Some(figure),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Flags => Values::Flags(
            cells
                .map(|cell| match cell {
                    Cell::Flag(flag) => Some(flag),
                    _ => None,
                })
                .collect(),
        ),
    }
}

fn text(cell: Cell) -> Option<String> {
    match cell {
        Cell::Empty => None,
        Cell::Text(text) => Some(text),
        other => Some(other.raw()),
    }
}

fn integer(cell: Cell) -> Option<i64> {
    match cell {
        Cell::Integer(number) | Cell::Count(number) => i64::try_from(number).ok(),
        Cell::Bytes(bytes) => i64::try_from(bytes).ok(),
        Cell::Signed(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_type_of_their_values() {
        let grid = Grid::new(&["name", "layer", "gate", "value", "also", "confidence"])
            .row([
                "a".into(),
                Cell::Signed(-1),
                Cell::Score(0.5),
                Cell::Count(2),
                Cell::Tokens(vec!["x".into()]),
                Cell::Empty,
            ])
            .row([Cell::Empty, Cell::Integer(3), Cell::Empty, "two".into(), Cell::Empty, Cell::Empty]);
        let table = Table::of(grid);
        assert_eq!(table.rows(), 2);
        let values: Vec<Values> = table.columns.into_iter().map(|column| column.values).collect();
        let expected = [
            Values::Texts(vec![Some("a".into()), None]),
            Values::Integers(vec![Some(-1), Some(3)]),
            Values::Scores(vec![Some(0.5), None]),
            Values::Texts(vec![Some("2".into()), Some("two".into())]),
            Values::Lists(vec![Some(vec!["x".into()]), None]),
            Values::Scores(vec![None, None]),
        ];
        assert_eq!(values, expected);
    }
}
