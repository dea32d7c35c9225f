use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use larql_hub::RepoName;
use larql_vindex::FileSummary;
use larql_vindex_spec::Quant;

use crate::arguments::ReportFormat;
use crate::described::{Described, Model, ModelFacts, PatchFacts};
use crate::output::outln;
use crate::precision::PrecisionRow;
use crate::{hub, interrupt, library, output, sizes};

/// Show what a vindex, a model file or a patch is
///
/// Prints the model with its parameters, context length and chat template, the files with their sizes, and the precision of
/// quantised weights. Of a model on the hub only the headers of its files are read.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  larql show smollm2.vindex\n  larql show smollm2.gguf\n  larql show edits.vlp\n  larql show hf://owner/model"
)]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file, a checkpoint directory, a patch or a model's name
    model: PathBuf,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let described = match library::remote(&arguments.model)? {
        Some(name) => remote(&name)?,
        None => Described::read(&library::find(&arguments.model)?)?,
    };
    if arguments.format.is_json() {
        output::json(&described)?;
        return Ok(ExitCode::SUCCESS);
    }
    match &described {
        Described::Vindex { summary, facts, slice, precision } => {
            outln!("{}", summary.path.display())?;
            row("kind", &format!("vindex of level {}", summary.level.name()))?;
            row("model", &summary.model)?;
            if let Some(parts) = slice {
                row("slice of", &parts.join(", "))?;
            }
            print_facts(facts)?;
            row("features", &summary.features.to_string())?;
            row("stored as", &stored_as(summary.quant.name(), summary.dtype.name()))?;
            row("on disk", &sizes::human(summary.bytes()))?;
            for file in &summary.files {
                let level = file.component.map_or("", |component| component.level().name());
                let line = format!("    {:<32} {:>10}  {level}", file.name, sizes::human(file.bytes));
                outln!("{}", line.trim_end())?;
            }
            if summary.quant != Quant::None {
                print_precision(precision)?;
            }
        }
        Described::Model(Model { path, format, dtype, bytes, facts }) => {
            outln!("{}", path.display())?;
            row("kind", &format!("{format} model"))?;
            print_facts(facts)?;
            if let Some(dtype) = dtype {
                row("weights", dtype)?;
            }
            row("on disk", &sizes::human(*bytes))?;
        }
        Described::Patch(PatchFacts { path, model, created_at, description, operations, edges, bytes }) => {
            outln!("{}", path.display())?;
            row("kind", "patch")?;
            row("made for", model)?;
            row("created", created_at)?;
            if let Some(description) = description {
                row("about", description)?;
            }
            row("operations", &operations.to_string())?;
            row("on disk", &sizes::human(*bytes))?;
            for edge in edges {
                outln!("    {edge}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Describes a model of the hub by the headers of its files; weights are not downloaded.
fn remote(name: &RepoName) -> miette::Result<Described> {
    let opens = |path: &Path| Described::read(path).is_ok();
    let sketch = hub::open()?.sketch(name, &opens, &interrupt::token()?)?;
    let mut described = Described::read(&sketch.path)?;
    let place = PathBuf::from(format!("hf://{}@{}", name.id, sketch.commit));
    match &mut described {
        Described::Vindex { summary, .. } => {
            summary.path = place;
            summary.files = FileSummary::of(&sketch.files);
        }
        Described::Model(model) => model.path = place,
        Described::Patch(_) => {}
    }
    eprintln!(
        "{} read of {}",
        sizes::human(sketch.moved),
        sizes::human(sketch.files.iter().map(|(_, bytes)| bytes).sum())
    );
    Ok(described)
}

/// Prints formats and sizes of the projections, and what they would take as f16.
fn print_precision(rows: &[PrecisionRow]) -> miette::Result<()> {
    outln!(
        "  {:<16}  {:<8} {:>14} {:>10} {:>12}",
        "projection",
        "format",
        "weights",
        "bytes",
        "bits/weight"
    )?;
    let total = PrecisionRow {
        projection: "total",
        format: String::new(),
        weights: rows.iter().map(|row| row.weights).sum(),
        bytes: rows.iter().map(|row| row.bytes).sum(),
    };
    for row in rows.iter().chain([&total]) {
        let (bytes, bits) = (sizes::human(row.bytes), row.bits_per_weight());
        outln!("  {:<16}  {:<8} {:>14} {bytes:>10} {bits:>12.2}", row.projection, row.format, row.weights)?;
    }
    outln!("  {:.0} % of the size as f16", 100.0 * total.bits_per_weight() / 16.0)
}

fn row(name: &str, value: &str) -> miette::Result<()> {
    outln!("  {name:<13} {value}")
}

fn print_facts(facts: &ModelFacts) -> miette::Result<()> {
    let ModelFacts { architecture, parameters, context_length, num_layers, width, vocabulary, chat_template } =
        facts;
    row("architecture", &format!("{architecture}, {num_layers} layers, width {width}"))?;
    row("parameters", &sizes::count(*parameters))?;
    row("context", &format!("{context_length} tokens"))?;
    row("vocabulary", &format!("{vocabulary} tokens"))?;
    row("chat template", if *chat_template { "yes" } else { "no" })
}

/// Number formats of a vindex's weights.
pub(super) fn stored_as(quant: &str, float: &str) -> String {
    match quant {
        "none" => float.to_owned(),
        "source" => format!("the source's blocks, other tensors {float}"),
        quant => format!("{quant}, other tensors {float}"),
    }
}
