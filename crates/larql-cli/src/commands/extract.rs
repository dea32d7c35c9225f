use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use larql_compute::Pool;
use larql_core::facts::Facts;
use larql_core::progress::rounded_time;
use larql_knowledge::LanguageModel;
use larql_knowledge::probe::{ProbeOptions, ProbePlan, estimated_time};
use larql_models::Checkpoint;
use larql_vindex::{ExtractOptions, ExtractReport, Q4kOptions, Storage, VindexError};
use larql_vindex_spec::{ExtractLevel, FloatType};
use sha2::{Digest, Sha256};

use crate::arguments::ReportFormat;
use crate::output;
use crate::progress::Bars;
use crate::{hub, interrupt, library, sizes};

/// Turn a checkpoint into a vindex
///
/// Reads a directory of safetensors (Hugging Face or MLX layout) or a GGUF file. Floats are stored in 16 bits unless
/// asked otherwise; the blocks of a GGUF file are kept bit for bit. Weights in FP8, GPTQ, AWQ, compressed-tensors or
/// bitsandbytes are repacked as the nearest blocks, and the manifest says how near they are.
#[derive(Args)]
#[command(after_help = "Examples:
  larql extract smollm2.gguf -o smollm2.vindex
  larql extract ./Llama-3.2-1B -o llama.vindex --level browse --f32
  larql extract ./Llama-3.2-1B -o llama.vindex --quant q4k --resume
  larql extract ./Llama-3.2-1B --adapter ./my-lora -o mine.vindex")]
pub(crate) struct Arguments {
    /// A GGUF file, a checkpoint directory or a model's name
    model: PathBuf,
    /// The vindex to write
    #[arg(short, long, value_name = "X.vindex")]
    output: PathBuf,
    /// Level of the vindex; each holds all of the one before
    #[arg(long, value_enum, default_value = "inference")]
    level: Level,
    #[command(flatten)]
    pub(crate) storage: StorageArguments,
    /// Keep tensors that the text model does not use, such as a vision tower; with --level all, of safetensors
    #[arg(long)]
    keep_unused: bool,
    /// Merge an adapter, as PEFT saved it: LoRA, rsLoRA or DoRA
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Go on with an extraction that was interrupted
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    format: ReportFormat,
}

