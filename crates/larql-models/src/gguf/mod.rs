//! GGUF files, little-endian: versions 2 and 3 are read, version 3 is written.
//!
//! Layout: the magic `GGUF`, u32 version, u64 number of tensors, u64 number of metadata entries, the entries,
//! the tensors' descriptions, and the tensors' bytes from the next multiple of the alignment on. Strings are a
//! u64 length and UTF-8.

mod config;
mod cursor;
mod split;
mod value;
mod vocabulary;
mod write;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larql_compute::Format;

use crate::ModelError;
use crate::checkpoint::placeholder;
use crate::config::shorten;
use crate::tensor::{Encoding, StoredTensor};
use cursor::Cursor;

pub(crate) use config::metadata_key;
pub(crate) use split::split_part;
pub use value::{GgufArray, GgufType, GgufValue};
pub use write::{GgufTensor, GgufWriter};

const MAGIC: &[u8] = b"GGUF";

/// ggml's limit on dimensions.
const MOST_DIMENSIONS: u32 = 4;

/// Alignment of tensors where `general.alignment` is absent.
const DEFAULT_ALIGNMENT: u64 = 32;

/// A GGUF file whose every count, length and offset has been validated.
#[derive(Clone, Debug)]
pub struct GgufFile {
    path: PathBuf,
    version: u32,
    alignment: u64,
    metadata: Vec<(String, GgufValue)>,
    /// The metadata entries as the file has them.
    metadata_bytes: Bytes,
    tensors: Vec<StoredTensor>,
    /// The file, or all files of a split model.
    files: Vec<PathBuf>,
    /// For each tensor the index of its file.
    file_of: Vec<usize>,
}

