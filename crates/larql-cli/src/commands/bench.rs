use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_compute::{Pool, Precision};
use larql_inference::Model;
use larql_inference::eval::speed::{self, Figure, SpeedOptions};
use larql_lql::Session;
use larql_vindex::search::gate_knn;
use larql_vindex::{FeatureStore, Vindex};
use miette::IntoDiagnostic;

use crate::arguments::{PrecisionArgument, ReportFormat, Threads};
use crate::library;

/// Measure how fast a model runs here
///
/// Loading, prefill and decoding; of a vindex also opening, gate KNN and DESCRIBE. Each figure is the median of
/// several runs, with the lowest and the highest.
#[derive(Args)]
#[command(after_help = "Examples:
  larql bench smollm2.gguf
  larql bench smollm2.vindex --prompts 16,256 --runs 7 --format json")]
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
    #[command(flatten)]
    format: ReportFormat,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let pool = arguments.threads.pool();
    let print = |figure: Figure| -> miette::Result<()> {
        if arguments.format.is_json() {
            println!("{}", serde_json::to_string(&figure).into_diagnostic()?);
        } else {
            let Figure { name, unit, median, lowest, highest } = figure;
            println!("{name:<26} {median:>12.6} {unit:<9} ({lowest:.6} to {highest:.6})");
        }
        Ok(())
    };

    let load = || super::open_model(&arguments.model, Arc::clone(&pool));
    print(Figure::seconds("load", arguments.runs, || load().map(drop))?)?;
    let path = library::find(&arguments.model)?;
    if Vindex::is_at(&path) {
        for figure in vindex_figures(&path, &pool, arguments.runs)? {
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

/// Opening, gate KNN over a layer and over the knowledge band, and DESCRIBE, all warm.
fn vindex_figures(path: &Path, pool: &Arc<Pool>, runs: usize) -> miette::Result<Vec<Figure>> {
    let open = || Vindex::open(path).map_err(super::report);
    let vindex = open()?;
    let band = vindex.manifest().bands().knowledge.layers();
    let query = vec![1.0; vindex.hidden_size()];
    let knn = |layer| gate_knn(&vindex, pool, layer, &query, 10);
    let mut session = Session::new(Arc::clone(pool));
    session.open_path(path).map_err(super::report)?;
    let describe = larql_lql::parse_statement("DESCRIBE 'France'").into_diagnostic()?;
    let infallible = |_: Vec<_>| Ok::<(), miette::Report>(());
    Ok(vec![
        Figure::seconds("open", runs, || open().map(drop))?,
        Figure::seconds("gate knn, one layer", runs, || infallible(knn(band.start)))?,
        Figure::seconds("gate knn, knowledge band", runs, || {
            infallible(band.clone().flat_map(knn).collect())
        })?,
        Figure::seconds("describe", runs, || session.execute(&describe).map(drop).map_err(super::report))?,
    ])
}
