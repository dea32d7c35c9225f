use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use larql_compute::Pool;
use larql_inference::{PassError, column_importance};
use larql_knowledge::{LanguageModel, calibration_texts, passages};
use larql_models::{
    Checkpoint, ColumnImportance, ExportOptions, LayerRole, Mix, Role, WeightSource, write_gguf,
};
use larql_vindex::{ExtractOptions, ExtractReport, Q4kOptions, Storage, Summary, Vindex, VindexError};
use larql_vindex_spec::ExtractLevel;
use serde_json::json;

use super::extract::{end_bars, print_drift};
use super::{convert, report};
use crate::arguments::ReportFormat;
use crate::progress::Bars;
use crate::{interrupt, library, output, sizes};

/// Store a model in fewer bits
///
/// The mixes have the names and the rules of llama.cpp: most matrices get the format of the name, and a few that matter
/// more get a finer one. A matrix keeps the blocks that it has where others would not be smaller. With --imatrix, codes are
/// chosen so that products are near on a text that is run first, at the cost of weights that hardly count there.
#[derive(Args)]
#[command(after_help = "Examples:
  larql convert quantize q4_k_m ./Llama-3.2-1B llama-q4_k_m.gguf
  larql convert quantize q3_k_m --imatrix model-f16.gguf model-q3_k_m.gguf
  larql convert quantize q4k llama.vindex llama-q4k.vindex")]
pub(crate) struct Arguments {
    /// The mix of formats
    #[arg(value_name = "MIX", value_enum, ignore_case = true)]
    target: Target,
    /// The GGUF file, checkpoint directory or vindex to read
    input: PathBuf,
    /// The GGUF file (NAME.gguf) or the vindex to write
    output: PathBuf,
    /// Choose codes by the importance of columns, recorded on a text: the calibration text that ships with LARQL, or that of
    /// a file, in passages with an empty line between them
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    imatrix: Option<Option<PathBuf>>,
    /// With q4k: 4 bits for down projections too
    #[arg(long)]
    down_q4k: bool,
    /// With q4k: keep gate rows as floats beside the blocks
    #[arg(long)]
    gate_vectors: bool,
    /// Go on where an interrupted run stopped
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    format: ReportFormat,
}

/// Storage to convert to.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// Storage of `extract --quant q4k`.
    Q4k,
    Mix(Mix),
}

impl ValueEnum for Target {
    fn value_variants<'a>() -> &'a [Target] {
        static TARGETS: LazyLock<Vec<Target>> =
            LazyLock::new(|| Mix::all().map(Target::Mix).chain([Target::Q4k]).collect());
        &TARGETS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Target::Q4k => PossibleValue::new("q4k")
                .help("as `extract --quant q4k`: a vindex with Q4_K, Q6_K for down projections and values, float embeddings"),
            Target::Mix(mix) => PossibleValue::new(mix.name()).help(mix.about()),
        })
    }
}

/// The model to be quantised.
enum Source {
    Vindex(Box<Vindex>),
    Checkpoint(Box<Checkpoint>),
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let Arguments { target, input, output, resume, format, .. } = arguments;
    let is_gguf = output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let storage = match target {
        Target::Mix(_) if arguments.down_q4k || arguments.gate_vectors => {
            return Err(miette::miette!(
                "--down-q4k and --gate-vectors are choices of q4k alone; leave them out"
            ));
        }
        Target::Mix(mix) => Storage::Mix(mix),
        Target::Q4k if is_gguf => {
            return Err(miette::miette!("q4k is a storage of vindexes; for a GGUF file choose q4_k_m"));
        }
        Target::Q4k => {
            Storage::Q4k(Q4kOptions { down_q4k: arguments.down_q4k, gate_vectors: arguments.gate_vectors })
        }
    };
    if output.symlink_metadata().is_ok() {
        return Err(miette::miette!("{} exists; choose another name, or delete it first", output.display()));
    }
    let path = library::find(&input)?;
    let source = Source::open(&path)?;
    source.check(is_gguf)?;

