//! Where models that are known by name lie.

use std::path::{Path, PathBuf};

/// The folder of models in the platform's cache folder, if the platform has one.
pub(crate) fn folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "larql").map(|project| project.cache_dir().join("models"))
}

/// The file in which the REPL keeps its history.
pub(crate) fn history_file() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "larql")
        .map(|project| project.data_local_dir().join("history.txt"))
}

/// The path that a model argument means: itself where it exists, otherwise a model of that name in the cache.
pub(crate) fn find(model: &Path) -> miette::Result<PathBuf> {
    if model.exists() {
        return Ok(model.to_owned());
    }
    let named = model.components().count() == 1 && model.file_name().is_some();
    let candidates = folder().filter(|_| named).into_iter().flat_map(|folder| {
        ["", ".vindex", ".gguf"].map(|ending| folder.join(format!("{}{ending}", model.display())))
    });
    candidates.into_iter().find(|path| path.exists()).ok_or_else(|| {
        miette::miette!(
            help = "give the path of a vindex, a GGUF file or a checkpoint directory; fetching models by name from a \
                    hub is not possible yet",
            "there is no model at {}",
            model.display()
        )
    })
}
