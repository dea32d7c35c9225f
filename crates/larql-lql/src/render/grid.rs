//! Rows and columns, as a table for people and as CSV.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use unicode_width::UnicodeWidthStr;

use super::text::{Page, cut, grouped, percent, size, visible};
use crate::output::Datum;

/// A value in a grid.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Empty,
    Text(String),
    Tokens(Vec<String>),
    /// A number that names something: a layer.
    Integer(usize),
    /// A number of things.
    Count(usize),
    Score(f32),
    /// A share of one.
    Share(f64),
    Bytes(u64),
    Flag(bool),
}

/// Rows and columns.
pub(super) struct Grid {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    /// What people read where there are no rows.
    empty: &'static str,
}

/// Narrower than this no column of text is cut.
const NARROWEST: usize = 8;

impl Grid {
    pub(super) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), empty: "(nothing found)" }
    }

    pub(super) fn or_else_say(mut self, empty: &'static str) -> Self {
        self.empty = empty;
        self
    }

    pub(super) fn row<const N: usize>(mut self, cells: [Cell; N]) -> Self {
        self.push(cells.into());
        self
    }

    pub(super) fn rows(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        rows.into_iter().for_each(|row| self.push(row));
        self
    }

    fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    pub(super) fn to_csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let rows = self.rows.iter().map(|row| row.iter().map(Cell::raw).collect::<Vec<_>>());
        let header = self.columns.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(header).chain(rows) {
            writer.write_record(row).expect("writing to memory succeeds, and all rows have the same length");
        }
        let bytes = writer.into_inner().expect("writing to memory succeeds");
        String::from_utf8(bytes).expect("CSV of text is text")
    }

    /// Names of the columns, and the values of each row in full precision.
    pub(super) fn texts(&self) -> (&[&'static str], Vec<Vec<String>>) {
        (&self.columns, self.rows.iter().map(|row| row.iter().map(Cell::raw).collect()).collect())
    }

    /// A table no wider than the page, as long as its numbers fit. Columns without any value are left out.
    pub(super) fn to_table(&self, page: &Page) -> String {
        if self.rows.is_empty() {
            return self.empty.to_owned();
        }
        let mut columns: Vec<Column> =
            (0..self.columns.len()).filter_map(|index| self.column(index)).collect();
        if let Some(width) = page.width {
            narrow(&mut columns, width);
        }
        let mut table = Table::new();
        table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
        let head = |column: &Column| comfy_table::Cell::new(column.name).set_alignment(column.alignment());
        table.set_header(columns.iter().map(head));
        for row in 0..self.rows.len() {
            table.add_row(columns.iter().map(|column| {
                let text = cut(&column.texts[row], column.width);
                comfy_table::Cell::new(text).set_alignment(column.alignment())
            }));
        }
        let lines = table.lines().enumerate().map(|(index, line)| match index {
            0 => page.bold(line.trim_end()),
            _ => line.trim_end().to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn column(&self, index: usize) -> Option<Column> {
        let cells: Vec<&Cell> = self.rows.iter().map(|row| &row[index]).collect();
        if cells.iter().all(|cell| **cell == Cell::Empty) {
            return None;
        }
        let decimals = decimals(cells.iter().filter_map(|cell| match cell {
            Cell::Score(score) => Some(*score),
            _ => None,
        }));
        let texts: Vec<String> = cells.iter().map(|cell| cell.shown(decimals)).collect();
        let name = self.columns[index];
        let width = texts.iter().map(|text| text.width()).chain([name.width()]).max().unwrap_or(0);
        Some(Column { name, numeric: cells.iter().all(|cell| cell.is_numeric()), texts, width })
    }
}

/// A column as it will be shown.
struct Column {
    name: &'static str,
    numeric: bool,
    texts: Vec<String>,
    width: usize,
}

impl Column {
    fn alignment(&self) -> CellAlignment {
        if self.numeric { CellAlignment::Right } else { CellAlignment::Left }
    }
}

/// Takes columns off the widest texts until all fit in `width`, a blank at each side of each.
fn narrow(columns: &mut [Column], width: usize) {
    let available = width.saturating_sub(2 * columns.len());
    let mut excess = columns.iter().map(|column| column.width).sum::<usize>().saturating_sub(available);
    while excess > 0 {
        let cuttable = columns.iter_mut().filter(|column| !column.numeric);
        let Some(widest) = cuttable.max_by_key(|column| column.width) else { return };
        if widest.width <= NARROWEST.max(widest.name.width()) {
            return;
        }
        widest.width -= 1;
        excess -= 1;
    }
}

/// How many decimals tell the scores of one column apart.
pub(super) fn decimals(scores: impl Iterator<Item = f32>) -> usize {
    match scores.fold(0.0, |most: f32, score| most.max(score.abs())) {
        most if most >= 100.0 => 1,
        most if most >= 1.0 => 2,
        _ => 4,
    }
}

impl Cell {
    fn is_numeric(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Tokens(_) | Self::Flag(_))
    }

    /// For people.
    fn shown(&self, decimals: usize) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => visible(text),
            Self::Tokens(tokens) => tokens.iter().map(|token| visible(token)).collect::<Vec<_>>().join(", "),
            Self::Integer(integer) => integer.to_string(),
            Self::Count(count) => grouped(*count),
            Self::Score(score) => format!("{score:.decimals$}"),
            Self::Share(share) => percent(*share),
            Self::Bytes(bytes) => size(*bytes),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        }
    }

    /// For programs: nothing rounded, nothing cut.
    fn raw(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => text.clone(),
            Self::Tokens(tokens) => tokens.join("|"),
            Self::Integer(number) | Self::Count(number) => number.to_string(),
            Self::Score(score) => score.to_string(),
            Self::Share(share) => share.to_string(),
            Self::Bytes(bytes) => bytes.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[String]> for Cell {
    fn from(tokens: &[String]) -> Self {
        if tokens.is_empty() { Self::Empty } else { Self::Tokens(tokens.to_vec()) }
    }
}

impl From<f32> for Cell {
    fn from(score: f32) -> Self {
        Self::Score(score)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

impl From<&Datum> for Cell {
    fn from(datum: &Datum) -> Self {
        match datum {
            Datum::Integer(integer) => Self::Integer(*integer),
            Datum::Number(number) => Self::Score(*number),
            Datum::Text(text) => Self::Text(text.clone()),
            Datum::List(list) => Self::Tokens(list.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn sample() -> Grid {
        let tokens = ["日本", " Japan", " ", "Nippon", "JP"].map(String::from);
        Grid::new(&["layer", "gate", "none", "tokens"])
            .row([Cell::Integer(7), Cell::Score(1436.92), Cell::Empty, tokens[..].into()])
            .row([
                Cell::Integer(26),
                Cell::Score(-3.0),
                Cell::Empty,
                Cell::Text("a long token that says much".into()),
            ])
    }

    #[test]
    fn fits_the_page() {
        let page = |width| Page { width, color: false };
        assert_snapshot!(sample().to_table(&page(None)), @"
         layer    gate  tokens
        ────────────────────────────────────────────
             7  1436.9  日本, Japan, ␣, Nippon, JP
            26    -3.0  a long token that says much
        ");
        assert_snapshot!(sample().to_table(&page(Some(40))), @"
         layer    gate  tokens
        ────────────────────────────────────────
             7  1436.9  日本, Japan, ␣, Nippon…
            26    -3.0  a long token that says…
        ");
        assert_snapshot!(sample().to_table(&page(Some(5))), @"
         layer    gate  tokens
        ─────────────────────────
             7  1436.9  日本, J…
            26    -3.0  a long …
        ");
        let widest = sample().to_table(&page(Some(40))).lines().map(UnicodeWidthStr::width).max();
        assert_eq!(widest, Some(40));
    }

    #[test]
    fn csv_keeps_everything() {
        assert_snapshot!(sample().to_csv(), @"
        layer,gate,none,tokens
        7,1436.92,,日本| Japan| |Nippon|JP
        26,-3,,a long token that says much
        ");
    }

    #[test]
    fn colour_only_when_asked() {
        assert!(!sample().to_table(&Page::default()).contains('\u{1b}'));
        assert!(sample().to_table(&Page { width: None, color: true }).contains("\u{1b}[1m"));
    }
}
