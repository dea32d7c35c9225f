//! Statements as data: one file for each family, holding its types, its grammar, its printing and its help.
//!
//! Start at [`Statement`]. `clause` holds what several statements share.

mod clause;
mod compile;
mod describe;
mod diff;
mod edit;
mod extract;
mod filter;
mod infer;
mod patch;
mod print;
mod select;
mod show;
mod span;
mod trace;
mod upkeep;
mod use_;
mod walk;

use std::fmt::{self, Display, Formatter};

use crate::keyword::Keyword;
use crate::parser::{Item, ParseError, Parsed, Parser};
use crate::token::Quote;
use print::separated;

pub use clause::{Comparison, Condition, Detail, Field, LayerRange, Subject, Test, Value};
pub use compile::{CompileModel, CompileVindex, Conflict, ModelFormat, Source};
pub use describe::{Describe, Scope};
pub use diff::Diff;
pub use edit::{Assignment, Delete, EditTable, Insert, InsertMode, NewEdge, Update};
pub use extract::{Component, Extract, Quant};
pub use filter::Filter;
pub use infer::{ExplainInfer, Infer, ShowGraph};
pub use patch::{ApplyPatch, BeginPatch, RemovePatch, SavePatch};
pub use select::{Column, Direction, Nearest, OrderBy, Select, Table};
pub use show::{ShowEntities, ShowFeatures, ShowLayers, ShowRelations, Stats};
pub use span::{Span, Spanned};
pub use trace::{Positions, SaveTrace, Trace, TraceFormat};
pub use upkeep::{Compact, Merge, MergeConflict, Rebalance};
pub use use_::Use;
pub use walk::{ExplainWalk, Walk, WalkLayers, WalkMode};

/// One statement of LQL. `Display` prints it in the canonical form, which parses to an equal statement.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is documented at its type")]
pub enum Statement {
    Extract(Extract),
    CompileVindex(CompileVindex),
    CompileModel(CompileModel),
    Diff(Diff),
    Use(Use),
    Walk(Walk),
    Describe(Describe),
    Select(Select),
    ExplainWalk(ExplainWalk),
    Infer(Infer),
    ExplainInfer(ExplainInfer),
    Insert(Insert),
    Delete(Delete),
    Update(Update),
    Merge(Merge),
    Rebalance(Rebalance),
    Compact(Compact),
    BeginPatch(BeginPatch),
    SavePatch(SavePatch),
    ApplyPatch(ApplyPatch),
    RemovePatch(RemovePatch),
    Undo,
    ShowPatches,
    ShowRelations(ShowRelations),
    ShowLayers(ShowLayers),
    ShowFeatures(ShowFeatures),
    ShowEntities(ShowEntities),
    ShowModels,
    ShowCompactStatus,
    Stats(Stats),
    Trace(Trace),
}

/// Statements joined by `|>`, each taking the rows of the one before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipe {
    /// The statements from left to right; at least one.
    pub stages: Vec<Spanned<Statement>>,
}

/// Help of one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Help {
    /// The keywords that it begins with.
    pub name: &'static str,
    /// Its grammar.
    pub syntax: &'static str,
    /// One statement of the kind, in which `{first}` and `{last}` stand for the first and last of the late layers, and
    /// `{vindex}` for the vindex in use.
    pub(crate) example: &'static str,
    /// Purpose of the statement, in a line.
    pub meaning: &'static str,
}

/// The model that examples are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleModel {
    /// Path or name of the vindex.
    pub path: String,
    /// Number of layers.
    pub layers: usize,
}

impl Default for ExampleModel {
    /// One that nobody has, for examples while nothing is open.
    fn default() -> Self {
        Self { path: "model.vindex".into(), layers: 24 }
    }
}

impl Help {
    /// Returns one statement of the kind, which names layers that the model has.
    pub fn example(&self, model: &ExampleModel) -> String {
        let last = model.layers.saturating_sub(1);
        let first = model.layers / 2;
        let text = self.example.replace("{first}", &first.min(last).to_string());
        text.replace("{last}", &last.to_string()).replace("\"{vindex}\"", &Quote(&model.path).to_string())
    }

