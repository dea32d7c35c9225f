use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_eval::{EdgeMemoryScores, evaluate_edge_memory};
use miette::IntoDiagnostic;
use serde::Serialize;

use crate::arguments::{ReportFormat, Threads};
use crate::commands::{facts, open_language_model, report};
use crate::interrupt;
use crate::progress::Bars;
use crate::sizes::human;

/// How well edges beside the weights, as INSERT … MODE KNN makes them, answer their questions and no others
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
    /// How many edges to remember
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
    let scores = match scores {
        Err(error) if error.is_cancelled() => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
        scores => scores.map_err(report)?,
    };
    let report = Report { model: arguments.model.display().to_string(), scores };
    if arguments.format.is_json() {
        println!("{}", serde_json::to_string(&report).into_diagnostic()?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// What was measured, and of which model.
#[derive(Serialize)]
struct Report {
    model: String,
    #[serde(flatten)]
    scores: EdgeMemoryScores,
}

fn print(report: &Report) {
    let EdgeMemoryScores { entries, unrelated, overridden, seconds, bytes, lookup_ms, reading_ms, .. } =
        report.scores;
    println!("{}: {entries} edges beside the weights", report.model);
    for (name, share, meaning) in [
        ("retrieved", report.scores.retrieved, "edges that answer their own question"),
        ("paraphrase", report.scores.paraphrase, "other wordings of it that they answer"),
        ("specificity", report.scores.specificity, "such questions about other entities that none answers"),
    ] {
        println!("  {name:<12} {:>8.2} %  {meaning}", share * 100.0);
    }
    println!("  {:<12} {overridden:>8}    of {unrelated} unrelated prompts that one answers", "overridden");
    println!(
        "  {:<12} {lookup_ms:>8.2} ms a lookup; reading the keys once, in 16 bits, takes {reading_ms:.2} ms",
        "speed"
    );
    println!("  {:<12} {:>8.2} ms for each edge, {}", "cost", seconds * 1e3, human(bytes as u64));
}
