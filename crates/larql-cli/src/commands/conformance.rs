use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_compute::{Pool, Precision};
use larql_core::progress::NoProgress;
use larql_eval::EvalError;
use larql_eval::conformance::{self, Deviation, FolderFacts, LOGIT_TOLERANCE};
use larql_eval::real::{self, RealDeviation, Recording};
use larql_inference::Model;
use larql_models::{Checkpoint, ModelError};
use larql_vindex::{ExtractOptions, Q4kOptions, Storage, Vindex};
use larql_vindex_spec::FloatType;
use serde::Serialize;

use crate::arguments::{ReportFormat, Threads};
use crate::output;
use crate::output::{out, outln};

/// Compare the forward pass with reference outputs
///
/// Runs every folder of a conformance set through the checkpoint and through vindexes extracted from it in f32, f16
/// and 4-bit blocks, and prints the largest deviation of each beside its tolerance; of blocks only logits are judged.
/// Exits with 1 when one is over.
#[derive(Args)]
#[command(after_help = "Examples:
  larql conformance tests/data/conformance
  larql conformance --real tests/data/real/smollm2-135m-instruct-q4_1.json --model smollm2.gguf")]
pub(crate) struct Arguments {
    /// A folder with `manifest.json` and a folder for each family
    #[arg(required_unless_present = "real")]
    set: Option<PathBuf>,
    /// Leave out the vindexes
    #[arg(long)]
    checkpoint_only: bool,
    /// Recorded predictions of a real model
    #[arg(long, value_name = "FILE.json", requires = "model", conflicts_with = "set")]
    real: Option<PathBuf>,
    /// The model that the recording is of
    #[arg(long, requires = "real")]
    model: Option<PathBuf>,
    #[command(flatten)]
    format: ReportFormat,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let pool = arguments.threads.pool();
    let passed = match (&arguments.set, &arguments.real, &arguments.model) {
        (Some(set), _, _) => run_set(set, &arguments, &pool)?,
        (None, Some(recording), Some(model)) => run_real(recording, model, &arguments, pool)?,
        _ => unreachable!("the argument parser asks for a set or a recording with its model"),
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Result of one folder in one form.
#[derive(Serialize)]
struct Row {
    folder: String,
    through: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Within(Judged),
    Over(Judged),
    Unsupported { reason: String },
    Failed { reason: String },
}

/// A deviation beside what it may be.
#[derive(Serialize)]
struct Judged {
    #[serde(flatten)]
    deviation: Deviation,
    logit_tolerance: f32,
    /// True if weights are exact, so that everything has to agree.
    exact: bool,
}

impl Judged {
    fn passes(&self) -> bool {
        match self.exact {
            true => self.deviation.within(self.logit_tolerance),
            false => self.deviation.logits_within(self.logit_tolerance),
        }
    }
}

impl Outcome {
    fn of(result: Result<Judged, EvalError>) -> Outcome {
        match result {
            Ok(judged) if judged.passes() => Outcome::Within(judged),
            Ok(judged) => Outcome::Over(judged),
            Err(EvalError::Model(error @ ModelError::UnknownFamily { .. })) => {
                Outcome::Unsupported { reason: error.to_string() }
            }
            Err(error) => Outcome::Failed { reason: error.to_string() },
        }
    }

    fn passes(&self) -> bool {
        matches!(self, Outcome::Within(_) | Outcome::Unsupported { .. })
    }
}

fn run_set(set: &Path, arguments: &Arguments, pool: &Arc<Pool>) -> miette::Result<bool> {
    let mut passed = true;
    if !arguments.format.is_json() {
        outln!(
            "{:<22} {:<11} {:>10} {:>10} {:>10} {:>10}  continuations",
            "folder",
            "through",
            "logits",
            "allowed",
            "hidden",
            "allowed"
        )?;
    }
    for (name, facts) in conformance::folders(set).map_err(super::report)? {
        let folder = set.join(&name);
        let mut row = |through, result| -> miette::Result<bool> {
            let row = Row { folder: name.clone(), through, outcome: Outcome::of(result) };
            passed &= row.outcome.passes();
            print_row(&row, arguments.format.is_json())?;
            Ok(!matches!(row.outcome, Outcome::Unsupported { .. }))
        };
        let supported = row("checkpoint", through_checkpoint(&folder, &facts, pool))?;
        if supported && !arguments.checkpoint_only {
            for (through, storage) in VINDEXES {
                row(through, through_vindex(storage, &folder, &facts, pool))?;
            }
        }
    }
    Ok(passed)
}

/// The vindexes that a folder is run through.
const VINDEXES: [(&str, Storage); 3] = [
    ("f32 vindex", Storage::Floats(FloatType::F32)),
    ("f16 vindex", Storage::Floats(FloatType::F16)),
    ("q4k vindex", Storage::Q4k(Q4kOptions { down_q4k: false, gate_vectors: false })),
];

fn through_checkpoint(folder: &Path, facts: &FolderFacts, pool: &Arc<Pool>) -> Result<Judged, EvalError> {
    let model = Model::load(&Checkpoint::open(folder)?, Arc::clone(pool))?;
    let deviation = conformance::compare(&model, folder, facts)?;
    Ok(Judged { deviation, logit_tolerance: LOGIT_TOLERANCE, exact: true })
}

fn through_vindex(
    storage: Storage,
    folder: &Path,
    facts: &FolderFacts,
    pool: &Arc<Pool>,
) -> Result<Judged, EvalError> {
    let scratch =
        tempfile::tempdir().map_err(|source| ModelError::Io { path: std::env::temp_dir(), source })?;
    let path = scratch.path().join("conformance.vindex");
    let checkpoint = Checkpoint::open(folder)?;
    let options = ExtractOptions { storage, ..ExtractOptions::default() };
    larql_vindex::extract(&checkpoint, &path, &options, &NoProgress)?;
    let vindex = Vindex::open(&path)?;
    let model = Model::load(&vindex, Arc::clone(pool))?;
    let deviation = conformance::compare(&model, folder, facts)?;
    let exact = !matches!(storage, Storage::Q4k(_));
    let logit_tolerance = match exact {
        true => LOGIT_TOLERANCE,
        false => conformance::block_tolerance(facts, &checkpoint, &vindex)?,
    };
    Ok(Judged { deviation, logit_tolerance, exact })
}

fn print_row(row: &Row, json: bool) -> miette::Result<()> {
    if json {
        output::json(row)?;
        return Ok(());
    }
    out!("{:<22} {:<11} ", row.folder, row.through)?;
    match &row.outcome {
        Outcome::Within(judged) | Outcome::Over(judged) => {
            let (d, allowed) = (&judged.deviation, judged.logit_tolerance);
            let verdict = if row.outcome.passes() { "" } else { "  OVER" };
            out!("{:>10.2e} {allowed:>10.2e}", d.logits)?;
            if judged.exact {
                let equal = d.prompts - d.wrong_continuations;
                let experts = match d.wrong_experts {
                    0 => String::new(),
                    wrong => format!(", {wrong} other experts"),
                };
                out!(
                    " {:>10.2e} {:>10.2e}  {equal}/{} equal{experts}",
                    d.hidden,
                    d.hidden_tolerance,
                    d.prompts
                )?;
            }
            outln!("{verdict}")?;
        }
        Outcome::Unsupported { .. } => outln!("unsupported")?,
        Outcome::Failed { reason } => outln!("FAILED: {reason}")?,
    }
    Ok(())
}

fn run_real(recording: &Path, model: &Path, arguments: &Arguments, pool: Arc<Pool>) -> miette::Result<bool> {
    let recording = Recording::open(recording).map_err(super::report)?;
    let model = super::open_model(model, pool)?;
    let mut passed = true;
    for precision in [Precision::Exact, Precision::Fast] {
        let deviation = real::compare(&model, &recording, precision).map_err(super::report)?;
        passed &= deviation.holds();
        print_real(&deviation, arguments.format.is_json())?;
    }
    Ok(passed)
}

fn print_real(deviation: &RealDeviation, json: bool) -> miette::Result<()> {
    if json {
        output::json(deviation)?;
        return Ok(());
    }
    let RealDeviation { prompts, wrong_first, wrong_top, probability, logit, .. } = deviation;
    outln!(
        "{:?} precision: {}",
        deviation.precision,
        if deviation.holds() { "holds" } else { "DOES NOT HOLD" }
    )?;
    outln!("  first token wrong where the lead is clear   {wrong_first} of {prompts} prompts")?;
    outln!("  ten likeliest tokens differ                 {wrong_top} of {prompts} prompts")?;
    outln!("  largest difference of a probability         {probability:.2e}")?;
    outln!("  largest difference of a logit               {logit:.2e}")?;
    outln!(
        "  bits per byte                               {:.5}, reference {:.5} ({:.3} % off)",
        deviation.bits_per_byte,
        deviation.expected_bits_per_byte,
        deviation.bits_per_byte_drift() * 100.0
    )?;
    Ok(())
}