    /// The help of every statement that is carried out, in the order that one meets them in.
    pub fn all() -> impl Iterator<Item = Self> {
        let single = [
            Use::HELP,
            Extract::HELP,
            Describe::HELP,
            Walk::HELP,
            ExplainWalk::HELP,
            Select::HELP,
            Infer::HELP,
            ExplainInfer::HELP,
            Trace::HELP,
            Insert::HELP,
            Delete::HELP,
            Update::HELP,
            Merge::HELP,
            Rebalance::HELP,
            Compact::HELP,
            Diff::HELP,
            compile::HELP,
        ];
        single.into_iter().chain(show::HELP).chain(patch::HELP)
    }
}

impl Statement {
    pub(crate) fn parse(parser: &mut Parser) -> Parsed<Self> {
        let parse: fn(&mut Parser) -> Parsed<Self> = match parser.keyword() {
            Some(Keyword::Extract) => |p| Extract::parse(p).map(Self::Extract),
            Some(Keyword::Compile) => compile::parse,
            Some(Keyword::Diff) => |p| Diff::parse(p).map(Self::Diff),
            Some(Keyword::Use) => |p| Use::parse(p).map(Self::Use),
            Some(Keyword::Walk) => |p| Walk::parse(p).map(Self::Walk),
            Some(Keyword::Describe) => |p| Describe::parse(p).map(Self::Describe),
            Some(Keyword::Select) => |p| Select::parse(p).map(Self::Select),
            Some(Keyword::Explain) => Self::parse_explain,
            Some(Keyword::Infer) => |p| Infer::parse(p).map(Self::Infer),
            Some(Keyword::Insert) => |p| Insert::parse(p).map(Self::Insert),
            Some(Keyword::Delete) => |p| Delete::parse(p).map(Self::Delete),
            Some(Keyword::Update) => |p| Update::parse(p).map(Self::Update),
            Some(Keyword::Merge) => |p| Merge::parse(p).map(Self::Merge),
            Some(Keyword::Rebalance) => |p| Rebalance::parse(p).map(Self::Rebalance),
            Some(Keyword::Compact) => |p| Compact::parse(p).map(Self::Compact),
            Some(Keyword::Begin) => |p| BeginPatch::parse(p).map(Self::BeginPatch),
            Some(Keyword::Save) => |p| SavePatch::parse(p).map(Self::SavePatch),
            Some(Keyword::Apply) => |p| ApplyPatch::parse(p).map(Self::ApplyPatch),
            Some(Keyword::Remove) => |p| RemovePatch::parse(p).map(Self::RemovePatch),
            Some(Keyword::Undo) => |_| Ok(Self::Undo),
            Some(Keyword::Show) => show::parse,
            Some(Keyword::Stats) => |p| Stats::parse(p).map(Self::Stats),
            Some(Keyword::Trace) => |p| Trace::parse(p).map(Self::Trace),
            _ => return Err(Self::missing(parser)),
        };
        parser.advance();
        parse(parser)
    }

    fn parse_explain(parser: &mut Parser) -> Parsed<Self> {
        if parser.eat(&[Keyword::Walk])? {
            return ExplainWalk::parse(parser).map(Self::ExplainWalk);
        }
        parser.expect(&[Keyword::Infer])?;
        ExplainInfer::parse(parser).map(Self::ExplainInfer)
    }