/// Returns true if bytes begin as a GGUF file does.
pub(crate) fn is_gguf(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

impl GgufFile {
    /// Maps and validates a file; of a model that is split into several, all of them, whichever is given.
    ///
    /// # Errors
    /// As [`GgufFile::parse`], or if a file cannot be mapped or is not there.
    pub fn open(path: &Path) -> Result<GgufFile, ModelError> {
        GgufFile::open_alone(path)?.joined()
    }

    /// Maps and validates one file.
    fn open_alone(path: &Path) -> Result<GgufFile, ModelError> {
        let bytes =
            larql_compute::map_file(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        match placeholder(path, &bytes) {
            Some(error) => Err(error),
            None => GgufFile::parse(bytes, path),
        }
    }

    /// Validates the bytes of a file; `path` is its name in messages. Arrays and tensors stay where they are.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] if anything reaches past the end, overlaps, is misaligned, named twice, not
    /// UTF-8 or of an unknown type; [`ModelError::Unsupported`] for versions and tensor types that are not read.
    pub fn parse(bytes: Bytes, path: &Path) -> Result<GgufFile, ModelError> {
        let mut cursor = Cursor::new(&bytes, path);
        let version = read_version(&mut cursor)?;
        let tensor_count = cursor.u64("tensor_count")?;
        let metadata_count = cursor.u64("metadata_kv_count")?;
        let metadata_start = cursor.position();
        let metadata = read_metadata(&mut cursor, metadata_count)?;
        let metadata_bytes = cursor.shared_since(metadata_start);
        let alignment = read_alignment(&metadata, path)?;
        let mut tensors = read_tensors(&mut cursor, tensor_count)?;
        let data_start = (cursor.position() as u64).next_multiple_of(alignment);
        lay_out(&mut tensors, &bytes, data_start, alignment, path)?;

        Ok(GgufFile {
            path: path.into(),
            version,
            alignment,
            metadata,
            metadata_bytes,
            files: vec![path.into()],
            file_of: vec![0; tensors.len()],
            tensors,
        })
    }

    /// A file that has yet to be written, to ask what it would say of a model: of its tensors only names, shapes
    /// and those bytes that are given.
    pub(crate) fn described(
        path: &Path,
        metadata: Vec<(String, GgufValue)>,
        tensors: Vec<(GgufTensor, Vec<u8>)>,
    ) -> GgufFile {
        let tensors = tensors.into_iter().map(|(GgufTensor { name, format, shape }, bytes)| StoredTensor {
            name,
            encoding: Encoding::Format(format),
            shape,
            offset: 0,
            bytes: bytes.into(),
        });
        let tensors: Vec<StoredTensor> = tensors.collect();
        GgufFile {
            path: path.into(),
            version: 3,
            alignment: DEFAULT_ALIGNMENT,
            metadata,
            metadata_bytes: Bytes::new(),
            files: vec![path.into()],
            file_of: vec![0; tensors.len()],
            tensors,
        }
    }

    /// The file; of several, the first.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, or all files of a split model, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// For each tensor the index of its file.
    pub(crate) fn file_of(&self) -> &[usize] {
        &self.file_of
    }

    /// Version of the container.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of the tensors' offsets, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Its metadata, in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &GgufValue)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// One metadata value.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Its tensors, in the order of their descriptions; shapes are outermost first, so the reverse of how the
    /// file lists dimensions.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// One tensor.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// A GGUF file with the same metadata and no tensors: enough to make its tokenizer again.
    pub fn metadata_only(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        bytes.extend(&self.metadata_bytes);
        bytes
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, ModelError> {
    let magic = cursor.take(4, "magic")?;
    if magic != MAGIC {
        return Err(cursor.malformed("magic", "the four bytes GGUF", format!("{magic:?}")));
    }
    match cursor.u32("version")? {
        version @ (2 | 3) => Ok(version),
        1 => Err(ModelError::unsupported(cursor.path(), "GGUF version 1", "convert the model again")),
        version if version.swap_bytes() <= 3 => Err(ModelError::unsupported(
            cursor.path(),
            "a big-endian GGUF file",
            "convert the model for little-endian machines",
        )),
        version => Err(cursor.malformed("version", "2 or 3", version.to_string())),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<(String, GgufValue)>, ModelError> {
    // The shortest entry is an empty key and one byte: 8 bytes of length, 4 of type, 1 of value.
    cursor.check_count(count, 13, "metadata_kv_count")?;
    let mut metadata = Vec::new();
    let mut seen = HashSet::new();
    for index in 0..count {
        let key = cursor.string(&format!("key {index}"))?.to_owned();
        let value = value::read(cursor, &format!("`{key}`"))?;
        if !seen.insert(key.clone()) {
            return Err(cursor.malformed(&format!("key {index}"), "a new key", format!("`{key}` again")));
        }
        metadata.push((key, value));
    }
    Ok(metadata)
}

fn read_alignment(metadata: &[(String, GgufValue)], path: &Path) -> Result<u64, ModelError> {
    const KEY: &str = "general.alignment";
    let Some((_, value)) = metadata.iter().find(|(key, _)| key == KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    match value.as_u64() {
        Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 20 => Ok(alignment),
        _ => Err(ModelError::malformed(
            path,
            format!("`{KEY}`"),
            "a power of two up to 2^20",
            value.to_string(),
        )),
    }
}

/// Reads the descriptions; `offset` is still relative to the start of the data and `bytes` are empty.
fn read_tensors(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<StoredTensor>, ModelError> {
    // The shortest description: 8 bytes of length, 4 of dimensions, 4 of type, 8 of offset.
    cursor.check_count(count, 24, "tensor_count")?;
    let mut tensors = Vec::new();
    let mut seen = HashSet::new();
    for index in 0..count {
        let name = cursor.string(&format!("name of tensor {index}"))?.to_owned();
        let field = format!("tensor `{}`", shorten(&name));
        if !seen.insert(name.clone()) {
            return Err(cursor.malformed(&field, "one of that name", "another"));
        }
        let dimensions = cursor.u32(&field)?;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            let expected = format!("1 to {MOST_DIMENSIONS} dimensions");
            return Err(cursor.malformed(&field, expected, dimensions.to_string()));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = cursor.u64(&field)?;
            match usize::try_from(size) {
                Ok(size) if size > 0 => shape.insert(0, size),
                _ => return Err(cursor.malformed(&field, "dimensions above 0", size.to_string())),
            }
        }
        let number = cursor.u32(&field)?;
        let format = Format::from_ggml_type(number).map_err(|source| ModelError::Tensor {
            path: cursor.path().into(),
            tensor: shorten(&name),
            source,
        })?;
        let offset = cursor.u64(&field)?;
        let offset = usize::try_from(offset)
            .map_err(|_| cursor.malformed(&field, "an offset in the file", offset.to_string()))?;
        let encoding = Encoding::Format(format);
        tensors.push(StoredTensor { name, encoding, shape, offset, bytes: Bytes::new() });
    }
    Ok(tensors)
}

/// Gives each tensor its bytes, after checking that they lie in the file, aligned, and belong to it alone.
fn lay_out(
    tensors: &mut [StoredTensor],
    bytes: &Bytes,
    data_start: u64,
    alignment: u64,
    path: &Path,
) -> Result<(), ModelError> {
    for tensor in tensors.iter_mut() {
        let wrong = |expected: String, found: String| {
            ModelError::malformed(path, format!("tensor `{}`", shorten(&tensor.name)), expected, found)
        };
        let size = byte_size(&tensor.name, tensor.encoding, &tensor.shape, path)?;
        if !(tensor.offset as u64).is_multiple_of(alignment) {
            return Err(wrong(format!("an offset in multiples of {alignment}"), tensor.offset.to_string()));
        }
        let start = usize::try_from(data_start).ok().and_then(|start| start.checked_add(tensor.offset));
        let end = start.and_then(|start| start.checked_add(size));
        match (start, end) {
            (Some(start), Some(end)) if end <= bytes.len() => {
                tensor.offset = start;
                tensor.bytes = bytes.slice(start..end);
            }
            _ => {
                let found = format!(
                    "a file of {} bytes, whose data starts at {data_start} (was it downloaded completely?)",
                    bytes.len()
                );
                return Err(wrong(format!("{size} bytes at {} of the data", tensor.offset), found));
            }
        }
    }
    let mut ranges: Vec<&StoredTensor> = tensors.iter().collect();
    ranges.sort_by_key(|tensor| tensor.offset);
    for pair in ranges.windows(2) {
        if pair[0].offset + pair[0].bytes.len() > pair[1].offset {
            let field = format!("tensor `{}`", shorten(&pair[1].name));
            let expected = format!("bytes after those of `{}`", shorten(&pair[0].name));
            return Err(ModelError::malformed(path, field, expected, "an overlap"));
        }
    }
    Ok(())
}

/// Bytes of a tensor whose rows are encoded one by one.
fn byte_size(name: &str, encoding: Encoding, shape: &[usize], path: &Path) -> Result<usize, ModelError> {
    let Encoding::Format(format) = encoding else { return Ok(0) };
    let (cols, rows) = match shape.split_last() {
        Some((cols, outer)) => (*cols, outer.iter().try_fold(1usize, |rows, size| rows.checked_mul(*size))),
        None => (0, Some(0)),
    };
    let row_bytes = format.row_bytes(cols).map_err(|source| ModelError::Tensor {
        path: path.into(),
        tensor: shorten(name),
        source,
    })?;
    rows.and_then(|rows| rows.checked_mul(row_bytes)).ok_or_else(|| {
        ModelError::malformed(
            path,
            format!("tensor `{}`", shorten(name)),
            "a shape that memory can address",
            format!("{shape:?}"),
        )
    })
}
