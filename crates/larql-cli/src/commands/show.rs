use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::arguments::ReportFormat;
use crate::described::{Described, Model, ModelFacts, PatchFacts};
use crate::output::outln;
use crate::{library, output, sizes};

/// Show what a vindex, a model file or a patch is
///
/// Prints the model with its parameters, context length and chat template, and the files with their sizes.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  larql show smollm2.vindex\n  larql show smollm2.gguf\n  larql show edits.vlp"
)]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file, a checkpoint directory, a patch or a model's name
    model: PathBuf,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let described = Described::read(&library::find(&arguments.model)?)?;
    if arguments.format.is_json() {
        output::json(&described)?;
        return Ok(ExitCode::SUCCESS);
    }
    match &described {
        Described::Vindex { summary, facts } => {
            outln!("{}", summary.path.display())?;
            row("kind", &format!("vindex of level {}", summary.level.name()))?;
            row("model", &summary.model)?;
            print_facts(facts)?;
            row("features", &summary.features.to_string())?;
            row("stored as", &stored_as(summary.quant.name(), summary.dtype.name()))?;
            row("on disk", &sizes::human(summary.bytes()))?;
            for file in &summary.files {
                let level = file.component.map_or("", |component| component.level().name());
                let line = format!("    {:<32} {:>10}  {level}", file.name, sizes::human(file.bytes));
                outln!("{}", line.trim_end())?;
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
