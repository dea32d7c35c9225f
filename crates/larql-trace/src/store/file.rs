//! Reading of headers and mapped floats, and writing in the order that survives a crash.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larql_compute::map_file;

use super::{ModelDigest, StoreError};

/// Version of all stores.
const VERSION: u32 = 1;

/// A mapped store whose first bytes and version were checked.
#[derive(Clone, Debug)]
pub(super) struct StoreFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Bytes,
}

impl StoreFile {
    /// Maps a file that begins with `magic` and has at least `header` bytes.
    pub(super) fn open(
        path: &Path,
        kind: &'static str,
        magic: &'static str,
        header: usize,
    ) -> Result<StoreFile, StoreError> {
        let bytes = map_file(path).map_err(|source| StoreError::io(path, source))?;
        let start = bytes.slice(..bytes.len().min(magic.len()));
        if start != magic.as_bytes() {
            let found = String::from_utf8_lossy(&start).into_owned();
            return Err(StoreError::NotAStore { path: path.into(), kind, expected: magic, found });
        }
        let file = StoreFile { path: path.into(), bytes };
        file.require(header as u64)?;
        match file.u32(4) {
            VERSION => Ok(file),
            found => Err(StoreError::Version { path: file.path, found }),
        }
    }

    /// Fails if the file has fewer bytes.
    pub(super) fn require(&self, expected: u64) -> Result<(), StoreError> {
        let found = self.bytes.len() as u64;
        if found < expected {
            return Err(StoreError::TooShort { path: self.path.clone(), expected, found });
        }
        Ok(())
    }

    /// The number at an offset that the file was checked to have, as in the other methods.
    pub(super) fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes[offset..offset + 4].try_into().unwrap_or_default())
    }

    pub(super) fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes[offset..offset + 8].try_into().unwrap_or_default())
    }

    /// A size from the header, which must not be 0 and must fit in memory.
    pub(super) fn size(&self, what: &'static str, offset: usize) -> Result<usize, StoreError> {
        const LIMIT: u32 = 1 << 24;
        match self.u32(offset) {
            found if found == 0 || found > LIMIT => {
                let expected = format!("1 to {LIMIT}");
                Err(StoreError::Header { path: self.path.clone(), what, found: found.into(), expected })
            }
            size => Ok(size as usize),
        }
    }

    pub(super) fn digest(&self, offset: usize) -> ModelDigest {
        ModelDigest(self.bytes[offset..offset + 32].try_into().unwrap_or_default())
    }

    /// Fails if the file names another model than `model`.
    pub(super) fn require_model(&self, offset: usize, model: &ModelDigest) -> Result<(), StoreError> {
        match self.digest(offset).differs(model) {
            true => Err(StoreError::OtherModel { path: self.path.clone() }),
            false => Ok(()),
        }
    }

    /// Floats at an offset. Offsets of floats are multiples of 4 in every store.
    pub(super) fn floats(&self, offset: usize, count: usize) -> &[f32] {
        bytemuck::cast_slice(&self.bytes[offset..offset + count * 4])
    }
}

/// A file that is written piece by piece.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) path: PathBuf,
    file: File,
    /// Bytes that are whole.
    pub(super) end: u64,
}

impl Appender {
    /// Makes a new file with its first bytes.
    pub(super) fn create(path: &Path, start: &[u8]) -> Result<Appender, StoreError> {
        let failed = |source| StoreError::io(path, source);
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(failed)?;
        file.write_all(start).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        Ok(Appender { path: path.into(), file, end: start.len() as u64 })
    }

    /// Opens a file of which `end` bytes are whole, and cuts off the rest.
    pub(super) fn open(path: &Path, end: u64) -> Result<Appender, StoreError> {
        let failed = |source| StoreError::io(path, source);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        file.set_len(end).map_err(failed)?;
        Ok(Appender { path: path.into(), file, end })
    }

    /// Appends bytes, which count once the header does.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_at(self.end, bytes)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Overwrites bytes.
    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|source| StoreError::io(&self.path, source))
    }

    /// Waits until everything written so far is on the disk, so that what follows is never there without it.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|source| StoreError::io(&self.path, source))
    }
}

/// The first bytes of a file, to see whether one is to be appended to.
pub(super) fn exists_with_content(path: &Path) -> Result<bool, StoreError> {
    match File::open(path) {
        Ok(mut file) => {
            file.read(&mut [0]).map(|read| read > 0).map_err(|source| StoreError::io(path, source))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::io(path, source)),
    }
}

/// Writes numbers into a header.
pub(super) fn put(header: &mut [u8], offset: usize, bytes: &[u8]) {
    header[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// The bytes of a new header of `length` bytes.
pub(super) fn header(
    magic: &str,
    length: usize,
    fields: &[(usize, u32)],
    digest: (usize, &ModelDigest),
) -> Vec<u8> {
    let mut bytes = vec![0; length];
    put(&mut bytes, 0, magic.as_bytes());
    put(&mut bytes, 4, &VERSION.to_le_bytes());
    fields.iter().for_each(|(offset, value)| put(&mut bytes, *offset, &value.to_le_bytes()));
    put(&mut bytes, digest.0, &digest.1.0);
    bytes
}

/// Fails if a vector has another length.
pub(super) fn require_length(what: &'static str, found: &[f32], expected: usize) -> Result<(), StoreError> {
    match found.len() {
        length if length == expected => Ok(()),
        found => Err(StoreError::Length { what, expected, found }),
    }
}
