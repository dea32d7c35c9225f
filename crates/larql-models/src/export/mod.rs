//! Writing a model as a checkpoint that other tools load.
//!
//! Which tensors a file has, and where in them a role lies, is what the family's `place` says, which also reads them.
//! Weights come from any [`WeightSource`](crate::WeightSource). Where the target stores a model in another way than
//! the source (llama.cpp adds the 1 to Gemma's norms and takes turns in the rows of rotated heads) the two specs
//! differ, and `conversion` follows from the difference.

mod conversion;
mod gguf;
mod gguf_metadata;
mod gguf_tokenizer;
mod hub_config;
mod safetensors;
mod stored;

use std::path::{Path, PathBuf};

use larql_compute::Format;
use serde::{Deserialize, Serialize};

use crate::{CheckpointKind, ModelError, StoredTensor, TextFiles, WeightSource};

pub(crate) use self::gguf_metadata::GgufForm;

pub use self::gguf::write_gguf;
pub use self::safetensors::write_safetensors;

/// A model to be written, with what is known of how it was published.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    /// Its weights; all that its spec calls for must be there.
    pub weights: &'a dyn WeightSource,
    /// Its tokenizer and chat template.
    pub text: &'a TextFiles,
    /// Path of a checkpoint or a vindex. Files about it are taken from there as they are.
    pub path: &'a Path,
    /// Place of publication, if that is known.
    pub source: Option<&'a SourceTensors>,
    /// Tensors that the text model does not use and that go along; only where the container stays the same.
    pub unused: &'a [StoredTensor],
}

/// Options of writing a model.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions {
    /// The format that blocks become where the target only knows floats.
    pub float: Format,
    /// Bytes of tensors in a file, where the source does not say how they are spread over files.
    pub shard_bytes: u64,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions { float: Format::F16, shard_bytes: 5_000_000_000 }
    }
}

/// Result of writing a model.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    /// The file or directory.
    pub path: PathBuf,
    /// Its files with their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// Number of tensors.
    pub tensors: usize,
}

/// Names and formats of a checkpoint's tensors, so that it can be written back in the same way. A vindex of level all
/// keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceTensors {
    /// The container.
    pub kind: CheckpointKind,
    /// The tensors, file by file in their order there.
    pub tensors: Vec<SourceTensor>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceTensor {
    /// Name in the file.
    pub name: String,
    /// Encoding, in the container's word.
    pub encoding: String,
    /// Name of the file.
    pub file: String,
}

impl SourceTensors {
    /// Name of the file that keeps this in a vindex.
    pub const FILE: &str = "source_tensors.json";

    /// The list that a vindex keeps, if it keeps one.
    ///
    /// # Errors
    /// If the file cannot be read or is not what it should be.
    pub fn read(directory: &Path) -> Result<Option<SourceTensors>, ModelError> {
        let path = directory.join(SourceTensors::FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(|source| ModelError::Io { path: path.clone(), source })?;
        let tensors = serde_json::from_slice(&bytes).map_err(|error| {
            ModelError::malformed(&path, "content", "a list of tensors", error.to_string())
        })?;
        Ok(Some(tensors))
    }
}

/// Fails if there is something where a model is to be written.
fn check_free(target: &Path) -> Result<(), ModelError> {
    if target.symlink_metadata().is_err() {
        return Ok(());
    }
    let advice = "it exists; choose another name, or delete it first";
    let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, advice);
    Err(ModelError::Io { path: target.into(), source })
}
