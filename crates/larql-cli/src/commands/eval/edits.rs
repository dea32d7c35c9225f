use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use larql_edit::{ComposeOptions, DEFAULT_LAMBDA};
use larql_eval::{
    DELETED_TOKENS, EditEvaluation, EditKind, EditMethod, EditScores, EditSet, EditedGroup, evaluate_edits,
};
use larql_vindex::{FeatureOperation, Operation, Patch, Vindex};
use miette::IntoDiagnostic;

use super::{Report, finish};
use crate::arguments::{ReportFormat, Threads};
use crate::commands::{open_language_model, report};
use crate::output::outln;
use crate::progress::Bars;
use crate::sizes::human;
use crate::{interrupt, library};

/// Measure how well edges are inserted, updated or deleted, and what else changes
///
/// Edits each edge, asks the edited model, and takes the edit back. The model stays as it is.
#[derive(Args)]
#[command(after_help = "Examples:
  larql eval edits atlas --n 20
  larql eval edits smollm2.vindex --delete --n 20
  larql eval edits smollm2.vindex --n 100 --together 10 --format json
  larql eval edits atlas --n 10 --keep inserted/")]
pub(crate) struct Arguments {
    /// A vindex, a checkpoint or a name
    model: PathBuf,
    /// A set of edges and how they are asked for, as `crates/larql-eval/data/edits` has them [default: the shipped set]
    #[arg(long, value_name = "FILE.json")]
    facts: Option<PathBuf>,
    /// Insert false edges, which no model says by itself (default)
    #[arg(long, group = "kind")]
    insert: bool,
    /// Replace true edges that the model knows by false ones
    #[arg(long, group = "kind")]
    update: bool,
    /// Delete true edges that the model knows
    #[arg(long, group = "kind")]
    delete: bool,
    /// Number of edges to edit, from the first of the set
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// Number of edges to edit together before the model is asked
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    together: u32,
    /// Carrier of the edges: features of their own, as INSERT writes them, or one change of all down vectors of a layer, as
    /// COMPACT MAJOR computes from these
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = Method::Features, conflicts_with = "delete")]
    method: Method,
    /// With --method closed-form: weight of changes on background text
    #[arg(long, value_name = "X", default_value_t = DEFAULT_LAMBDA, requires = "method")]
    lambda: f64,
    /// The layer to write to [default: the one that a causal trace finds, and those below it
    /// where it has no room]
    #[arg(long, value_name = "LAYER")]
    layer: Option<usize>,
    /// Keep what is inserted, a patch NNN.vlp for each time, and what is asked of it, NNN.json; of a vindex only
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    format: ReportFormat,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Clone, Copy, ValueEnum)]
enum Method {
    Features,
    ClosedForm,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let set = arguments.facts.as_deref().map_or_else(EditSet::shipped, EditSet::open).map_err(report)?;
    let language = open_language_model(&arguments.model, arguments.threads.pool())?;
    let kind = match (arguments.update, arguments.delete) {
        (true, _) => EditKind::Update,
        (_, true) => EditKind::Delete,
        _ => EditKind::Insert,
    };
    let evaluation = EditEvaluation {
        kind,
        edits: set.edits.len().min(arguments.n as usize),
        together: arguments.together as usize,
        compose: match kind {
            EditKind::Insert | EditKind::Update => ComposeOptions::default(),
            EditKind::Delete => ComposeOptions::unlearning(),
        },
        method: match arguments.method {
            Method::Features => EditMethod::Features,
            Method::ClosedForm => EditMethod::ClosedForm(arguments.lambda),
        },
        layer: arguments.layer,
    };
    let mut keeper = arguments.keep.map(|folder| Keeper::new(folder, &arguments.model)).transpose()?;
    let mut kept = Ok(());
    let token = interrupt::token()?;
    let bars = Bars::fleeting(token.clone());
    let scores = evaluate_edits(&language, &set, &evaluation, &bars, &mut |group| {
        if let Some(keeper) = &mut keeper {
            kept = keeper.keep(&group);
        }
        if kept.is_err() {
            token.cancel();
        }
    });
    bars.finish();
    kept?;
    finish(&arguments.model, scores, &arguments.format, print)
}

/// Folder of groups of edges, so that other programs can be asked the same of them.
struct Keeper {
    folder: PathBuf,
    vindex: Vindex,
    groups: usize,
}

impl Keeper {
    fn new(folder: PathBuf, model: &Path) -> miette::Result<Keeper> {
        let vindex = Vindex::open(&library::find(model)?).map_err(report)?;
        std::fs::create_dir_all(&folder)
            .map_err(|error| miette::miette!("{} cannot be made: {error}", folder.display()))?;
        Ok(Keeper { folder, vindex, groups: 0 })
    }

    /// Writes a group as a patch, and its questions.
    fn keep(&mut self, group: &EditedGroup<'_>) -> miette::Result<()> {
        self.groups += 1;
        let mut patch = Patch::new(&self.vindex);
        patch.extend(group.written.iter().flat_map(|written| &written.features).map(|written| {
            let (layer, feature, edited) = (written.layer, written.feature, written.edited.clone());
            Operation::Insert(FeatureOperation { layer, feature, edited, token_text: None })
        }));
        let file = |ending| self.folder.join(format!("{:03}.{ending}", self.groups));
        patch.save(&file("vlp")).map_err(report)?;
        let path = file("json");
        let json = serde_json::to_vec(group.questions).into_diagnostic()?;
        std::fs::write(&path, json)
            .map_err(|error| miette::miette!("{} cannot be written: {error}", path.display()))
    }
}

fn print(report: &Report<EditScores>) -> miette::Result<()> {
    let EditScores { kind, edits, together, seconds, bytes, features, .. } = report.scores;
    let edges = match kind {
        EditKind::Insert => "false edges inserted",
        EditKind::Update => "known edges updated to false ones",
        EditKind::Delete => "known edges deleted",
    };
    outln!("{}: {edits} {edges}, {} at a time", report.model, together.min(edits))?;
    outln!("  {:<12} {:>8}", "measure", "value")?;
    let comes_out = match kind {
        EditKind::Insert | EditKind::Update => {
            "targets that come out whole after the usual wording".to_owned()
        }
        EditKind::Delete => format!("targets that no longer come out within {DELETED_TOKENS} tokens"),
    };
    for (name, share, meaning) in [
        ("efficacy", report.scores.efficacy, &*comes_out),
        ("paraphrase", report.scores.paraphrase, "the same after wordings and sentences never tried"),
        ("specificity", report.scores.specificity, "answers about other entities that stay"),
        ("retention", report.scores.retention, "other answers about the same entity that stay"),
    ] {
        outln!("  {name:<12} {:>8.1} %  {meaning}", share * 100.0)?;
    }
    outln!(
        "  {:<12} {:>+8.2} %  bits per byte of an unrelated text",
        "drawdown",
        report.scores.drawdown * 100.0
    )?;
    let size = human(bytes as u64);
    outln!("  {:<12} {seconds:>8.2} s  for each edge: {features:.1} features, {size}", "cost")?;
    Ok(())
}
