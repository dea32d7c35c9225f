use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use larql_eval::EvalError;
use serde::Serialize;

use crate::arguments::ReportFormat;
use crate::{interrupt, output};

mod attribution;
mod edits;
mod knowledge;
mod learn;
mod recall;

/// Measure how well a model is read and edited
#[derive(Args)]
#[command(after_help = "Examples:
  larql eval knowledge smollm2.vindex
  larql eval edits atlas --n 20
  larql eval recall atlas --n 1000
  larql eval attribution smollm2.gguf --n 100")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Knowledge(knowledge::Arguments),
    Edits(edits::Arguments),
    Recall(recall::Arguments),
    Learn(learn::Arguments),
    Attribution(attribution::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    match arguments.what {
        What::Knowledge(arguments) => knowledge::run(arguments),
        What::Edits(arguments) => edits::run(arguments),
        What::Recall(arguments) => recall::run(arguments),
        What::Learn(arguments) => learn::run(arguments),
        What::Attribution(arguments) => attribution::run(arguments),
    }
}

/// Scores, and the model that they are of.
#[derive(Serialize)]
struct Report<S> {
    model: String,
    #[serde(flatten)]
    scores: S,
}

/// Reports the scores of an evaluation, by `print` or as JSON, and returns the status of the program.
fn finish<S: Serialize>(
    model: &Path,
    scores: Result<S, EvalError>,
    format: &ReportFormat,
    print: impl FnOnce(&Report<S>) -> miette::Result<()>,
) -> miette::Result<ExitCode> {
    let scores = match scores {
        Err(error) if error.is_cancelled() => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
        scores => scores.map_err(super::report)?,
    };
    let report = Report { model: model.display().to_string(), scores };
    if format.is_json() {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}
