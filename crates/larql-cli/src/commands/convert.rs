use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use larql_models::GgufFile;
use larql_vindex::{ExtractOptions, Q4kOptions};
use larql_vindex_spec::ExtractLevel;

use super::extract::{StorageArguments, extract};
use crate::sizes;

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
    /// Print what a GGUF file says of itself
    GgufInfo {
        /// The file
        file: PathBuf,
        /// Print every tensor
        #[arg(long)]
        tensors: bool,
    },
    /// Store a vindex in fewer bits
    Quantize {
        #[command(subcommand)]
        format: Quantize,
    },
}

#[derive(Args)]
struct Paths {
    /// What to read
    input: PathBuf,
    /// What to write
    output: PathBuf,
    #[command(flatten)]
    storage: StorageArguments,
}

#[derive(Subcommand)]
enum Quantize {
    /// 4-bit blocks: Q4_K, and Q6_K for down projections and attention values
    Q4k {
        /// The vindex to read, of level inference at least
        input: PathBuf,
        /// The vindex to write
        output: PathBuf,
        /// 4 bits for down projections too
        #[arg(long)]
        down_q4k: bool,
        /// Keep gate rows as floats beside the blocks
        #[arg(long)]
        gate_vectors: bool,
        /// Go on where an interrupted run stopped
        #[arg(long)]
        resume: bool,
    },
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    match arguments.conversion {
        Conversion::GgufToVindex(paths) | Conversion::SafetensorsToVindex(paths) => {
            let storage = paths.storage.storage();
            let options = ExtractOptions { level: ExtractLevel::All, storage, ..ExtractOptions::default() };
            extract(&paths.input, &paths.output, &options)
        }
        Conversion::GgufInfo { file, tensors } => gguf_info(&file, tensors),
        Conversion::Quantize { format: Quantize::Q4k { input, output, down_q4k, gate_vectors, resume } } => {
            let q4k = Q4kOptions { down_q4k, gate_vectors };
            super::extract::quantize(&input, &output, q4k, resume)
        }
    }
}

fn gguf_info(path: &Path, with_tensors: bool) -> miette::Result<ExitCode> {
    let file = GgufFile::open(path).map_err(super::report)?;
    println!("GGUF version {}, {} metadata entries", file.version(), file.metadata().len());
    for (key, value) in file.metadata() {
        println!("  {key:<44} {value}");
    }
    let bytes: u64 = file.tensors().iter().map(|tensor| tensor.bytes.len() as u64).sum();
    println!("{} tensors, {}", file.tensors().len(), sizes::human(bytes));
    if with_tensors {
        for tensor in file.tensors() {
            let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            println!("  {:<36} {:<8} {shape}", tensor.name, tensor.encoding.to_string());
        }
    }
    Ok(ExitCode::SUCCESS)
}
