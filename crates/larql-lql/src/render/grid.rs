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
    /// A number that may be negative: the layer of an embedding, a change of size.
    Signed(i64),
    /// A number in full precision.
    Figure(f64),
    /// A share of one.
    Share(f64),
    Bytes(u64),
    Flag(bool),
    /// A text that is shown as it stands.
    Shown(String),
}

/// Rows and columns.
pub(super) struct Grid {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    /// Text in place of a table without rows.
    empty: &'static str,
}

/// Narrower than this no column of text is cut.
const NARROWEST: usize = 8;
/// Columns that a table has at least, however narrow the page.
const FEWEST: usize = 2;

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

    /// The same with a column before the others, which says the same in each row.
    pub(super) fn labelled(mut self, name: &'static str, value: &Cell) -> Self {
        self.columns.insert(0, name);
        self.rows.iter_mut().for_each(|row| row.insert(0, value.clone()));
        self
    }

    /// Returns true if both have the same columns.
    pub(super) fn has_columns_of(&self, other: &Self) -> bool {
        self.columns == other.columns
    }

    /// Adds the rows of a grid with the same columns.
    pub(super) fn append(&mut self, mut below: Self) {
        self.rows.append(&mut below.rows);
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

    /// The columns with the values of each row.
    pub(super) fn columns(self) -> impl Iterator<Item = (&'static str, Vec<Cell>)> {
        let mut rows: Vec<_> = self.rows.into_iter().map(Vec::into_iter).collect();
        let columns = self.columns.into_iter();
        columns.map(move |name| (name, rows.iter_mut().filter_map(Iterator::next).collect()))
    }

    /// Names of the columns, and the values of each row in full precision.
    pub(super) fn texts(&self) -> (&[&'static str], Vec<Vec<String>>) {
        (&self.columns, self.rows.iter().map(|row| row.iter().map(Cell::raw).collect()).collect())
    }

    /// A table no wider than the page: texts are cut, and then the last columns left out, which a line below it names.
    /// Columns without any value are left out too.
    pub(super) fn to_table(&self, page: &Page) -> String {
        if self.rows.is_empty() {
            return self.empty.to_owned();
        }
        let mut columns: Vec<Column> =
            (0..self.columns.len()).filter_map(|index| self.column(index)).collect();
        let left_out = page.width.map_or_else(Vec::new, |width| narrow(&mut columns, width));
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
        let note = (!left_out.is_empty()).then(|| {
            page.dim(&format!(
                "(no room for {}; --format json and csv have all columns)",
                left_out.join(", ")
            ))
        });
        lines.chain(note).collect::<Vec<_>>().join("\n")
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
    /// The width below which nothing is cut.
    fn least(&self) -> usize {
        if self.numeric { self.width } else { self.width.min(NARROWEST.max(self.name.width())) }
    }

    fn alignment(&self) -> CellAlignment {
        if self.numeric { CellAlignment::Right } else { CellAlignment::Left }
    }
}

/// Makes columns fit in `width`, a blank at each side of each: leaves out the last ones if the others fill the page
/// even with their texts cut, then cuts the widest texts. Returns the names of those left out.
fn narrow(columns: &mut Vec<Column>, width: usize) -> Vec<&'static str> {
    let least = |columns: &[Column]| columns.iter().map(|column| column.least() + 2).sum::<usize>();
    let mut left_out = Vec::new();
    while least(columns) > width && columns.len() > FEWEST {
        left_out.extend(columns.pop().map(|column| column.name));
    }
    left_out.reverse();
    let available = width.saturating_sub(2 * columns.len());
    let mut excess = columns.iter().map(|column| column.width).sum::<usize>().saturating_sub(available);
    while excess > 0 {
        let cuttable = columns.iter_mut().filter(|column| column.width > column.least());
        let Some(widest) = cuttable.max_by_key(|column| column.width) else { break };
        widest.width -= 1;
        excess -= 1;
    }
    left_out
}

/// Number of decimals that distinguish the scores of one column.
pub(super) fn decimals(scores: impl Iterator<Item = f32>) -> usize {
    match scores.fold(0.0, |most: f32, score| most.max(score.abs())) {
        most if most >= 100.0 => 1,
        most if most >= 1.0 => 2,
        _ => 4,
    }
}

impl Cell {
    fn is_numeric(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Tokens(_) | Self::Flag(_) | Self::Shown(_))
    }

    /// For people.
    fn shown(&self, decimals: usize) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => visible(text),
            Self::Tokens(tokens) => tokens.iter().map(|token| visible(token)).collect::<Vec<_>>().join(", "),
            Self::Integer(integer) => integer.to_string(),
            Self::Count(count) => grouped(*count),
            Self::Score(score) => number(*score, decimals),
            Self::Signed(integer) => integer.to_string(),
            Self::Figure(figure) => figure.to_string(),
            Self::Share(share) => percent(*share),
            Self::Shown(text) => text.clone(),
            Self::Bytes(bytes) => size(*bytes),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        }
    }

    /// For programs: nothing rounded, nothing cut.
    pub(super) fn raw(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => text.clone(),
            Self::Tokens(tokens) => serde_json::to_string(tokens).unwrap_or_default(),
            Self::Integer(number) | Self::Count(number) => number.to_string(),
            Self::Score(score) => score.to_string(),
            Self::Signed(integer) => integer.to_string(),
            Self::Figure(figure) => figure.to_string(),
            Self::Share(share) => share.to_string(),
            Self::Bytes(bytes) => bytes.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Shown(text) => text.clone(),
        }
    }
}

/// A score with so many decimals; with an exponent where they would make nothing of it.
pub(super) fn number(score: f32, decimals: usize) -> String {
    let vanishes = score != 0.0 && f64::from(score.abs()) < 0.5 * 0.1_f64.powi(decimals as i32);
    if vanishes { format!("{score:.1e}") } else { format!("{score:.decimals$}") }
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
        let page = |width| Page { width, color: false, ..Page::default() };
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
        assert_snapshot!(sample().to_table(&page(Some(20))), @"
         layer    gate
        ───────────────
             7  1436.9
            26    -3.0
        (no room for tokens; --format json and csv have all columns)
        ");
        let widest = sample().to_table(&page(Some(40))).lines().map(UnicodeWidthStr::width).max();
        assert_eq!(widest, Some(40));
    }

    #[test]
    fn csv_keeps_everything() {
        assert_snapshot!(sample().to_csv(), @r#"
        layer,gate,none,tokens
        7,1436.92,,"[""日本"","" Japan"","" "",""Nippon"",""JP""]"
        26,-3,,a long token that says much
        "#);
    }

    #[test]
    fn no_table_is_wider_than_the_page() {
        for width in 20..60 {
            let table = sample().to_table(&Page { width: Some(width), color: false, ..Page::default() });
            let lines = table.lines().filter(|line| !line.starts_with('('));
            assert!(lines.map(UnicodeWidthStr::width).max() <= Some(width), "{width}:\n{table}");
        }
    }

    #[test]
    fn small_figures_are_not_nothing() {
        let shown = [(0.0, 1), (-0.0004, 1), (0.06, 1), (12.0, 2), (-0.00001, 4)].map(|(n, d)| number(n, d));
        assert_eq!(shown, ["0.0", "-4.0e-4", "0.1", "12.00", "-1.0e-5"]);
    }

    #[test]
    fn colour_only_when_asked() {
        assert!(!sample().to_table(&Page::default()).contains('\u{1b}'));
        assert!(
            sample().to_table(&Page { width: None, color: true, ..Page::default() }).contains("\u{1b}[1m")
        );
    }
}