    /// Returns the keywords that the statement begins with, under which the help has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Extract(_) => Extract::HELP.name,
            Self::CompileVindex(_) | Self::CompileModel(_) => compile::HELP.name,
            Self::Diff(_) => Diff::HELP.name,
            Self::Use(_) => Use::HELP.name,
            Self::Walk(_) => Walk::HELP.name,
            Self::Describe(_) => Describe::HELP.name,
            Self::Select(_) => Select::HELP.name,
            Self::ExplainWalk(_) => ExplainWalk::HELP.name,
            Self::Infer(_) => Infer::HELP.name,
            Self::ExplainInfer(_) => ExplainInfer::HELP.name,
            Self::Insert(_) => Insert::HELP.name,
            Self::Delete(_) => Delete::HELP.name,
            Self::Update(_) => Update::HELP.name,
            Self::Merge(_) => Merge::HELP.name,
            Self::Rebalance(_) => Rebalance::HELP.name,
            Self::Compact(_) => Compact::HELP.name,
            Self::BeginPatch(_) => "BEGIN PATCH",
            Self::SavePatch(_) => "SAVE PATCH",
            Self::ApplyPatch(_) => "APPLY PATCH",
            Self::RemovePatch(_) => "REMOVE PATCH",
            Self::Undo => "UNDO",
            Self::ShowPatches => "SHOW PATCHES",
            Self::ShowRelations(_) => "SHOW RELATIONS",
            Self::ShowLayers(_) => "SHOW LAYERS",
            Self::ShowFeatures(_) => "SHOW FEATURES",
            Self::ShowEntities(_) => "SHOW ENTITIES",
            Self::ShowModels => "SHOW MODELS",
            Self::ShowCompactStatus => "SHOW COMPACT STATUS",
            Self::Stats(_) => "STATS",
            Self::Trace(_) => Trace::HELP.name,
        }
    }

    /// The error where a statement should begin and none does.
    #[cold]
    pub(crate) fn missing(parser: &mut Parser) -> ParseError {
        parser.note(Item::Statement);
        Self::verbs().for_each(|verb| parser.note_keyword(verb));
        parser.unexpected()
    }

    /// The keywords that statements begin with; some more than once.
    pub(crate) fn verbs() -> impl Iterator<Item = Keyword> {
        Help::all().filter_map(|help| help.name.split(' ').next().and_then(Keyword::from_word))
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extract(statement) => statement.fmt(f),
            Self::CompileVindex(statement) => statement.fmt(f),
            Self::CompileModel(statement) => statement.fmt(f),
            Self::Diff(statement) => statement.fmt(f),
            Self::Use(statement) => statement.fmt(f),
            Self::Walk(statement) => statement.fmt(f),
            Self::Describe(statement) => statement.fmt(f),
            Self::Select(statement) => statement.fmt(f),
            Self::ExplainWalk(statement) => statement.fmt(f),
            Self::Infer(statement) => statement.fmt(f),
            Self::ExplainInfer(statement) => statement.fmt(f),
            Self::Insert(statement) => statement.fmt(f),
            Self::Delete(statement) => statement.fmt(f),
            Self::Update(statement) => statement.fmt(f),
            Self::Merge(statement) => statement.fmt(f),
            Self::Rebalance(statement) => statement.fmt(f),
            Self::Compact(statement) => statement.fmt(f),
            Self::BeginPatch(statement) => statement.fmt(f),
            Self::SavePatch(statement) => statement.fmt(f),
            Self::ApplyPatch(statement) => statement.fmt(f),
            Self::RemovePatch(statement) => statement.fmt(f),
            Self::Undo => f.write_str("UNDO"),
            Self::ShowPatches => f.write_str("SHOW PATCHES"),
            Self::ShowRelations(statement) => statement.fmt(f),
            Self::ShowLayers(statement) => statement.fmt(f),
            Self::ShowFeatures(statement) => statement.fmt(f),
            Self::ShowEntities(statement) => statement.fmt(f),
            Self::ShowModels => f.write_str("SHOW MODELS"),
            Self::ShowCompactStatus => f.write_str("SHOW COMPACT STATUS"),
            Self::Stats(statement) => statement.fmt(f),
            Self::Trace(statement) => statement.fmt(f),
        }
    }
}

impl Display for Pipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        separated(&self.stages, " |> ").fmt(f)
    }
}
