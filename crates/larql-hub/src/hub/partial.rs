//! File that is being downloaded, under the name that it has until it is whole.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::HubError;

/// Bytes of a file that have come, on disk. What comes next is written after them.
#[derive(Debug)]
pub(super) struct PartialFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

impl PartialFile {
    /// Opens what an earlier attempt left, or an empty file.
    pub(super) fn open(path: PathBuf) -> Result<PartialFile, HubError> {
        let options = || File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = options().map_err(HubError::disk(&path))?;
        let bytes = file.seek(SeekFrom::End(0)).map_err(HubError::disk(&path))?;
        Ok(PartialFile { file, path, bytes })
    }

    /// Forgets all bytes.
    pub(super) fn restart(&mut self) -> Result<(), HubError> {
        self.bytes = 0;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(HubError::disk(&self.path))?;
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(HubError::disk(&self.path))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
