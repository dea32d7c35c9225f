use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_eval::{AttributionEvaluation, AttributionScores, EditSet, evaluate_attribution};

use super::{Report, finish};
use crate::arguments::{ReportFormat, Threads};
use crate::commands::{open_language_model, report};
use crate::interrupt;
use crate::output::outln;
use crate::progress::Bars;

/// Measure how much of an answer attribution graphs explain, and what the model says without their nodes
///
/// Explains facts that the model knows, as EXPLAIN INFER … GRAPH does. Then removes the nodes of greatest influence, and in
/// their place as many others of equal norm.
#[derive(Args)]
#[command(after_help = "Examples:
  larql eval attribution atlas --n 20
  larql eval attribution smollm2.gguf --n 100 --format json")]
pub(crate) struct Arguments {
    /// A vindex, a checkpoint or a name
    model: PathBuf,
    /// Number of facts to explain
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// Heads and features of each graph
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    /// Number of them to remove
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    removed: u32,
    #[command(flatten)]
    format: ReportFormat,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let set = EditSet::shipped().map_err(report)?;
    let language = open_language_model(&arguments.model, arguments.threads.pool())?;
    let evaluation = AttributionEvaluation {
        facts: arguments.n as usize,
        nodes: arguments.nodes as usize,
        removed: arguments.removed as usize,
    };
    let bars = Bars::fleeting(interrupt::token()?);
    let scores = evaluate_attribution(&language, &set, &evaluation, &bars);
    bars.finish();
    finish(&arguments.model, scores, &arguments.format, print)
}

fn print(report: &Report<AttributionScores>) -> miette::Result<()> {
    let scores = &report.scores;
    outln!("{}: {} facts, graphs of {} heads and features", report.model, scores.facts, scores.nodes)?;
    outln!("  {:<16} {:>8}", "measure", "value")?;
    let without = format!("the same without the {} nodes of greatest influence", scores.removed);
    for (name, share, meaning) in [
        ("explained", scores.explained, "what goes into the answer that nodes give"),
        ("traced", scores.traced, "the answer that can be followed to the prompt"),
        ("probability", scores.probability, "of the answer's first token"),
        ("without nodes", scores.without_nodes, &*without),
        ("without others", scores.without_others, "the same without as many others of equal norm"),
        ("lowers more", scores.lowers_more, "facts whose answer loses more without the nodes"),
    ] {
        outln!("  {name:<16} {:>8.1} %  {meaning}", share * 100.0)?;
    }
    outln!("  {:<16} {:>8.2} s  for a graph", "cost", scores.seconds)?;
    Ok(())
}
