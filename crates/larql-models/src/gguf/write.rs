//! Writing GGUF files, version 3.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use larql_compute::Format;
use tempfile::TempPath;

use super::value::{write as write_value, write_string};
use super::{GgufValue, MAGIC, MOST_DIMENSIONS, byte_size, read_alignment};
use crate::ModelError;
use crate::config::shorten;
use crate::tensor::Encoding;

/// The version that is written.
const VERSION: u32 = 3;

/// Description of a tensor ahead of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// Its name.
    pub name: String,
    /// Encoding of its values.
    pub format: Format,
    /// Dimensions, outermost first, as in [`GgufFile::tensors`](super::GgufFile::tensors).
    pub shape: Vec<usize>,
}

/// Writer of a GGUF file: the descriptions of the tensors are written first, then their bytes in the same order.
///
/// It stands under a temporary name beside its target until [`finish`](GgufWriter::finish). Dropping it earlier
/// removes that file.
///
/// ```
/// use larql_models::{GgufFile, GgufTensor, GgufValue, GgufWriter};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("tiny.gguf");
/// let metadata = [("general.architecture".into(), GgufValue::String("none".into()))];
/// let format = larql_compute::Format::F32;
/// let tensors = vec![GgufTensor { name: "norm".into(), format, shape: vec![2] }];
/// let mut writer = GgufWriter::create(&path, &metadata, tensors)?;
/// writer.write("norm", &[0, 0, 128, 63, 0, 0, 128, 63])?;
/// writer.finish()?;
/// assert_eq!(GgufFile::open(&path)?.tensor("norm").unwrap().shape, [2]);
/// # Ok(())
/// # }
/// ```
pub struct GgufWriter {
    file: BufWriter<File>,
    /// After the file, which is closed before it is removed.
    temporary: TempPath,
    target: PathBuf,
    alignment: u64,
    /// Each tensor's name and size in bytes.
    tensors: Vec<(String, u64)>,
    /// Index of the tensor that is being written, and how much of it has been.
    current: (usize, u64),
}

impl GgufWriter {
    /// Starts a file and writes everything that stands before the tensors' bytes.
    ///
    /// # Errors
    /// [`ModelError::Contradiction`] if a name is given twice, [`ModelError::Malformed`] or [`ModelError::Tensor`]
    /// if a shape or the alignment cannot be; [`ModelError::Io`] if the file cannot be written.
    pub fn create(
        path: &Path,
        metadata: &[(String, GgufValue)],
        tensors: Vec<GgufTensor>,
    ) -> Result<GgufWriter, ModelError> {
        let alignment = read_alignment(metadata, path)?;
        let twice = repeated(metadata.iter().map(|(key, _)| key))
            .or_else(|| repeated(tensors.iter().map(|tensor| &tensor.name)));
        if let Some(name) = twice {
            let problem = format!("`{}` would be in it twice", shorten(name));
            return Err(ModelError::Contradiction { path: path.into(), problem });
        }

        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            write_string(key, &mut head);
            write_value(value, &mut head);
        }
        let mut offset = 0u64;
        let mut sizes = Vec::with_capacity(tensors.len());
        for tensor in &tensors {
            let size = describe(tensor, offset, path, &mut head)?;
            let end = offset.checked_add(size).and_then(|end| end.checked_next_multiple_of(alignment));
            offset = end.ok_or_else(|| {
                let field = format!("tensor `{}`", shorten(&tensor.name));
                ModelError::malformed(path, field, "an end within 2^64 bytes", format!("{:?}", tensor.shape))
            })?;
            sizes.push((tensor.name.clone(), size));
        }
        head.resize(head.len().next_multiple_of(alignment as usize), 0);

