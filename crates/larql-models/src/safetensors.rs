//! Reading safetensors files and the index of sharded ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larql_compute::Format;
use safetensors::{Dtype, SafeTensors};

use crate::tensor::{Encoding, StoredTensor};
use crate::{ModelError, config::shorten};

/// The tensors of one safetensors file.
#[derive(Clone, Debug)]
pub struct SafetensorsFile {
    tensors: Vec<StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl SafetensorsFile {
    /// Maps and judges a file.
    ///
    /// # Errors
    /// As [`SafetensorsFile::parse`], or if the file cannot be mapped.
    pub fn open(path: &Path) -> Result<SafetensorsFile, ModelError> {
        let bytes =
            larql_compute::map_file(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        SafetensorsFile::parse(bytes, path)
    }

    /// Judges the bytes of a file; `path` is what messages call it.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] unless the header is sound and its tensors cover the rest of the file
    /// exactly, without gap or overlap, each as long as its shape and type need.
    pub fn parse(bytes: Bytes, path: &Path) -> Result<SafetensorsFile, ModelError> {
        let (header_len, header) = SafeTensors::read_metadata(&bytes).map_err(|error| {
            ModelError::malformed(path, "header", "a sound safetensors header", error.to_string())
        })?;
        let data = bytes.slice(8 + header_len..);
        let mut tensors: Vec<StoredTensor> = header
            .tensors()
            .into_iter()
            .map(|(name, info)| StoredTensor {
                name,
                encoding: encoding(info.dtype),
                shape: info.shape.clone(),
                offset: 8 + header_len + info.data_offsets.0,
                bytes: data.slice(info.data_offsets.0..info.data_offsets.1),
            })
            .collect();
        tensors.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
        let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(SafetensorsFile { tensors, metadata })
    }

    /// Its tensors in the order of their bytes.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// Its tensors, by value.
    pub fn into_tensors(self) -> Vec<StoredTensor> {
        self.tensors
    }

    /// Free-form notes of the program that wrote it.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

fn encoding(dtype: Dtype) -> Encoding {
    match dtype {
        Dtype::F32 => Encoding::Format(Format::F32),
        Dtype::F16 => Encoding::Format(Format::F16),
        Dtype::BF16 => Encoding::Format(Format::BF16),
        Dtype::F64 => Encoding::Other("F64"),
        Dtype::I64 => Encoding::Other("I64"),
        Dtype::I32 => Encoding::Other("I32"),
        Dtype::I16 => Encoding::Other("I16"),
        Dtype::I8 => Encoding::Other("I8"),
        Dtype::U64 => Encoding::Other("U64"),
        Dtype::U32 => Encoding::Other("U32"),
        Dtype::U16 => Encoding::Other("U16"),
        Dtype::U8 => Encoding::Other("U8"),
        Dtype::BOOL => Encoding::Other("BOOL"),
        Dtype::F8_E4M3 => Encoding::Other("F8_E4M3"),
        Dtype::F8_E5M2 => Encoding::Other("F8_E5M2"),
        _ => Encoding::Other("a rare type"),
    }
}

/// `model.safetensors.index.json`: which shard holds which tensor.
#[derive(Clone, Debug)]
pub struct ShardIndex {
    path: PathBuf,
    shard_of: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads and judges an index.
    ///
    /// # Errors
    /// As [`ShardIndex::parse`], or if the file cannot be read.
    pub fn read(path: &Path) -> Result<ShardIndex, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        ShardIndex::parse(&bytes, path)
    }

    /// Judges the bytes of an index; `path` is what messages call it.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] if it is not JSON with a `weight_map` from names to file names, or if a file
    /// name would lead out of the index's own directory.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<ShardIndex, ModelError> {
        #[derive(serde::Deserialize)]
        struct Content {
            weight_map: BTreeMap<String, String>,
        }
        let content: Content = serde_json::from_slice(bytes).map_err(|error| {
            ModelError::malformed(path, "content", "an object with a `weight_map`", error.to_string())
        })?;
        for (tensor, shard) in &content.weight_map {
            if Path::new(shard).file_name() != Some(shard.as_ref()) || shard.contains('\\') {
                return Err(ModelError::malformed(
                    path,
                    format!("weight_map of `{}`", shorten(tensor)),
                    "the name of a file beside the index",
                    format!("\"{}\"", shorten(shard)),
                ));
            }
        }
        Ok(ShardIndex { path: path.into(), shard_of: content.weight_map })
    }

    /// Names of the shards, sorted.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.shard_of.values().map(String::as_str).collect()
    }

    /// Checks that `shard` holds exactly the tensors that the index says it does.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] naming the first tensor that is missing there or should not be there.
    pub fn check_shard(&self, shard: &str, tensors: &[StoredTensor]) -> Result<(), ModelError> {
        let found: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let expected: BTreeSet<&str> =
            self.shard_of.iter().filter(|(_, s)| *s == shard).map(|(name, _)| name.as_str()).collect();
        let Some(name) = expected.symmetric_difference(&found).next() else { return Ok(()) };
        let indexed = self.shard_of.get(*name).map_or("in no shard", String::as_str);
        let presence = if found.contains(name) { "has it" } else { "does not" };
        Err(ModelError::malformed(
            &self.path,
            format!("weight_map of `{}`", shorten(name)),
            format!("what the shards hold ({shard} {presence})"),
            indexed,
        ))
    }
}
