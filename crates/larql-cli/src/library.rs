//! Where models that are known by name lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::Pool;
use larql_hub::{Library, ModelResolver};
use larql_session::{Catalog, Session};

/// The folder of models in the platform's cache folder, if the platform has one.
pub(crate) fn folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "larql").map(|project| project.cache_dir().join("models"))
}

/// A file of this name in which typed lines are kept, if the platform has a place for it.
pub(crate) fn history_file(name: &str) -> miette::Result<Option<PathBuf>> {
    let Some(project) = directories::ProjectDirs::from("", "", "larql") else { return Ok(None) };
    let folder = project.data_local_dir();
    std::fs::create_dir_all(folder).map_err(|error| miette::miette!("{}: {error}", folder.display()))?;
    Ok(Some(folder.join(name)))
}

/// The library of this user.
pub(crate) fn open() -> Library {
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    folder().map(Library::new).unwrap_or_default().with_home(home)
}

/// What a model argument means: a vindex or a checkpoint.
pub(crate) fn find(model: &Path) -> miette::Result<PathBuf> {
    Ok(open().find(model)?)
}

/// What a model argument means where a checkpoint is asked for.
pub(crate) fn find_checkpoint(model: &Path) -> miette::Result<PathBuf> {
    Ok(open().find_checkpoint(model)?)
}

/// A session that knows the models of this user.
pub(crate) fn session(pool: Arc<Pool>) -> Session {
    Session::new(Arc::new(Catalog::new(pool, open())))
}

/// A session that knows no models by name, and caches nothing.
pub(crate) fn session_without_library(pool: Arc<Pool>) -> Session {
    Session::new(Arc::new(Catalog::new(pool, Library::default())))
}
