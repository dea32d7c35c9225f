use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use larql_compute::Format;
use larql_models::{
    Checkpoint, Export, ExportOptions, ExportReport, GgufFile, ModelError, SourceTensors, write_gguf,
    write_safetensors,
};
use larql_vindex::{ExtractOptions, Vindex};
use larql_vindex_spec::ExtractLevel;
use serde_json::{Map, Value, json};

use super::extract::{StorageArguments, extract};
use super::quantize;
use crate::arguments::ReportFormat;
use crate::output;
use crate::output::outln;
use crate::{library, sizes};

/// Convert between formats, and look into them
#[derive(Args)]
#[command(after_help = "Examples:
  larql convert gguf-info smollm2.gguf
  larql convert gguf-to-vindex smollm2.gguf smollm2.vindex
  larql convert quantize q4k llama.vindex llama-q4k.vindex")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    conversion: Conversion,
}

#[derive(Subcommand)]
enum Conversion {
    /// A GGUF file to a vindex of level all
    GgufToVindex(Paths),
    /// A directory of safetensors to a vindex of level all
    SafetensorsToVindex(Paths),
    /// A vindex of level all, or any checkpoint, to a directory that transformers loads
    ///
    /// What came from such a directory goes back as it was: each tensor under its name, in its file, in its format.
    VindexToSafetensors(ExportPaths),
    /// A vindex of level all, or any checkpoint, to a GGUF file that llama.cpp loads
    ///
    /// Matrices keep their format, blocks included.
    VindexToGguf(ExportPaths),
    /// Print what a GGUF file says of itself
    GgufInfo {
        /// The file
        file: PathBuf,
        /// Print every tensor; JSON always has them
        #[arg(long)]
        tensors: bool,
        #[command(flatten)]
        format: ReportFormat,
    },
    Quantize(quantize::Arguments),
}

#[derive(Args)]
struct Paths {
    /// File or folder to read
    input: PathBuf,
    /// File or folder to write
    output: PathBuf,
    #[command(flatten)]
    storage: StorageArguments,
    #[command(flatten)]
    format: ReportFormat,
}

#[derive(Args)]
struct ExportPaths {
    /// The vindex, GGUF file or checkpoint directory
    input: PathBuf,
    /// File or folder to write
    output: PathBuf,
    /// Format for tensors whose current format the target cannot store
    #[arg(long, value_enum, default_value = "f16")]
    float: FloatArgument,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    match arguments.conversion {
        Conversion::GgufToVindex(paths) | Conversion::SafetensorsToVindex(paths) => {
            let storage = paths.storage.storage();
            let options = ExtractOptions { level: ExtractLevel::All, storage, ..ExtractOptions::default() };
            extract(&paths.input, None, &paths.output, &options, paths.format)
        }
        Conversion::VindexToSafetensors(paths) => export(&paths, write_safetensors),
        Conversion::VindexToGguf(paths) => export(&paths, write_gguf),
        Conversion::GgufInfo { file, tensors, format } => {
            let file = GgufFile::open(&file).map_err(super::report)?;
            if format.is_json() {
                outln!("{}", gguf_as_json(&file))?;
            } else {
                print_gguf(&file, tensors)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Conversion::Quantize(arguments) => quantize::run(arguments),
    }
}

/// A float format of checkpoints.
#[derive(Clone, Copy, ValueEnum)]
enum FloatArgument {
    F32,
    F16,
    Bf16,
}

impl From<FloatArgument> for Format {
    fn from(argument: FloatArgument) -> Self {
        match argument {
            FloatArgument::F32 => Format::F32,
            FloatArgument::F16 => Format::F16,
            FloatArgument::Bf16 => Format::BF16,
        }
    }
}

/// Function that writes a model.
type Write = fn(Export<'_>, &Path, ExportOptions) -> Result<ExportReport, ModelError>;

/// Writes the vindex or checkpoint at `path` as another file or folder.
pub(super) fn export_model(
    path: &Path,
    output: &Path,
    write: Write,
    options: ExportOptions,
) -> miette::Result<ExportReport> {
    let report = if Vindex::is_at(path) {
        let vindex = Vindex::open(path).map_err(super::report)?;
        let source = SourceTensors::read(path).map_err(super::report)?;
        let unused = vindex.unused_tensors().map_err(super::report)?;
        let (text, source) = (vindex.text(), source.as_ref());
        let export = Export { weights: &vindex, text, path, source, unused: &unused };
        write(export, output, options)
    } else {
        let checkpoint = Checkpoint::open(path).map_err(super::report)?;
        checkpoint.notes().iter().for_each(|note| eprintln!("note: {note}"));
        let source = checkpoint.source_tensors();
        let export = Export {
            weights: &checkpoint,
            text: checkpoint.text(),
            path: checkpoint.path(),
            source: Some(&source),
            unused: &[],
        };
        write(export, output, options)
    };
    report.map_err(super::report)
}

fn export(
    ExportPaths { input, output, float, format }: &ExportPaths,
    write: Write,
) -> miette::Result<ExitCode> {
    let path = library::find(input)?;
    let options = ExportOptions { float: (*float).into(), ..ExportOptions::default() };
    let report = export_model(&path, output, write, options)?;
    if format.is_json() {
        output::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = report.files.iter().map(|(_, bytes)| bytes).sum();
    eprintln!("{}: {} tensors, {}", output.display(), report.tensors, sizes::human(bytes));
    Ok(ExitCode::SUCCESS)
}

fn print_gguf(file: &GgufFile, with_tensors: bool) -> miette::Result<()> {
    outln!("GGUF version {}, {} metadata entries", file.version(), file.metadata().len())?;
    for (key, value) in file.metadata() {
        outln!("  {key:<44} {value}")?;
    }
    let bytes: u64 = file.tensors().iter().map(|tensor| tensor.bytes.len() as u64).sum();
    outln!("{} tensors, {}", file.tensors().len(), sizes::human(bytes))?;
    if with_tensors {
        for tensor in file.tensors() {
            let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            outln!("  {:<36} {:<8} {shape}", tensor.name, tensor.encoding.to_string())?;
        }
    }
    Ok(())
}

fn gguf_as_json(file: &GgufFile) -> Value {
    let tensors = file.tensors().iter().map(|tensor| {
        json!({
            "name": tensor.name,
            "type": tensor.encoding.to_string(),
            "shape": tensor.shape,
            "bytes": tensor.bytes.len(),
        })
    });
    let metadata: Map<String, Value> =
        file.metadata().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    json!({
        "version": file.version(),
        "metadata": metadata,
        "tensors": tensors.collect::<Vec<_>>(),
    })
}
