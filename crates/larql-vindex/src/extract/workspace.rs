//! The directory of a vindex until it is complete.
//!
//! Its name is that of the target with the ending `.partial`. A journal in it records the source, the options, and
//! the files that are complete; so an extraction that was stopped, killed or ran out of disk can go on, and one
//! from another source cannot go on by mistake. There is no `index.json` until everything else is in place.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tensors::Drift;
use super::writer::{FileWriter, FinishedFile, sync_directory, write_file};
use crate::VindexError;

const JOURNAL: &str = "extract.json";
const LOCK: &str = "extract.lock";

/// A vindex that is being written. The directory stays if it is dropped unfinished.
pub(crate) struct Workspace {
    target: PathBuf,
    directory: PathBuf,
    journal: Journal,
    /// Locked for as long as this process writes here.
    lock: File,
}

#[derive(Deserialize, Serialize)]
struct Journal {
    /// Source and options; resuming needs the same.
    identity: Value,
    files: BTreeMap<String, FinishedFile>,
    /// Differences of the tensors of finished files from the source, by file.
    #[serde(default)]
    drift: BTreeMap<String, Vec<Drift>>,
}

impl Workspace {
    /// Creates the directory for `target`, or continues in an existing one.
    ///
    /// # Errors
    /// If the target exists; if there is an unfinished one and `resume` is false, or it was made from
    /// another `identity`; if another process is writing it.
    pub(crate) fn open(target: &Path, identity: Value, resume: bool) -> Result<Workspace, VindexError> {
        // Without a slash at its end, which would make the name of the partial directory a hidden file in it.
        let target = target.components().as_path();
        if target.symlink_metadata().is_ok() {
            return Err(VindexError::AlreadyExists { path: target.into() });
        }
        let directory = partial(target);
        let is_new = match std::fs::create_dir(&directory) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && resume => false,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(VindexError::Unfinished { path: directory });
            }
            Err(error) => return Err(VindexError::io(&directory)(error)),
        };
        let started = Workspace::start(target, &directory, identity);
        if is_new && started.is_err() {
            // What went wrong says more than what could not be cleared away.
            let _ = std::fs::remove_dir_all(&directory);
        }
        started
    }

    /// Locks the directory and begins or goes on with its journal.
    fn start(target: &Path, directory: &Path, identity: Value) -> Result<Workspace, VindexError> {
        let directory = directory.to_owned();
        let lock_path = directory.join(LOCK);
        let lock = File::create(&lock_path).map_err(VindexError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(VindexError::Busy { path: directory }),
            Err(TryLockError::Error(error)) => return Err(VindexError::io(&lock_path)(error)),
        }
        let journal = match read_journal(&directory)? {
            Some(journal) if journal.identity == identity => journal,
            Some(_) => return Err(VindexError::OtherExtraction { path: directory }),
            None => Journal { identity, files: BTreeMap::new(), drift: BTreeMap::new() },
        };
        let workspace = Workspace { target: target.into(), directory, journal, lock };
        workspace.save_journal()?;
        Ok(workspace)
    }

    /// Removes the directory unless it holds a complete file, from which an extraction could continue.
    pub(crate) fn discard_if_empty(self) {
        if self.journal.files.is_empty() {
            // What went wrong says more than what could not be cleared away.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    /// Folder of the files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Digests of all finished files, by name.
    pub(crate) fn files(&self) -> &BTreeMap<String, FinishedFile> {
        &self.journal.files
    }

    /// Record of a complete file, which holds as long as the file's length is the same.
    pub(crate) fn finished(&self, name: &str) -> Option<&FinishedFile> {
        let finished = self.journal.files.get(name)?;
        let length = std::fs::metadata(self.directory.join(name)).ok()?.len();
        (length == finished.bytes).then_some(finished)
    }

    /// Starts a file.
    pub(crate) fn create(&self, name: &str) -> Result<FileWriter, VindexError> {
        FileWriter::create(&self.directory, name)
    }

    /// Renames a file to its final name and records it as complete.
    pub(crate) fn finish(&mut self, name: &str, writer: FileWriter) -> Result<(), VindexError> {
        self.journal.files.insert(name.to_owned(), writer.finish()?);
        self.save_journal()
    }

    /// As [`Workspace::finish`], with the differences of its tensors from the source.
    pub(crate) fn finish_with_drift(
        &mut self,
        name: &str,
        writer: FileWriter,
        drift: Vec<Drift>,
    ) -> Result<(), VindexError> {
        self.journal.drift.insert(name.to_owned(), drift);
        self.finish(name, writer)
    }

    /// Differences of all tensors of finished files from the source.
    pub(crate) fn drift(&self) -> Vec<Drift> {
        self.journal.drift.values().flatten().cloned().collect()
    }

    /// Writes a small file whole.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), VindexError> {
        let mut writer = self.create(name)?;
        writer.write(bytes)?;
        self.finish(name, writer)
    }

    /// Removes a file that only resuming needed.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), VindexError> {
        if self.journal.files.remove(name).is_some() {
            self.save_journal()?;
            remove_file(&self.directory.join(name))?;
        }
        Ok(())
    }

    /// Writes the manifest and renames the directory to the target.
    pub(crate) fn complete(self, manifest_name: &str, manifest: &[u8]) -> Result<(), VindexError> {
        let Workspace { target, directory, lock, .. } = self;
        write_file(&directory, manifest_name, manifest)?;
        remove_file(&directory.join(JOURNAL))?;
        // Not every system removes open files.
        drop(lock);
        remove_file(&directory.join(LOCK))?;
        sync_directory(&directory)?;
        std::fs::rename(&directory, &target).map_err(VindexError::io(&target))?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))
    }

    fn save_journal(&self) -> Result<(), VindexError> {
        let json =
            serde_json::to_vec(&self.journal).map_err(|e| VindexError::io(&self.directory)(e.into()))?;
        write_file(&self.directory, JOURNAL, &json).map(|_| ())
    }
}

/// Folder in which the vindex `target` is made.
pub(crate) fn partial(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn read_journal(directory: &Path) -> Result<Option<Journal>, VindexError> {
    let path = directory.join(JOURNAL);
    match std::fs::read(&path) {
        // The journal is replaced by renaming, so one that cannot be read is not ours.
        Ok(json) => match serde_json::from_slice(&json) {
            Ok(journal) => Ok(Some(journal)),
            Err(_) => Err(VindexError::OtherExtraction { path: directory.into() }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(VindexError::io(&path)(error)),
    }
}

fn remove_file(path: &Path) -> Result<(), VindexError> {
    std::fs::remove_file(path).map_err(VindexError::io(path))
}
