//! The stored tensors, by name, with checks whose errors name file and tensor.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::levels::Floats;
use crate::ModelError;
use crate::config::shorten;
use crate::tensor::{Encoding, StoredTensor};

/// Reason for a shape, in messages.
pub(super) const BY_CONFIGURATION: &str = "by the model's configuration";

/// The stored tensors of a checkpoint, by name.
pub(in crate::checkpoint) struct Shelf<'a> {
    pub(in crate::checkpoint) tensors: &'a [StoredTensor],
    pub(in crate::checkpoint) by_name: &'a HashMap<&'a str, usize>,
    pub(in crate::checkpoint) files: &'a [PathBuf],
    /// For each tensor the index of its file.
    pub(in crate::checkpoint) file_of: &'a [usize],
}

/// A stored tensor with its index.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) index: usize,
    pub(super) tensor: &'a StoredTensor,
    pub(super) file: &'a Path,
}

impl<'a> Shelf<'a> {
    pub(super) fn get(&self, name: &str) -> Option<Found<'a>> {
        let index = *self.by_name.get(name)?;
        let file = self.file_of.get(index).and_then(|file| self.files.get(*file));
        Some(Found {
            index,
            tensor: &self.tensors[index],
            file: file.map_or(Path::new(""), PathBuf::as_path),
        })
    }

    /// A tensor without which `beside` has no meaning.
    pub(super) fn require(&self, name: &str, beside: Found<'_>) -> Result<Found<'a>, ModelError> {
        self.get(name).ok_or_else(|| {
            beside.malformed(format!("`{}` beside it", shorten(name)), "no such tensor".to_owned())
        })
    }
}

impl Found<'_> {
    /// The error for what is wrong with it.
    pub(super) fn malformed(self, expected: impl Into<String>, found: impl Into<String>) -> ModelError {
        malformed(self.file, &self.tensor.name, expected, found)
    }

    /// Fails unless it has a shape; `meaning` says why it should.
    pub(super) fn expect_shape(self, shape: &[usize], meaning: &str) -> Result<(), ModelError> {
        if self.tensor.shape == shape {
            return Ok(());
        }
        Err(self.malformed(format!("{shape:?}, {meaning}"), format!("{:?}", self.tensor.shape)))
    }

    /// Fails unless its values are of one of these types.
    pub(super) fn expect_type(self, types: &[&str]) -> Result<(), ModelError> {
        match self.tensor.encoding {
            Encoding::Other(name) if types.contains(&name) => Ok(()),
            other => Err(self.malformed(format!("values of type {}", types.join(" or ")), other.to_string())),
        }
    }

    /// Its values, which must be floats.
    pub(super) fn floats(self) -> Result<Floats, ModelError> {
        match self.tensor.encoding {
            Encoding::Format(format) if format.is_float() => {
                Ok(Floats { format, bytes: self.tensor.bytes.clone() })
            }
            other => Err(self.malformed("floats (F32, F16 or BF16)", other.to_string())),
        }
    }

    /// Its values in single precision, `count` of them.
    pub(super) fn single_floats(self, count: usize, meaning: &str) -> Result<Vec<f32>, ModelError> {
        self.expect_shape(&[count], meaning)?;
        Ok(self.floats()?.all())
    }

    /// Its values, which are integers of 4 or 8 bytes.
    pub(super) fn integers(self) -> Vec<i64> {
        let bytes = &self.tensor.bytes;
        match self.is_type("I64") {
            true => bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
            false => bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect(),
        }
    }

    /// Number of its values.
    pub(super) fn count(self) -> usize {
        self.tensor.shape.iter().product()
    }

    pub(super) fn is_type(self, name: &str) -> bool {
        matches!(self.tensor.encoding, Encoding::Other(found) if found == name)
    }
}

/// The error for a tensor of a quantised checkpoint.
pub(super) fn malformed(
    file: &Path,
    tensor: &str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> ModelError {
    let found = format!("{}; download the checkpoint again, or quantise the model again", found.into());
    ModelError::malformed(file, format!("tensor `{}`", shorten(tensor)), expected, found)
}