        let temporary = temporary_name(path);
        let file = File::create(&temporary).map_err(|source| io(&temporary, source))?;
        let mut writer = GgufWriter {
            temporary: TempPath::try_from_path(&temporary).map_err(|source| io(&temporary, source))?,
            target: path.into(),
            file: BufWriter::with_capacity(1 << 20, file),
            alignment,
            tensors: sizes,
            current: (0, 0),
        };
        writer.put(&head)?;
        Ok(writer)
    }

    /// Writes the next bytes of the tensor `name`: of the first one, until it is complete, then of the second, and
    /// so on.
    ///
    /// # Errors
    /// [`ModelError::Contradiction`] if it is another tensor's turn or the bytes are more than the tensor has;
    /// [`ModelError::Io`] if they cannot be written.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), ModelError> {
        let (index, written) = self.current;
        let Some((expected, size)) = self.tensors.get(index) else {
            return Err(self.out_of_step(format!("`{}` comes after the last tensor", shorten(name))));
        };
        let size = *size;
        if expected != name {
            let problem =
                format!("it is the turn of `{}`, but `{}` was given", shorten(expected), shorten(name));
            return Err(self.out_of_step(problem));
        }
        let after = written + bytes.len() as u64;
        if after > size {
            let problem = format!("`{}` has {size} bytes, but {after} were given", shorten(name));
            return Err(self.out_of_step(problem));
        }
        self.put(bytes)?;
        self.current = (index, after);
        if after == size {
            let padding = size.next_multiple_of(self.alignment) - size;
            self.put(&vec![0; padding as usize])?;
            self.current = (index + 1, 0);
        }
        Ok(())
    }

    /// Puts the file in place once all of it is on the disk; its size in bytes.
    ///
    /// # Errors
    /// [`ModelError::Contradiction`] if a tensor is incomplete; [`ModelError::Io`] if the file cannot be written.
    pub fn finish(self) -> Result<u64, ModelError> {
        let (index, written) = self.current;
        if let Some((name, size)) = self.tensors.get(index) {
            let problem = format!("`{}` has {size} bytes, but only {written} were given", shorten(name));
            return Err(self.out_of_step(problem));
        }
        let failed = |source| io(&self.target, source);
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        self.temporary.persist(&self.target).map_err(|error| failed(error.error))?;
        // A new name survives a power cut once its directory is on the disk; only Unix can open directories.
        if let Some(parent) = self.target.parent().filter(|_| cfg!(unix)) {
            let directory = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        }
        Ok(size)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        self.file.write_all(bytes).map_err(|source| io(&self.temporary, source))
    }

    fn out_of_step(&self, problem: String) -> ModelError {
        ModelError::Contradiction { path: self.target.clone(), problem }
    }
}

/// Appends a tensor's description; its size in bytes.
fn describe(tensor: &GgufTensor, offset: u64, path: &Path, head: &mut Vec<u8>) -> Result<u64, ModelError> {
    let GgufTensor { name, format, shape } = tensor;
    if shape.is_empty() || shape.len() > MOST_DIMENSIONS as usize || shape.contains(&0) {
        let expected = format!("1 to {MOST_DIMENSIONS} dimensions above 0");
        return Err(ModelError::malformed(
            path,
            format!("tensor `{}`", shorten(name)),
            expected,
            format!("{shape:?}"),
        ));
    }
    let size = byte_size(name, Encoding::Format(*format), shape, path)?;
    write_string(name, head);
    head.extend((shape.len() as u32).to_le_bytes());
    head.extend(shape.iter().rev().flat_map(|size| (*size as u64).to_le_bytes()));
    let number = format.ggml_type().ok_or_else(|| {
        let feature = format!("a tensor in {format}");
        ModelError::unsupported(path, feature, "write safetensors instead")
    })?;
    head.extend(number.to_le_bytes());
    head.extend(offset.to_le_bytes());
    Ok(size as u64)
}

/// The first name that was there before.
fn repeated<'a>(names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(name.as_str()))
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

fn io(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let format = Format::F32;
        let tensors = vec![GgufTensor { name: "norm".into(), format, shape: vec![2] }];
        let mut writer = GgufWriter::create(&path, &[], tensors).unwrap();
        assert!(writer.write("other", &[0; 8]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
