//! Atomic writing of files.

use std::fs::File;
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use larql_compute::ComputeError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::plan::PlannedTensor;
use crate::VindexError;
use crate::digest::hexadecimal;

/// Length and digest of a finished file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FinishedFile {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// A file that is being written under a temporary name. Dropping it unfinished removes the temporary file.
pub(crate) struct FileWriter {
    file: File,
    /// After the file, which is closed before it is removed.
    temporary: TempPath,
    target: PathBuf,
    /// True if it is in a folder of the vindex, which has to be made durable too.
    is_in_folder: bool,
    /// Bytes that are not in the file yet.
    pending: Vec<u8>,
    digest: Digesting,
    bytes: u64,
}

/// Bytes that go into the file together.
const PIECE: usize = 1 << 20;

/// Greatest number of pieces that wait for their digest.
const WAITING: usize = 8;

/// A digest that a second thread computes while the bytes are produced and written.
struct Digesting {
    pieces: SyncSender<Vec<u8>>,
    thread: JoinHandle<Sha256>,
}

impl Digesting {
    fn start() -> std::io::Result<Digesting> {
        let (pieces, received) = sync_channel::<Vec<u8>>(WAITING);
        let digest = move || {
            let mut digest = Sha256::new();
            received.iter().for_each(|piece| digest.update(piece));
            digest
        };
        let thread = std::thread::Builder::new().name("larql-digest".into()).spawn(digest)?;
        Ok(Digesting { pieces, thread })
    }

    fn update(&self, piece: Vec<u8>) {
        // The thread takes pieces until there are no more; had it panicked, `finish` would tell.
        let _ = self.pieces.send(piece);
    }

    fn finish(self) -> String {
        drop(self.pieces);
        match self.thread.join() {
            Ok(digest) => hexadecimal(digest.finalize()),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl FileWriter {
    pub(crate) fn create(directory: &Path, name: &str) -> Result<FileWriter, VindexError> {
        let (target, temporary) = (directory.join(name), directory.join(format!("{name}.tmp")));
        if let Some(folder) = target.parent().filter(|folder| *folder != directory) {
            std::fs::create_dir_all(folder).map_err(VindexError::io(folder))?;
        }
        let file = File::create(&temporary).map_err(VindexError::io(&temporary))?;
        let path = temporary;
        let temporary = TempPath::try_from_path(&path).map_err(VindexError::io(&path))?;
        let digest = Digesting::start().map_err(VindexError::io(&path))?;
        Ok(FileWriter {
            is_in_folder: target.parent() != Some(directory),
            temporary,
            target,
            digest,
            file,
            pending: Vec::new(),
            bytes: 0,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), VindexError> {
        self.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            self.pending.reserve(PIECE - self.pending.len());
            let (fitting, after) = rest.split_at(rest.len().min(PIECE - self.pending.len()));
            self.pending.extend_from_slice(fitting);
            rest = after;
            if self.pending.len() == PIECE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), VindexError> {
        let piece = std::mem::take(&mut self.pending);
        self.file.write_all(&piece).map_err(VindexError::io(&self.target))?;
        self.digest.update(piece);
        Ok(())
    }

    /// The error for a tensor of this file that cannot be encoded.
    pub(crate) fn failed(&self, tensor: &PlannedTensor) -> impl Fn(ComputeError) -> VindexError + use<> {
        let (path, tensor) = (self.target.clone(), tensor.key.clone());
        move |source| VindexError::Tensor { path: path.clone(), tensor: tensor.clone(), source }
    }

    /// Puts the file in place once all of it is on the disk.
    pub(crate) fn finish(mut self) -> Result<FinishedFile, VindexError> {
        self.flush()?;
        let failed = VindexError::io(&self.target);
        self.file.sync_all().map_err(&failed)?;
        self.temporary.persist(&self.target).map_err(|error| failed(error.error))?;
        if self.is_in_folder {
            self.target.parent().map_or(Ok(()), sync_directory)?;
        }
        Ok(FinishedFile { bytes: self.bytes, sha256: self.digest.finish() })
    }
}

/// Writes a small file whole.
pub(crate) fn write_file(directory: &Path, name: &str, bytes: &[u8]) -> Result<FinishedFile, VindexError> {
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
