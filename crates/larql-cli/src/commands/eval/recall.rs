use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_eval::{EdgeMemoryScores, evaluate_edge_memory};

use super::{Report, finish};
use crate::arguments::{ReportFormat, Threads};
use crate::commands::{facts, open_language_model};
use crate::interrupt;
use crate::output::outln;
use crate::progress::Bars;
use crate::sizes::human;

/// Measure how well edges of the edge memory, as INSERT … MODE KNN makes them, answer their questions and no others
///
/// Remembers edges made of the fact tables, asks, and forgets them again. The model stays as it is.
#[derive(Args)]
#[command(after_help = "Examples:
  larql eval recall atlas --n 1000
  larql eval recall smollm2.vindex --format json")]
pub(crate) struct Arguments {
    /// A vindex, a checkpoint or a name
    model: PathBuf,
    /// Fact tables: a folder, or a table of subject, relation and object [default: the shipped tables]
    #[arg(long, value_name = "PATH")]
    facts: Option<PathBuf>,
    /// Number of edges to store
    #[arg(long, value_name = "N", default_value_t = 25_000, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    #[command(flatten)]
    format: ReportFormat,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let tables = facts(arguments.facts.as_deref())?;
    let language = open_language_model(&arguments.model, arguments.threads.pool())?;
    let bars = Bars::fleeting(interrupt::token()?);
    let scores = evaluate_edge_memory(&language, &tables, arguments.n as usize, &bars);
    bars.finish();
    finish(&arguments.model, scores, &arguments.format, print)
}

fn print(report: &Report<EdgeMemoryScores>) -> miette::Result<()> {
    let EdgeMemoryScores { entries, unrelated, overridden, seconds, bytes, lookup_ms, reading_ms, .. } =
        report.scores;
    outln!("{}: {entries} lookup entries", report.model)?;
    outln!("  {:<12} {:>8}", "measure", "value")?;
    for (name, share, meaning) in [
        ("retrieved", report.scores.retrieved, "inserted edges that answer their own question"),
        ("paraphrase", report.scores.paraphrase, "other wordings of it that they answer"),
        ("specificity", report.scores.specificity, "questions about other entities that trigger none"),
    ] {
        outln!("  {name:<12} {:>8.2} %  {meaning}", share * 100.0)?;
    }
    outln!("  {:<12} {overridden:>8}    of {unrelated} unrelated prompts that trigger one", "overridden")?;
    outln!(
        "  {:<12} {lookup_ms:>8.2} ms for a lookup; reading all keys once takes {reading_ms:.2} ms",
        "time"
    )?;
    outln!("  {:<12} {:>8.2} ms to insert one, {} each", "cost", seconds * 1e3, human(bytes as u64))?;
    Ok(())
}
