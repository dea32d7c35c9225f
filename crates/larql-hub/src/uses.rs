//! Times at which models were last used, as the times of empty files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file that stands for a model in the library's folder.
fn mark(folder: &Path, model: &str) -> PathBuf {
    folder.join(".used").join(model.replace('/', "--"))
}

/// Records that a model is used now. That it cannot be recorded is no reason not to use it.
pub(crate) fn record(folder: &Path, model: &str) {
    let mark = mark(folder, model);
    let touched = mark.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
        File::options().create(true).append(true).open(&mark)?.set_modified(SystemTime::now())
    });
    let _ = touched;
}

/// Returns the time of the last use, if there was one.
pub(crate) fn last(folder: &Path, model: &str) -> Option<SystemTime> {
    mark(folder, model).metadata().ok()?.modified().ok()
}

/// Forgets a model.
pub(crate) fn forget(folder: &Path, model: &str) {
    // A mark that stays says nothing of a model that is gone.
    let _ = std::fs::remove_file(mark(folder, model));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_recorded_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last(folder.path(), "owner/name"), None);
        let before = SystemTime::now() - std::time::Duration::from_secs(2);
        record(folder.path(), "owner/name");
        assert!(last(folder.path(), "owner/name").unwrap() > before);
        forget(folder.path(), "owner/name");
        assert_eq!(last(folder.path(), "owner/name"), None);
        // A folder that cannot be written is no failure.
        record(Path::new("/proc/no-such-folder"), "name");
    }
}
