//! The files of one directory, mapped.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::{Damage, VindexError};

/// The files of a vindex, each mapped at the first use.
pub(crate) struct Files {
    root: PathBuf,
    mapped: HashMap<String, Option<Bytes>>,
}

impl Files {
    pub(crate) fn new(root: &Path) -> Files {
        Files { root: root.into(), mapped: HashMap::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The bytes of a file, or nothing if it is not there.
    pub(crate) fn optional(&mut self, name: &str) -> Result<Option<Bytes>, VindexError> {
        if let Some(bytes) = self.mapped.get(name) {
            return Ok(bytes.clone());
        }
        let path = self.path(name);
        let bytes = match larql_compute::map_file(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(VindexError::io(&path)(error)),
        };
        self.mapped.insert(name.to_owned(), bytes.clone());
        Ok(bytes)
    }

    /// The bytes of a file that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<Bytes, VindexError> {
        let path = self.path(name);
        self.optional(name)?.ok_or(VindexError::MissingFile { path })
    }

    /// A part of a file that must exist; `part` is its name in messages.
    pub(crate) fn slice(
        &mut self,
        name: &str,
        part: &str,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, VindexError> {
        let bytes = self.required(name)?;
        match offset.checked_add(length) {
            // Both fit into memory's address range because they are no larger than what is mapped.
            Some(end) if end <= bytes.len() as u64 => Ok(bytes.slice(offset as usize..end as usize)),
            _ => Err(VindexError::damaged(self.path(name))(Damage::new(
                part,
                format_args!("{length} bytes at byte {offset}"),
                format_args!("a file of {} bytes", bytes.len()),
            ))),
        }
    }
}