/// Storage of weights.
#[derive(Args)]
pub(crate) struct StorageArguments {
    /// Keep every tensor's source format (quantized GGUF blocks are always kept; floats otherwise become f16)
    #[arg(long, conflicts_with_all = ["f32", "f16", "quant"])]
    keep_formats: bool,
    /// Store floats in 32 bits
    #[arg(long, conflicts_with_all = ["f16", "quant"])]
    f32: bool,
    /// Store everything as 16-bit floats, blocks too
    #[arg(long, conflicts_with = "quant")]
    f16: bool,
    /// Store blocks of 4 bits a weight (6 for down projections and attention values)
    #[arg(long, value_enum)]
    quant: Option<Quant>,
    /// With --quant q4k: 4 bits for down projections too
    #[arg(long, requires = "quant")]
    down_q4k: bool,
    /// With --quant q4k: keep gate rows as floats beside the blocks, for more exact searches
    #[arg(long, requires = "quant", conflicts_with = "drop_gate_vectors")]
    gate_vectors: bool,
    /// With --quant q4k: store gate rows in blocks only (the default)
    #[arg(long, requires = "quant")]
    drop_gate_vectors: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Quant {
    /// ggml's Q4_K and Q6_K
    Q4k,
}

/// Level of a vindex.
#[derive(Clone, Copy, ValueEnum)]
enum Level {
    /// Gates, embeddings, top tokens: DESCRIBE, WALK, SELECT
    Browse,
    /// Attention as well
    Attention,
    /// All that predicting takes: INFER
    Inference,
    /// Everything that compiling back to a checkpoint takes
    All,
}

impl StorageArguments {
    pub(crate) fn storage(&self) -> Storage {
        if self.keep_formats {
            return Storage::Source;
        }
        if self.f32 {
            return Storage::Floats(FloatType::F32);
        }
        if self.f16 {
            return Storage::Floats(FloatType::F16);
        }
        match self.quant {
            Some(Quant::Q4k) => {
                Storage::Q4k(Q4kOptions { down_q4k: self.down_q4k, gate_vectors: self.gate_vectors })
            }
            None => Storage::Automatic,
        }
    }
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let options = ExtractOptions {
        level: match arguments.level {
            Level::Browse => ExtractLevel::Browse,
            Level::Attention => ExtractLevel::Attention,
            Level::Inference => ExtractLevel::Inference,
            Level::All => ExtractLevel::All,
        },
        storage: arguments.storage.storage(),
        keep_unused: arguments.keep_unused,
        resume: arguments.resume,
        ..ExtractOptions::default()
    };
    extract(&arguments.model, arguments.adapter.as_deref(), &arguments.output, &options, arguments.format)
}

/// Extracts a model, with an adapter if there is one, shows progress bars, and says what came of it.
pub(crate) fn extract(
    model: &Path,
    adapter: Option<&Path>,
    output: &Path,
    options: &ExtractOptions,
    format: ReportFormat,
) -> miette::Result<ExitCode> {
    let path = library::find_checkpoint(model)?;
    let checkpoint = Checkpoint::open(&path).map_err(super::report)?;
    let checkpoint = match adapter {
        Some(adapter) => checkpoint.with_adapter(adapter).map_err(super::report)?,
        None => checkpoint,
    };
    checkpoint.notes().iter().for_each(|note| eprintln!("note: {note}"));
    let options = with_origin(options, &path)?;
    let code = with_bars(output, format, |bars| larql_vindex::extract(&checkpoint, output, &options, bars))?;
    if code == ExitCode::SUCCESS && !format.is_json() {
        eprint!("{}", next_commands(output, options.level));
    }
    Ok(code)
}

/// Adds the repository and the commit that a model in the hub's cache is from, and the digest of this program.
fn with_origin(options: &ExtractOptions, path: &Path) -> miette::Result<ExtractOptions> {
    let mut options = options.clone();
    options.origin.extractor_sha = program_digest();
    if let Some((name, commit)) = hub::open()?.origin(path) {
        options.origin.huggingface_repo = Some(name.id.to_string());
        options.origin.huggingface_revision = Some(commit);
    }
    Ok(options)
}

/// SHA-256 of the file of this program; none if the file is gone or cannot be read.
fn program_digest() -> Option<String> {
    let mut program = File::open(std::env::current_exe().ok()?).ok()?;
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match program.read(&mut chunk).ok()? {
            0 => return Some(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            length => digest.update(&chunk[..length]),
        }
    }
}

/// The commands that make sense next, a line each.
fn next_commands(vindex: &Path, level: ExtractLevel) -> String {
    let path = vindex.display();
    let mut lines = format!("next: larql repl {path}\n");
    if matches!(level, ExtractLevel::Inference | ExtractLevel::All) {
        let time = probe_time(vindex).map(|time| format!(" (about {})", rounded_time(time)));
        lines += &format!("      larql probe {path}{}: finds relations\n", time.unwrap_or_default());
    }
    lines
}

/// Estimated time of a probe of the shipped facts; none if the model does not run, which the probe reports better.
fn probe_time(vindex: &Path) -> Option<Duration> {
    let language = LanguageModel::open(vindex, Arc::new(Pool::for_this_machine())).ok()?;
    estimated_time(language.model(), &ProbePlan::new(Facts::shipped(), ProbeOptions::default())).ok()
}

/// Runs work that makes a vindex, and says what came of it.
fn with_bars(
    output: &Path,
    format: ReportFormat,
    work: impl FnOnce(&Bars) -> Result<ExtractReport, VindexError>,
) -> miette::Result<ExitCode> {
    let started = Instant::now();
    let bars = Bars::new(interrupt::token()?);
    let result = work(&bars);
    bars.finish();
    let Some(report) = end_bars(result, output)? else {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    };
    if format.is_json() {
        output::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = report.files.iter().map(|(_, bytes)| bytes).sum();
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{}: level {}, {} in {seconds:.1} s",
        output.display(),
        report.level.name(),
        sizes::human(bytes)
    );
    print_drift(&report);
    Ok(ExitCode::SUCCESS)
}

/// Returns the report of work that made a vindex; none if it was interrupted, which is said.
pub(super) fn end_bars(
    result: Result<ExtractReport, VindexError>,
    output: &Path,
) -> miette::Result<Option<ExtractReport>> {
    match result {
        Ok(report) => Ok(Some(report)),
        Err(VindexError::Cancelled) => {
            eprintln!("interrupted; the same command with --resume goes on");
            Ok(None)
        }
        Err(error) => {
            let mut partial = output.components().as_path().as_os_str().to_owned();
            partial.push(".partial");
            if !matches!(error, VindexError::Unfinished { .. }) && Path::new(&partial).is_dir() {
                let partial = partial.display();
                eprintln!("{partial} keeps what was done: --resume goes on, or delete it");
            }
            Err(super::report(error))
        }
    }
}

/// Says which tensors keep their format, and how near the others are.
pub(super) fn print_drift(report: &ExtractReport) {
    if report.kept > 0 {
        eprintln!("{} tensors keep their format: other blocks would not be smaller", report.kept);
    }
    if let Some(worst) = report.drift.iter().min_by(|a, b| a.cosine.total_cmp(&b.cosine)) {
        eprintln!(
            "{} tensors lost precision; worst: {} in {} (cosine {:.5}, max error {:.2e})",
            report.drift.len(),
            worst.tensor,
            worst.format,
            worst.cosine,
            worst.max_difference
        );
    }
}
