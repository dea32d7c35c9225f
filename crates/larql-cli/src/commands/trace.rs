use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use larql_lql::ast::{
    ExplainInfer, LayerRange, Positions, SaveTrace, ShowGraph, Spanned, Statement, Subject, Trace,
    TraceFormat,
};
use larql_lql::output::Output;
use larql_lql::render::{self, RenderOptions, render, trace_page};
use larql_repl::Interrupt;

use super::lql::FormatArgument;
use crate::arguments::Threads;
use crate::output::out;
use crate::progress::Bars;
use crate::{interrupt, library, output};

/// Show layer by layer how an answer arises
///
/// Prints the likeliest next token after each layer by the logit lens; with --for, the rank and probability of an answer
/// and what attention and the feed-forward step add to its logit. The statement TRACE does the same.
#[derive(Args)]
#[command(after_help = "Examples:
  larql trace smollm2.gguf \"The capital of France is\"
  larql trace smollm2.gguf \"The capital of France is\" --for Paris
  larql trace atlas \"The capital of France is\" --positions all --html trace.html
  larql trace atlas \"The capital of France is\" --graph graph.html
  larql trace atlas \"The capital of France is\" --save residuals.bin")]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file, a checkpoint directory or a model's name
    model: PathBuf,
    /// The prompt
    #[arg(allow_hyphen_values = true)]
    prompt: String,
    /// Compare the residuals of this prompt
    #[arg(long, value_name = "PROMPT")]
    diff: Option<String>,
    /// Follow this answer
    #[arg(long = "for", value_name = "ANSWER")]
    answer: Option<String>,
    /// Show norms and contributions of attention and of the feed-forward step
    #[arg(long)]
    decompose: bool,
    /// Show these layers only, as in 10-20
    #[arg(long, value_name = "FIRST-LAST", value_parser = layers)]
    layers: Option<LayerRange>,
    /// Show the last position, or all as a map
    #[arg(long, value_enum, default_value = "last")]
    positions: PositionsArgument,
    /// Write a map as one HTML page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the attribution graph of the answer to this file: .html, .dot, .graphml or .json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["diff", "decompose", "layers", "html", "save"])]
    graph: Option<String>,
    /// Save the residuals of all positions to this file
    #[arg(long, value_name = "FILE")]
    save: Option<String>,
    /// The format of --save
    #[arg(long, value_enum, default_value = "chain", requires = "save")]
    save_format: SaveFormat,
    /// The tier of a context file, 1 to 4
    #[arg(long, value_name = "N", requires = "save")]
    tier: Option<usize>,
    /// Tokens of a window of a boundary or context file
    #[arg(long, value_name = "N", requires = "save")]
    window: Option<usize>,
    /// Format of the result
    #[arg(long, value_enum, default_value = "table")]
    format: FormatArgument,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum PositionsArgument {
    Last,
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum SaveFormat {
    /// Every waypoint of every token
    Chain,
    /// The residual at the end of each window
    Boundary,
    /// The residual at the end of each window and what layers added, by tier
    Context,
}

fn layers(text: &str) -> Result<LayerRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse().map_err(|_| "expected FIRST-LAST, as in 10-20".to_owned());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("expected the first layer not above the last, found {first}-{last}"));
    }
    Ok(LayerRange { first, last })
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let interrupt = Interrupt::default();
    interrupt::stop_statements(interrupt.clone())?;
    let progress = Arc::new(Bars::fleeting(interrupt.token()));
    let mut session = library::session(arguments.threads.pool())?.with_progress(progress);
    session.open_path(&library::find(&arguments.model)?)?;
    let all = arguments.positions == PositionsArgument::All || arguments.html.is_some();
    let spanned = |text: String| Spanned::from(text);
    let (prompt, answer) = (Subject::Text(spanned(arguments.prompt)), arguments.answer.map(spanned));
    let statement = match arguments.graph {
        Some(file) => Statement::ExplainInfer(ExplainInfer {
            prompt,
            layers: None,
            verbose: false,
            top: None,
            answer,
            with_attention: false,
            graph: Some(ShowGraph { save: Some(spanned(file)) }),
        }),
        None => Statement::Trace(Trace {
            prompt,
            other: arguments.diff.map(spanned),
            target: answer,
            decompose: arguments.decompose,
            layers: arguments.layers.map(Spanned::from),
            positions: all.then_some(Positions::All),
            save: arguments.save.map(|path| SaveTrace {
                path: spanned(path),
                format: Some(match arguments.save_format {
                    SaveFormat::Chain => TraceFormat::Chain,
                    SaveFormat::Boundary => TraceFormat::Boundary,
                    SaveFormat::Context => TraceFormat::Context,
                }),
                tier: arguments.tier.map(Spanned::from),
                window: arguments.window.map(Spanned::from),
            }),
        }),
    };
    let result = session.query(&statement).map_err(super::report)?;
    if let (Some(file), Output::Trace(traced)) = (&arguments.html, &result) {
        std::fs::write(file, trace_page(traced))
            .map_err(|error| miette::miette!("{} cannot be written: {error}", file.display()))?;
    }
    let format: render::Format = arguments.format.into();
    let options = RenderOptions { pretty: true, ..output::render_options() };
    out!("{}", render(&result, format, &options))?;
    Ok(ExitCode::SUCCESS)
}
