use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_vindex::{History, HistoryLayer, Summary};

use crate::arguments::ReportFormat;
use crate::output;
use crate::output::outln;
use crate::{library, sizes};

/// Digits of a digest that tell layers apart.
const DIGITS: usize = 12;

/// List the instructions that a vindex was built by, and what each changed
#[derive(Args)]
#[command(after_help = "Example:\n  larql history facts.vindex")]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let path = library::find(&arguments.vindex)?;
    // Says so if it is no vindex.
    Summary::read(&path).map_err(super::report)?;
    let history = History::read(&path).map_err(super::report)?;
    if arguments.format.is_json() {
        output::json(&history)?;
        return Ok(ExitCode::SUCCESS);
    }
    if history.layers.is_empty() {
        outln!("{} was not built by a Vindexfile", path.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    outln!("{:<DIGITS$}  {:>8}  {:>6}  {:>10}  instruction", "digest", "features", "edges", "bytes")?;
    for HistoryLayer { instruction, digest, features, edges, bytes } in &history.layers {
        let digest: String = digest.chars().take(DIGITS).collect();
        outln!("{digest:<DIGITS$}  {features:>8}  {edges:>6}  {:>10}  {instruction}", sizes::human(*bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}
