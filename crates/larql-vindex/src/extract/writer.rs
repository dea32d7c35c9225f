//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use larql_compute::ComputeError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::PlannedTensor;
use crate::VindexError;
use crate::digest::hexadecimal;

/// What is known of a finished file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finished {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// A file that is being written under a temporary name. Dropping it unfinished leaves the temporary file, which
/// the next attempt overwrites.
pub(crate) struct FileWriter {
    temporary: PathBuf,
    target: PathBuf,
    /// Whether it lies in a folder of the vindex, which nobody else makes durable.
    is_in_folder: bool,
    file: BufWriter<File>,
    digest: Sha256,
    bytes: u64,
}

impl FileWriter {
    pub(crate) fn create(directory: &Path, name: &str) -> Result<FileWriter, VindexError> {
        let (target, temporary) = (directory.join(name), directory.join(format!("{name}.tmp")));
        if let Some(folder) = target.parent().filter(|folder| *folder != directory) {
            std::fs::create_dir_all(folder).map_err(VindexError::io(folder))?;
        }
        let file = File::create(&temporary).map_err(VindexError::io(&temporary))?;
        Ok(FileWriter {
            is_in_folder: target.parent() != Some(directory),
            temporary,
            target,
            file: BufWriter::with_capacity(1 << 20, file),
            digest: Sha256::new(),
            bytes: 0,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), VindexError> {
        self.file.write_all(bytes).map_err(VindexError::io(&self.target))?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The error for a tensor of this file that cannot be encoded.
    pub(crate) fn failed(&self, tensor: &PlannedTensor) -> impl Fn(ComputeError) -> VindexError + use<> {
        let (path, tensor) = (self.target.clone(), tensor.key.clone());
        move |source| VindexError::Tensor { path: path.clone(), tensor: tensor.clone(), source }
    }

    /// Puts the file in place once all of it is on the disk.
    pub(crate) fn finish(self) -> Result<Finished, VindexError> {
        let failed = VindexError::io(&self.target);
        let file = self.file.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(&failed)?;
        std::fs::rename(&self.temporary, &self.target).map_err(&failed)?;
        if self.is_in_folder {
            self.target.parent().map_or(Ok(()), sync_directory)?;
        }
        Ok(Finished { bytes: self.bytes, sha256: hexadecimal(self.digest.finalize()) })
    }
}

/// Writes a small file whole.
pub(crate) fn write_file(directory: &Path, name: &str, bytes: &[u8]) -> Result<Finished, VindexError> {
    let mut writer = FileWriter::create(directory, name)?;
    writer.write(bytes)?;
    writer.finish()
}

/// Makes sure that names given to files in a directory survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), VindexError> {
    // Only Unix can open directories for this; elsewhere renames are durable by themselves or not at all.
    if cfg!(unix) {
        File::open(directory).and_then(|d| d.sync_all()).map_err(VindexError::io(directory))?;
    }
    Ok(())
}
