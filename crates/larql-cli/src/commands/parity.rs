use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use larql_eval::parity::{ParityReport, parity};
use larql_models::{Checkpoint, WeightSource};
use larql_vindex::Vindex;
use larql_vindex_spec::{FloatType, Quant, Thresholds};

use crate::arguments::{ReportFormat, Threads};
use crate::output::outln;
use crate::{library, output};

/// Tokens that both models run on, unless others are given.
const TOKENS: [u32; 8] = [1, 2, 3, 5, 8, 13, 21, 34];

/// Compare two models that should be one: a vindex and its source, or two vindexes
///
/// Compares the matrices outside of layers and those of five layers value by value with the limits for the way in which the
/// first is stored, and the logits of both on the same tokens. Exits with 1 if a matrix is outside of the limits.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  larql parity gemma.vindex google/gemma-3-4b-it\n  larql parity q4k.vindex f16.vindex --all-layers"
)]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    /// The model to compare it with
    other: PathBuf,
    /// Compare every layer
    #[arg(long)]
    all_layers: bool,
    /// Token ids to run on
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    tokens: Vec<u32>,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let vindex = Vindex::open(&library::find(&arguments.vindex)?).map_err(super::report)?;
    let manifest = vindex.manifest();
    let limits = Thresholds::of(manifest.quant, manifest.float_type());
    // A float source of blocks is not equal to them, whatever they are called.
    let other = open(&arguments.other)?;
    let limits = match manifest.quant {
        Quant::Source if stores_otherwise(&vindex, &*other) => Thresholds::of(Quant::Q4k, FloatType::F16),
        _ => limits,
    };
    let tokens = if arguments.tokens.is_empty() { TOKENS.to_vec() } else { arguments.tokens.clone() };
    let vocabulary = vindex.spec().vocab_size as u32;
    let tokens: Vec<u32> = tokens.into_iter().filter(|token| *token < vocabulary).collect();
    let pool = arguments.threads.pool();
    let report =
        parity(&vindex, &*other, limits, arguments.all_layers, &tokens, &pool).map_err(super::report)?;
    if arguments.format.is_json() {
        output::json(&report)?;
    } else {
        print(&report, limits)?;
    }
    Ok(if report.is_within() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(path: &Path) -> miette::Result<Box<dyn WeightSource>> {
    let path = library::find(path)?;
    if Vindex::is_at(&path) {
        return Ok(Box::new(Vindex::open(&path).map_err(super::report)?));
    }
    Ok(Box::new(Checkpoint::open(&path).map_err(super::report)?))
}

/// True if a matrix of the two has other formats.
fn stores_otherwise(one: &dyn WeightSource, other: &dyn WeightSource) -> bool {
    let formats = |source: &dyn WeightSource, role| source.matrix(role).map(|matrix| matrix.format()).ok();
    one.spec().tensors().into_iter().any(|(role, _)| match (formats(one, role), formats(other, role)) {
        (Some(a), Some(b)) => a != b,
        _ => false,
    })
}

fn print(report: &ParityReport, limits: Thresholds) -> miette::Result<()> {
    let mut worst: Vec<_> = report.tensors.iter().collect();
    worst.sort_by(|a, b| a.is_within.cmp(&b.is_within).then(a.cosine.total_cmp(&b.cosine)));
    outln!("{:<28}  {:<14}  {:>10}  {:>12}", "matrix", "formats", "cosine", "difference")?;
    for tensor in worst.iter().take(8) {
        let formats = tensor.formats.join(" ");
        let mark = if tensor.is_within { "" } else { "  OUTSIDE" };
        outln!(
            "{:<28}  {formats:<14}  {:>10.6}  {:>12.3e}{mark}",
            tensor.tensor,
            tensor.cosine,
            tensor.max_difference
        )?;
    }
    if worst.len() > 8 {
        outln!("… and {} that are closer", worst.len() - 8)?;
    }
    for tensor in &report.unpaired {
        outln!("{tensor:<28}  only one of the two has it")?;
    }
    let within = report.tensors.iter().filter(|tensor| tensor.is_within).count();
    outln!(
        "{within} of {} matrices are within the limits (cosine {}, difference {})",
        report.tensors.len(),
        limits.min_cosine,
        limits.max_difference
    )?;
    match &report.logits {
        Some(logits) => outln!(
            "logits: the same most probable token at {} of {} positions, largest difference {:.3e}",
            logits.same_top,
            logits.tokens,
            logits.max_difference
        ),
        None => outln!("logits: not compared, as not both can run"),
    }
}
