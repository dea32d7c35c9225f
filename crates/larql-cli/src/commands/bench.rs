use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_compute::Precision;
use larql_inference::Model;
use larql_inference::eval::speed::{self, Figure, SpeedOptions};
use larql_vindex::{FeatureStore, Vindex};
use miette::IntoDiagnostic;

use crate::arguments::{PrecisionArgument, Threads};

/// Measure how fast a model runs here
///
/// Loading, prefill and decoding; of a vindex also opening, gate KNN and DESCRIBE. Each figure is the median of
/// several runs, with the lowest and the highest.
#[derive(Args)]
#[command(after_help = "Examples:
  larql bench smollm2.gguf
  larql bench smollm2.vindex --prompts 16,256 --runs 7 --json")]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file or a checkpoint directory
    model: PathBuf,
    /// Prompt lengths for prefill, in tokens
    #[arg(long, value_delimiter = ',', default_values_t = [16, 256])]
    prompts: Vec<usize>,
    /// Tokens to decode in a run
    #[arg(long, default_value_t = 64)]
    decode: usize,
    /// Runs of each measurement
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How products treat activations
    #[arg(long, value_enum, default_value = "fast")]
    precision: PrecisionArgument,
    /// Print JSON, one figure a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let pool = arguments.threads.pool();
    let print = |figure: Figure| -> miette::Result<()> {
        if arguments.json {
            println!("{}", serde_json::to_string(&figure).into_diagnostic()?);
        } else {
            let Figure { name, unit, median, lowest, highest } = figure;
            println!("{name:<26} {median:>12.6} {unit:<9} ({lowest:.6} to {highest:.6})");
        }
        Ok(())
    };

    let load = || super::open_model(&arguments.model, Arc::clone(&pool));
    print(Figure::seconds("load", arguments.runs, || load().map(drop))?)?;
    if arguments.model.join("index.json").is_file() {
        for figure in vindex_figures(&arguments)? {
            print(figure)?;
        }
    }
    let options = SpeedOptions {
        prompts: arguments.prompts.clone(),
        decode: arguments.decode,
        runs: arguments.runs,
        precision: Precision::from(arguments.precision),
    };
    let model: Model = load()?;
    let mut printed = Ok(());
    speed::measure(&model, &options, |figure| {
        if printed.is_ok() {
            printed = print(figure);
        }
    })
    .map_err(super::report)?;
    printed.map(|()| ExitCode::SUCCESS)
}
