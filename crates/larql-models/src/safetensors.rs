//! Reading safetensors files and the index of sharded ones.
//!
//! Layout of a file: u64 length of the header, the header, the tensors' bytes. The header is a JSON object that
//! maps each tensor's name to its type, shape and byte range, and `__metadata__` to free-form notes.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use larql_compute::Format;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::checkpoint::placeholder;
use crate::config::shorten;
use crate::tensor::{Encoding, StoredTensor};
use crate::{ModelError, python_json};

/// Longest header that is read: the limit that the reference implementation sets.
const LONGEST_HEADER: u64 = 100_000_000;

/// Header of a file, before the tensors: its length and a JSON object, padded with spaces so that the tensors
/// start at a cache line. `tensors` are name, type, shape and number of bytes, in the order of the bytes.
pub fn safetensors_header<S: AsRef<str>>(
    metadata: Map<String, Value>,
    tensors: impl IntoIterator<Item = (S, S, Vec<usize>, u64)>,
) -> Vec<u8> {
    const ALIGNMENT: usize = 64;
    let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(metadata))]);
    let mut start = 0;
    for (name, dtype, shape, bytes) in tensors {
        let end = start + bytes;
        header.insert(
            name.as_ref().to_owned(),
            json!({ "dtype": dtype.as_ref(), "shape": shape, "data_offsets": [start, end] }),
        );
        start = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize((text.len() + 8).next_multiple_of(ALIGNMENT) - 8, b' ');
    [&(text.len() as u64).to_le_bytes(), &text[..]].concat()
}

/// The tensors of one safetensors file.
#[derive(Clone, Debug)]
pub struct SafetensorsFile {
    tensors: Vec<StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl SafetensorsFile {
    /// Maps and validates a file.
    ///
    /// # Errors
    /// As [`SafetensorsFile::parse`], or if the file cannot be mapped.
    pub fn open(path: &Path) -> Result<SafetensorsFile, ModelError> {
        let bytes =
            larql_compute::map_file(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        match placeholder(path, &bytes) {
            Some(error) => Err(error),
            None => SafetensorsFile::parse(bytes, path),
        }
    }

    /// Validates the bytes of a file; `path` is its name in messages.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] unless the header is sound, names each tensor once, and its tensors cover the
    /// rest of the file exactly, without gap or overlap, each as long as its shape and type need.
    pub fn parse(bytes: Bytes, path: &Path) -> Result<SafetensorsFile, ModelError> {
        let (header, data_start) = read_header(&bytes, path)?;
        let mut infos: Vec<(String, TensorInfo)> = header.tensors.into_iter().collect();
        infos.sort_by_key(|(_, info)| info.data_offsets);

        let data = bytes.slice(data_start..);
        let mut tensors = Vec::new();
        let mut expected_start = 0;
        for (name, info) in infos {
            let (start, end) = info.data_offsets;
            let wrong = |expected: String, found: String| {
                ModelError::malformed(path, format!("tensor `{}`", shorten(&name)), expected, found)
            };
            if start != expected_start {
                return Err(wrong(format!("data from {expected_start} on"), format!("data_offsets {start}")));
            }
            let size = byte_size(&info).ok_or_else(|| {
                wrong("a shape of whole bytes that memory can address".into(), format!("{:?}", info.shape))
            })?;
            if end.checked_sub(start) != Some(size) {
                let expected = format!("{size} bytes for {} {:?}", info.dtype, info.shape);
                return Err(wrong(expected, format!("data_offsets {start} to {end}")));
            }
            if end > data.len() {
                let found =
                    format!("{} bytes of data in the file (was it downloaded completely?)", data.len());
                return Err(wrong(format!("data up to {end}"), found));
            }
            expected_start = end;
            tensors.push(StoredTensor {
                name,
                encoding: encoding(info.dtype),
                shape: info.shape,
                offset: data_start + start,
                bytes: data.slice(start..end),
            });
        }
        if expected_start != data.len() {
            let expected = format!("{expected_start} bytes, as the header says");
            return Err(ModelError::malformed(path, "data", expected, format!("{} bytes", data.len())));
        }
        Ok(SafetensorsFile { tensors, metadata: header.metadata })
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

/// The header, and where the data starts.
fn read_header(bytes: &Bytes, path: &Path) -> Result<(Header, usize), ModelError> {
    let wrong = |expected: &str, found: String| ModelError::malformed(path, "header", expected, found);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(wrong("at least 8 bytes", format!("a file of {}", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER.min(rest.len() as u64) {
        let found = format!("a header of {length} bytes in a file of {}", bytes.len());
        return Err(wrong("a header inside the file, of at most 100 MB", found));
    }
    let length = length as usize;
    let header = serde_json::from_slice(&rest[..length])
        .map_err(|error| wrong("a JSON object of tensors", error.to_string()))?;
    Ok((header, 8 + length))
}

/// Bytes that a tensor takes; none if they are more than memory can address, or not whole.
fn byte_size(info: &TensorInfo) -> Option<usize> {
    let values = info.shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size))?;
    let bits = values.checked_mul(info.dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// The header as JSON has it, except that a name given twice is an error.
struct Header {
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
                let mut header = Header { tensors: BTreeMap::new(), metadata: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                        continue;
                    }
                    match header.tensors.entry(name) {
                        Entry::Vacant(entry) => entry.insert(map.next_value()?),
                        Entry::Occupied(entry) => {
                            let name = shorten(entry.key());
                            return Err(M::Error::custom(format!("tensor `{name}` twice")));
                        }
                    };
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
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
    shard_of: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads and validates an index.
    ///
    /// # Errors
    /// As [`ShardIndex::parse`], or if the file cannot be read.
    pub fn read(path: &Path) -> Result<ShardIndex, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        ShardIndex::parse(&bytes, path)
    }

    /// Validates the bytes of an index; `path` is its name in messages.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] if it is not JSON with a `weight_map` from names to file names, or if a file
    /// name would lead out of the index's own directory.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<ShardIndex, ModelError> {
        #[derive(serde::Deserialize)]
        struct Content {
            weight_map: BTreeMap<String, String>,
        }
        let content: Content = python_json::parse(bytes).map_err(|error| {
            ModelError::malformed(path, "content", "an object with a `weight_map`", error.to_string())
        })?;
        for (tensor, shard) in &content.weight_map {
            if Path::new(shard).file_name() != Some(shard.as_ref()) || shard.contains('\\') {
                let field = format!("weight_map of `{}`", shorten(tensor));
                let found = format!("\"{}\"", shorten(shard));
                return Err(ModelError::malformed(path, field, "the name of a file beside the index", found));
            }
        }
        Ok(ShardIndex { shard_of: content.weight_map })
    }

    /// Names of the shards, sorted.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.shard_of.values().map(String::as_str).collect()
    }
}
