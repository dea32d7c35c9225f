//! Paths of models that are known by name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::progress::CancelToken;
use larql_hub::{Library, LibraryError, ModelResolver, RepoName};
use larql_session::{Catalog, Session};

use crate::hub;
use crate::progress::Bars;

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

/// The library of this user. What is not on this machine is downloaded, under a bar.
pub(crate) fn open() -> miette::Result<Library> {
    // Ctrl-C ends the program, and the next one goes on with what is there.
    let bars = Arc::new(Bars::fleeting(CancelToken::never()));
    Ok(of_this_machine().with_hub(hub::open()?, bars))
}

/// The library of this user, for those who name models from elsewhere: nothing is downloaded.
pub(crate) fn open_without_downloads() -> miette::Result<Library> {
    Ok(of_this_machine().with_cache_of(hub::open()?))
}

fn of_this_machine() -> Library {
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    folder().map(Library::new).unwrap_or_default().with_home(home)
}

/// Resolves a model argument: a vindex or a checkpoint.
pub(crate) fn find(model: &Path) -> miette::Result<PathBuf> {
    Ok(open()?.find(model)?)
}

/// The name of a model on the hub, if an argument is one and the model is not on this machine.
pub(crate) fn remote(model: &Path) -> miette::Result<Option<RepoName>> {
    let text = model.display().to_string();
    if RepoName::is_address(&text) {
        let name: RepoName = text.parse()?;
        let is_here = hub::open()?.cached(&name).is_some();
        return Ok(Some(name).filter(|_| !is_here));
    }
    Ok(match open_without_downloads()?.find(model) {
        Err(LibraryError::NoHub { .. }) => text.parse().ok(),
        _ => None,
    })
}

/// Resolves a model argument where a checkpoint is asked for.
pub(crate) fn find_checkpoint(model: &Path) -> miette::Result<PathBuf> {
    Ok(open()?.find_checkpoint(model)?)
}

/// A session that knows the models of this user.
pub(crate) fn session(pool: Arc<Pool>) -> miette::Result<Session> {
    Ok(Session::new(Arc::new(Catalog::new(pool, open()?))))
}

/// A session that knows no models by name, and caches nothing.
pub(crate) fn session_without_library(pool: Arc<Pool>) -> Session {
    Session::new(Arc::new(Catalog::new(pool, Library::default())))
}