    let bars = Bars::new(interrupt::token()?);
    let recorded = arguments.imatrix.as_ref().map(|text| importance(&path, text.as_deref(), &bars));
    let importance = match recorded.transpose() {
        Ok(Some(None)) => {
            bars.finish();
            eprintln!("interrupted; nothing was written");
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
        Ok(recorded) => recorded.flatten().map(Arc::new),
        Err(error) => {
            bars.finish();
            return Err(error);
        }
    };
    let options = ExtractOptions {
        level: ExtractLevel::All,
        storage,
        importance,
        // A GGUF file has no use for the tokens that features write.
        top_k: if is_gguf { 0 } else { ExtractOptions::default().top_k },
        resume,
        ..ExtractOptions::default()
    };
    // A GGUF file is written from a vindex, which goes on where it was interrupted.
    let vindex = if is_gguf { with_ending(&output, ".vindex") } else { output.clone() };
    let is_written = resume && is_gguf && Vindex::is_at(&vindex);
    let written = (!is_written).then(|| source.quantize(&vindex, &options, &bars));
    bars.finish();
    let written = written.map(|written| end_bars(written, &vindex)).transpose()?;
    if let Some(None) = written {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    let written = written.flatten();
    let bytes = match is_gguf {
        false => Summary::read(&vindex).map_err(report)?.bytes(),
        true => {
            let exported = convert::export_model(&vindex, &output, write_gguf, ExportOptions::default())?;
            std::fs::remove_dir_all(&vindex)
                .map_err(|error| miette::miette!("{}: {error}", vindex.display()))?;
            exported.files.iter().map(|(_, bytes)| bytes).sum()
        }
    };
    let before = source.bytes()?;
    if format.is_json() {
        output::json(&json!({
            "path": output,
            "mix": match target { Target::Mix(mix) => mix.name(), Target::Q4k => "q4k" },
            "by_importance": arguments.imatrix.is_some(),
            "source_bytes": before,
            "bytes": bytes,
            "drift": written.as_ref().map(|written| &written.drift),
            "kept": written.as_ref().map(|written| written.kept),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let [size, source_size] = [bytes, before].map(sizes::human);
    let share = bytes as f64 / before.max(1) as f64;
    eprintln!("{}: {size}, {share:.2} of the source's {source_size}", output.display());
    if let Some(written) = written {
        print_drift(&written);
    }
    if bytes > before {
        eprintln!("note: the result is larger than the source; a mix of fewer bits makes it smaller");
    }
    Ok(ExitCode::SUCCESS)
}

impl Source {
    fn open(path: &Path) -> miette::Result<Source> {
        if Vindex::is_at(path) {
            return Ok(Source::Vindex(Vindex::open(path).map_err(report)?.into()));
        }
        let checkpoint = Checkpoint::open(path).map_err(report)?;
        checkpoint.notes().iter().for_each(|note| eprintln!("note: {note}"));
        Ok(Source::Checkpoint(checkpoint.into()))
    }

    fn weights(&self) -> &dyn WeightSource {
        match self {
            Source::Vindex(vindex) => &**vindex,
            Source::Checkpoint(checkpoint) => &**checkpoint,
        }
    }

    /// Fails if the source lacks what the target needs, and notes what a user should know of it.
    fn check(&self, to_gguf: bool) -> miette::Result<()> {
        if let Source::Vindex(vindex) = self
            && to_gguf
            && vindex.level() != ExtractLevel::All
        {
            let (path, level) = (vindex.path().display(), vindex.level().name());
            return Err(miette::miette!(
                "{path} is of level {level}, but a GGUF file takes level all; extract the model with --level all"
            ));
        }
        let query = self.weights().matrix(Role::Layer(0, LayerRole::Query));
        if let Some(format) = query.ok().map(|query| query.format()).filter(|format| !format.is_float()) {
            eprintln!(
                "note: the source is quantised already ({format}); its errors stay and new ones are added"
            );
        }
        Ok(())
    }

    fn quantize(
        &self,
        target: &Path,
        options: &ExtractOptions,
        bars: &Bars,
    ) -> Result<ExtractReport, VindexError> {
        match self {
            Source::Vindex(vindex) => larql_vindex::quantize(vindex, target, options, bars),
            Source::Checkpoint(checkpoint) => larql_vindex::extract(checkpoint, target, options, bars),
        }
    }

    /// Bytes of its files; of a checkpoint, those with weights.
    fn bytes(&self) -> miette::Result<u64> {
        match self {
            Source::Vindex(vindex) => Ok(Summary::read(vindex.path()).map_err(report)?.bytes()),
            Source::Checkpoint(checkpoint) => {
                let size = |path: &PathBuf| {
                    let metadata = std::fs::metadata(path);
                    metadata.map(|file| file.len()).map_err(|e| miette::miette!("{}: {e}", path.display()))
                };
                checkpoint.weight_files().iter().map(size).sum()
            }
        }
    }
}

/// Records the importance of columns on a text, or on the one that ships with the program; none if that is interrupted.
fn importance(model: &Path, text: Option<&Path>, bars: &Bars) -> miette::Result<Option<ColumnImportance>> {
    let language = LanguageModel::open(model, Arc::new(Pool::for_this_machine())).map_err(report)?;
    let texts = match text {
        None => calibration_texts(language.tokenizer()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| miette::miette!("{}: {error}", path.display()))?;
            passages(language.tokenizer(), &text)
        }
    };
    let texts = texts.map_err(report)?;
    if texts.is_empty() {
        return Err(miette::miette!("the text is empty; give some thousand words"));
    }
    match column_importance(language.model(), &texts, bars) {
        Ok(importance) => Ok(Some(importance)),
        Err(PassError::Cancelled(_)) => Ok(None),
        Err(error) => Err(report(error)),
    }
}

/// A path with something after its name.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}
