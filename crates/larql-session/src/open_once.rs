//! Files that are opened once per path, and shared by all sessions that have them open.

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

/// Things of type `T` that are open somewhere, by path.
#[derive(Debug)]
pub(crate) struct OpenOnce<T> {
    slots: Mutex<HashMap<PathBuf, Arc<Slot<T>>>>,
}

/// Place of one path. Its lock is held while the path is opened, so that a second caller waits for the first.
type Slot<T> = Mutex<Option<(Stamp, Weak<T>)>>;

impl<T> OpenOnce<T> {
    /// Returns the thing at `path`: the one that is open, or else the one that `open` yields. Two spellings of a path
    /// are one path. Where the files at the path were replaced since, they are opened anew.
    pub(crate) fn get_or_open<E>(
        &self,
        path: &Path,
        open: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        // Where there is nothing, opening it says so.
        let Ok(path) = path.canonicalize() else { return open().map(Arc::new) };
        let slot = self.slot(&path);
        let mut slot = lock(&slot);
        let stamp = Stamp::of(&path);
        if let Some((opened_at, opened)) = &*slot
            && *opened_at == stamp
            && let Some(opened) = opened.upgrade()
        {
            return Ok(opened);
        }
        let opened = Arc::new(open()?);
        *slot = Some((stamp, Arc::downgrade(&opened)));
        Ok(opened)
    }

    fn slot(&self, path: &Path) -> Arc<Slot<T>> {
        let mut slots = lock(&self.slots);
        // A slot that nobody holds is not being opened; it can go if nobody has what was opened either.
        slots.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || lock(slot).as_ref().is_some_and(|(_, opened)| opened.strong_count() > 0)
        });
        Arc::clone(slots.entry(path.to_owned()).or_default())
    }
}

impl<T> Default for OpenOnce<T> {
    fn default() -> OpenOnce<T> {
        OpenOnce { slots: Mutex::default() }
    }
}

/// A panic while a path was opened leaves its slot as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Outward state of a file, or of the files in a directory; another one tells that they were replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Vec<(PathBuf, u64, Option<SystemTime>, u64)>);

impl Stamp {
    fn of(path: &Path) -> Stamp {
        let entry = |path: PathBuf| {
            let data = path.metadata().ok()?;
            Some((path, data.len(), data.modified().ok(), file_number(&data)))
        };
        let mut entries: Vec<_> = match std::fs::read_dir(path) {
            Ok(files) => files.filter_map(|file| entry(file.ok()?.path())).collect(),
            Err(_) => entry(path.to_owned()).into_iter().collect(),
        };
        entries.sort();
        Stamp(entries)
    }
}

/// Number of a file on its disk, where the system has such numbers.
#[cfg(unix)]
fn file_number(data: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(data)
}

#[cfg(not(unix))]
fn file_number(_: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn open(once: &OpenOnce<String>, path: &Path) -> Arc<String> {
        let read = || Ok::<String, Infallible>(std::fs::read_to_string(path).unwrap_or_default());
        once.get_or_open(path, read).unwrap()
    }

    #[test]
    fn spellings_of_a_path_share_and_replaced_files_are_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "one").unwrap();
        let once = OpenOnce::default();
        let first = open(&once, &file);
        assert!(Arc::ptr_eq(&first, &open(&once, &folder.path().join(".").join("a"))));
        let other = folder.path().join("b");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert_eq!((&**first, &**open(&once, &file)), ("one", "two"));
    }

    #[test]
    fn what_nobody_has_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let once = OpenOnce::default();
        drop(open(&once, folder.path()));
        let _other = open(&once, folder.path().parent().unwrap());
        assert_eq!(lock(&once.slots).len(), 1);
        let missing = folder.path().join("missing");
        assert!(!Arc::ptr_eq(&open(&once, &missing), &open(&once, &missing)));
    }
}
