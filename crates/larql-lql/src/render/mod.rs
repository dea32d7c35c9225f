//! Rendering of results and errors: one function for all results, in six formats.

mod compiled;
mod described;
mod diagnostic;
mod edited;
mod graph;
mod graph_page;
mod grid;
mod html;
mod inferred;
mod listed;
mod opened;
mod selected;
mod shapes;
mod stats;
mod table;
mod text;
mod trace_page;
mod traced;
mod upkeep;
mod walked;

use std::str::FromStr;

use crate::output::{Message, Output, Several};
pub use diagnostic::{diagnostic, report};
pub use graph::{GRAPH_FILES, graph_file};
use grid::{Cell, Grid};
pub use table::{Column, Table, Values, tables as typed_tables};
use text::Page;
pub use text::duration;
pub use trace_page::trace_page;

/// The format of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines and tables for people.
    #[default]
    Table,
    /// Every column, in a box.
    Box,
    /// Every column, as a table of Markdown.
    Markdown,
    /// A line for each value, and an empty one between rows.
    Line,
    /// One object for each result.
    Json,
    /// A header and rows, with figures in full precision.
    Csv,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] = [Self::Table, Self::Box, Self::Markdown, Self::Line, Self::Json, Self::Csv];

    /// Rows of a listing that are shown unless LIMIT says otherwise; all if `None`.
    pub fn most_rows(self) -> Option<usize> {
        match self {
            Self::Table | Self::Box => Some(20),
            Self::Markdown | Self::Line | Self::Json | Self::Csv => None,
        }
    }

    /// The name that the command line and `.mode` take.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Box => "box",
            Self::Markdown => "markdown",
            Self::Line => "line",
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

/// There is no format of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no format `{0}`; the formats are table, box, markdown, line, json and csv")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// For whom results are rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Columns of the terminal; tables are cut to fit it. Without it nothing is cut.
    pub width: Option<usize>,
    /// Use ANSI colour in tables.
    pub color: bool,
    /// Break JSON into indented lines.
    pub pretty: bool,
    /// The number of the statement in its text, which CSV has in a column of its own; none if it is the only one.
    pub statement: Option<usize>,
    /// Edits are saved when the statements end, so that nothing needs to say how to save them.
    pub edits_are_saved: bool,
}

/// The result as text, each line ended.
pub fn render(output: &Output, format: Format, options: &RenderOptions) -> String {
    if let (Output::Several(several), Format::Table) = (output, format) {
        let texts: Vec<String> =
            several.outputs.iter().map(|output| render(output, format, options)).collect();
        return texts.join("\n");
    }
    let mut text = match format {
        Format::Table => view(output).lines(&Page::new(options)),
        Format::Json if options.pretty => serde_json::to_string_pretty(output).unwrap_or_default(),
        Format::Json => serde_json::to_string(output).unwrap_or_default(),
        Format::Csv => tables(output, options.statement).iter().map(Grid::to_csv).collect(),
        Format::Box => tables(output, None).iter().map(Grid::to_box).collect(),
        Format::Markdown => tables(output, None).iter().map(Grid::to_markdown).collect(),
        Format::Line => tables(output, None).iter().map(Grid::to_line).collect(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The tables of a result: one, or those of a pipe's answers, of which neighbours with the same columns are one.
fn tables(output: &Output, statement: Option<usize>) -> Vec<Grid> {
    let Output::Several(several) = output else {
        let grid = view(output).grid();
        return vec![match statement {
            Some(number) => grid.labelled("statement", &Cell::Integer(number)),
            None => grid,
        }];
    };
    let mut all: Vec<Grid> = Vec::new();
    for table in several.outputs.iter().flat_map(|output| tables(output, statement)) {
        match all.last_mut().filter(|last| last.has_columns_of(&table)) {
            Some(last) => last.append(table),
            None => all.push(table),
        }
    }
    all
}

/// Rendering of one kind of result.
trait View {
    /// All of its rows and columns.
    fn grid(&self) -> Grid;

    /// For people.
    fn lines(&self, page: &Page) -> String {
        self.grid().to_table(page)
    }
}

fn view(output: &Output) -> &dyn View {
    match output {
        Output::Several(several) => several,
        Output::Message(message) => message,
        Output::Use(opened) => opened,
        Output::Extract(extracted) => extracted,
        Output::Walk(walked) => walked,
        Output::ExplainWalk(explained) => explained,
        Output::Describe(described) => described,
        Output::Select(selected) => selected,
        Output::Infer(inferred) => inferred,
        Output::ExplainInfer(explained) => explained,
        Output::AttributionGraph(graph) => graph,
        Output::Trace(traced) => traced,
        Output::TraceDifference(difference) => difference,
        Output::Relations(relations) => relations,
        Output::Layers(layers) => layers,
        Output::Features(features) => features,
        Output::Entities(entities) => entities,
        Output::Models(models) => models,
        Output::Patches(patches) => patches,
        Output::Patch(changed) => changed,
        Output::Changed(changed) => changed,
        Output::Diff(differences) => differences,
        Output::Rebalance(rebalanced) => rebalanced,
        Output::CompactStatus(status) => status,
        Output::Solved(solved) => solved,
        Output::Compile(compiled) => compiled,
        Output::Stats(stats) => stats,
    }
}

/// Only ever rendered answer by answer.
impl View for Several {
    fn grid(&self) -> Grid {
        Grid::new(&[])
    }
}

impl View for Message {
    fn grid(&self) -> Grid {
        Grid::new(&["message"]).row([(&*self.text).into()])
    }

    fn lines(&self, page: &Page) -> String {
        match &self.next {
            Some(next) => format!("{}\n{}", self.text, page.dim(next)),
            None => self.text.clone(),
        }
    }
}
