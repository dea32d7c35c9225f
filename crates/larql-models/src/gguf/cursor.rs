//! Reading forward through bytes that may end anywhere.

use std::path::Path;

use bytes::Bytes;

use crate::ModelError;

/// A position in the bytes of a GGUF file. Every read says which field it is for.
pub(super) struct Cursor<'a> {
    bytes: &'a Bytes,
    position: usize,
    path: &'a Path,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a Bytes, path: &'a Path) -> Cursor<'a> {
        Cursor { bytes, position: 0, path }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    pub(super) fn malformed(
        &self,
        field: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> ModelError {
        ModelError::malformed(self.path, field, expected, found)
    }

    /// Fails if `count` things of at least `least_bytes` each cannot fit in what is left.
    pub(super) fn check_count(&self, count: u64, least_bytes: u64, field: &str) -> Result<(), ModelError> {
        let left = (self.bytes.len() - self.position) as u64;
        if count > left / least_bytes {
            let expected = format!("at most {}, for {left} bytes are left", left / least_bytes);
            return Err(self.malformed(field, expected, count.to_string()));
        }
        Ok(())
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: u64, field: &str) -> Result<&'a [u8], ModelError> {
        let start = self.position;
        let left = self.bytes.len() - start;
        if length > left as u64 {
            return Err(self.malformed(
                field,
                format!("{length} bytes"),
                format!("{left} before the file's end"),
            ));
        }
        self.position += length as usize;
        Ok(&self.bytes[start..self.position])
    }

    /// The bytes from `start` up to here, shared with the file.
    pub(super) fn shared_since(&self, start: usize) -> Bytes {
        self.bytes.slice(start..self.position)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], ModelError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, field)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &str) -> Result<u8, ModelError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, field: &str) -> Result<u16, ModelError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &str) -> Result<u32, ModelError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &str) -> Result<u64, ModelError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self, field: &str) -> Result<&'a str, ModelError> {
        let length = self.u64(field)?;
        let bytes = self.take(length, field)?;
        std::str::from_utf8(bytes).map_err(|error| self.malformed(field, "UTF-8", error.to_string()))
    }

    /// A string whose bytes may be anything; those that are not UTF-8 become U+FFFD.
    pub(super) fn lossy_string(&mut self, field: &str) -> Result<String, ModelError> {
        let length = self.u64(field)?;
        Ok(String::from_utf8_lossy(self.take(length, field)?).into_owned())
    }

    pub(super) fn bool(&mut self, field: &str) -> Result<bool, ModelError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.malformed(field, "0 or 1", other.to_string())),
        }
    }
}
