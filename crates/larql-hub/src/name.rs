//! The name that a checkpoint has by its path.

use std::path::Path;

/// Returns the name of the checkpoint at `path`: its directory, or its file without the ending.
pub fn model_name(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
