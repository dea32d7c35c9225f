//! The resolver of this machine: the models in a folder, those that ship with LARQL, and those of the hub.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use larql_assets::BundledModel;
use larql_core::progress::{NoProgress, Progress};
use larql_models::{Checkpoint, ModelError};
use larql_vindex::{ExtractOptions, Summary, VindexError};
use larql_vindex_spec::ExtractLevel;
use miette::Diagnostic;
use serde::Serialize;

use crate::hub::{Hub, HubError, RepoKind, RepoName, Wanted, WebFile, WebLimits};
use crate::{ModelResolver, uses};

/// Endings that a name may leave out; vindexes come before what they are made of.
const ENDINGS: [&str; 3] = ["", ".vindex", ".gguf"];

/// Models by name: those in a folder, those that ship with LARQL, and those of the hub.
///
/// An argument means, in this order: the path that exists; a file at an address, `hf://` or `https://`; the repository
/// `owner/name` in the hub's cache, or else on the hub; the model of that name in the library; the bundled model of that
/// name, which is put into the library when it is first used; the one repository of that name in the hub's cache.
#[derive(Clone, Debug, Default)]
pub struct Library {
    folder: Option<PathBuf>,
    home: Option<PathBuf>,
    remote: Option<Remote>,
}

/// The hub, as far as a library may use it.
#[derive(Clone)]
struct Remote {
    hub: Arc<Hub>,
    /// The receiver of reports about downloads; nothing is downloaded without one.
    downloads: Option<Arc<dyn Progress>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("hub", &self.hub)
            .field("downloads", &self.downloads.is_some())
            .finish()
    }
}

/// Failure to find a model.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum LibraryError {
    /// The name is neither a path nor known.
    #[error("there is no file or model named {name}")]
    #[diagnostic(help(
        "give the path of a vindex, a GGUF file or a checkpoint directory, or a name that `larql list` or SHOW MODELS; shows"
    ))]
    NoSuchModel {
        /// The name.
        name: String,
    },
    /// The name is one of the hub's, or of another place in the network.
    #[error("{name} is not on this machine, and is not downloaded here")]
    #[diagnostic(help(
        "`larql pull {name}` downloads a model of the hub; other files can be given by their path"
    ))]
    NoHub {
        /// The name.
        name: String,
    },
    /// Several repositories in the hub's cache have the name.
    #[error("{name} is the name of several models: {}", candidates.join(", "))]
    #[diagnostic(help("write one of them in full"))]
    Ambiguous {
        /// The name.
        name: String,
        /// The repositories.
        candidates: Vec<String>,
    },
    /// The name of a link is taken, or is no name.
    #[error("{name} cannot be the name of a model: {problem}")]
    BadName {
        /// The name.
        name: String,
        /// The problem.
        problem: &'static str,
    },
    /// A file of the library could not be changed.
    #[error("{path}: {source}")]
    Disk {
        /// The file.
        path: String,
        /// Error of the system.
        source: io::Error,
    },
    /// The hub.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Hub(Box<HubError>),
    /// There is no place for the bundled model.
    #[error("{name} comes with LARQL, but this system has no cache folder to put it in")]
    NoFolder {
        /// The bundled model.
        name: &'static str,
    },
    /// The bundled model cannot be put into the library.
    #[error("{name} comes with LARQL, but cannot be put into {path}: {source}")]
    #[diagnostic(help("it is put there once, when it is first used: make the folder writable"))]
    Unwritable {
        /// The bundled model.
        name: &'static str,
        /// The folder.
        path: String,
        /// Error of the system.
        source: io::Error,
    },
    /// The bundled checkpoint.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// A vindex of the library.
    #[error(transparent)]
    Vindex(Box<VindexError>),
}

impl From<HubError> for LibraryError {
    fn from(error: HubError) -> Self {
        Self::Hub(error.into())
    }
}

impl From<VindexError> for LibraryError {
    fn from(error: VindexError) -> Self {
        Self::Vindex(error.into())
    }
}

/// A model that a name opens.
#[derive(Clone, Debug, Serialize)]
pub struct LibraryEntry {
    /// The name.
    pub name: String,
    /// True if it ships with LARQL.
    pub bundled: bool,
    /// Its origin, if it was downloaded or linked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Time of its last use by its name.
    #[serde(skip)]
    pub used: Option<SystemTime>,
    /// Its vindex; a bundled model has none before it is first used.
    #[serde(flatten)]
    pub summary: Option<Summary>,
}

impl Library {
    /// A library in `folder`, which need not be there yet.
    pub fn new(folder: PathBuf) -> Library {
        Library { folder: Some(folder), home: None, remote: None }
    }

    /// Has `~` at the beginning of a path mean a folder, as shells do.
    pub fn with_home(self, home: Option<PathBuf>) -> Library {
        Library { home, ..self }
    }

    /// Adds the models in the hub's cache. Nothing is downloaded.
    pub fn with_cache_of(self, hub: Arc<Hub>) -> Library {
        Library { remote: Some(Remote { hub, downloads: None }), ..self }
    }

    /// Adds the models of the hub, and files at addresses; `progress` is told of downloads.
    pub fn with_hub(self, hub: Arc<Hub>, progress: Arc<dyn Progress>) -> Library {
        Library { remote: Some(Remote { hub, downloads: Some(progress) }), ..self }
    }

    /// Returns when a model was last used by its name.
    pub fn last_use(&self, name: &str) -> Option<SystemTime> {
        uses::last(self.folder.as_deref()?, name)
    }

    /// Returns the folder of the models that have a name.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }
}

impl ModelResolver for Library {
    /// A bundled model is a vindex of level all.
    fn find_from(&self, folder: &Path, model: &Path) -> Result<PathBuf, LibraryError> {
        match self.look_up(folder, model, &ENDINGS)? {
            Found::Path(path) => Ok(path),
            Found::Bundled(model) => self.bundled_vindex(model),
        }
    }

    fn find_checkpoint(&self, model: &Path) -> Result<PathBuf, LibraryError> {
        match self.look_up(Path::new(""), model, &["", ".gguf"])? {
            Found::Path(path) => Ok(path),
            Found::Bundled(model) => self.bundled_checkpoint(model),
        }
    }

    fn find_file(&self, folder: &Path, name: &str) -> Result<PathBuf, LibraryError> {
        match self.fetched(name, WebLimits::TEXT)? {
            Some(path) => Ok(path),
            None => Ok(folder.join(name)),
        }
    }

    /// Returns the vindexes in the folder, the bundled models, and the vindexes in the hub's cache.
    fn list(&self) -> Result<Vec<LibraryEntry>, VindexError> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let summaries = if folder.is_dir() { larql_vindex::list(folder)? } else { Vec::new() };
        let mut entries: Vec<LibraryEntry> = summaries.into_iter().map(LibraryEntry::of).collect();
        for entry in &mut entries {
            entry.source = entry.summary.as_ref().and_then(|summary| link_target(&summary.path));
            entry.used = uses::last(folder, &entry.name);
        }
        for repo in self.remote.iter().flat_map(|remote| remote.hub.cached_repos()) {
            if let Some(summary) = repo.path.and_then(|path| Summary::read(&path).ok()) {
                let (name, source) = (repo.id.to_string(), format!("hf://{}", repo.id));
                let used = uses::last(folder, &name);
                let summary = Some(summary);
                entries.push(LibraryEntry { name, bundled: false, source: Some(source), used, summary });
            }
        }
        for model in larql_assets::MODELS {
            // As when it is looked up, what the library holds under the name comes first.
            if !entries.iter().any(|entry| entry.name == model.name) {
                let summary = Summary::read(&vindex_of(&home_of(folder, model), model)).ok();
                let (name, used) = (model.name.to_owned(), uses::last(folder, model.name));
                entries.push(LibraryEntry { name, bundled: true, source: None, used, summary });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn builds(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(".builds"))
    }

    fn measurements(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(".measured"))
    }
}

impl Library {
    fn look_up(&self, folder: &Path, model: &Path, endings: &[&str]) -> Result<Found, LibraryError> {
        let of_home =
            self.home.as_ref().zip(model.strip_prefix("~").ok()).map(|(home, rest)| home.join(rest));
        let path = of_home.unwrap_or_else(|| folder.join(model));
        if path.exists() {
            return Ok(Found::Path(path));
        }
        let name = model.display().to_string();
        if let Some(path) = self.fetched(&name, WebLimits::MODEL)? {
            return Ok(Found::Path(path));
        }
        // A name is no path: nothing outside the library is found by one.
        if name.contains(['/', '\\']) {
            let owner = path.parent().filter(|_| model.components().count() == 2);
            let repo = owner.filter(|owner| !owner.is_dir()).and_then(|_| name.parse::<RepoName>().ok());
            return match repo {
                Some(repo) => self.of_hub(&repo).map(Found::Path),
                None => Err(LibraryError::NoSuchModel { name }),
            };
        }
        let candidates = self
            .folder
            .iter()
            .flat_map(|folder| endings.iter().map(|ending| folder.join(format!("{name}{ending}"))));
        let known = candidates.into_iter().find(|path| path.exists()).map(Found::Path);
        let found = known.or_else(|| larql_assets::model(&name).map(Found::Bundled));
        if let Some(found) = found {
            self.folder.iter().for_each(|folder| uses::record(folder, &name));
            return Ok(found);
        }
        let owners = self.remote.as_ref().map(|remote| remote.hub.owners_of(&name)).unwrap_or_default();
        match &owners[..] {
            [] => Err(LibraryError::NoSuchModel { name }),
            [repo] => self.of_hub(repo).map(Found::Path),
            several => {
                let candidates = several.iter().map(|repo| repo.id.to_string()).collect();
                Err(LibraryError::Ambiguous { name, candidates })
            }
        }
    }

    /// Brings what an address names to this machine; none if `name` is no address.
    fn fetched(&self, name: &str, limits: WebLimits) -> Result<Option<PathBuf>, LibraryError> {
        if RepoName::is_address(name) {
            return self.of_hub(&name.parse()?).map(Some);
        }
        if !WebFile::is_address(name) {
            return Ok(None);
        }
        let file = WebFile::parse(name)?;
        let Some(Remote { hub, downloads: Some(progress) }) = &self.remote else {
            return Err(LibraryError::NoHub { name: name.to_owned() });
        };
        let folder = self.folder.as_ref().ok_or_else(|| HubError::NoCache { what: name.to_owned() })?;
        Ok(Some(hub.fetch_web(&file, &folder.join(".web"), limits, &**progress)?))
    }

    /// A model or a file of the hub: from the cache if it is there.
    fn of_hub(&self, repo: &RepoName) -> Result<PathBuf, LibraryError> {
        let no_hub = || LibraryError::NoHub { name: repo.id.to_string() };
        let Remote { hub, downloads } = self.remote.as_ref().ok_or_else(no_hub)?;
        let path = match (hub.cached(repo), downloads) {
            (Some(path), _) => path,
            (None, Some(progress)) => hub.pull(repo, Wanted::Model, None, &**progress)?.path,
            (None, None) => return Err(no_hub()),
        };
        self.folder.iter().for_each(|folder| uses::record(folder, repo.id.as_str()));
        Ok(path)
    }

    /// Gives the model at `target` a name; returns the link. One that is there is replaced if `force` is set.
    ///
    /// # Errors
    /// If the name is taken or is none, or there is no model.
    pub fn link(&self, target: &Path, name: &str, force: bool) -> Result<PathBuf, LibraryError> {
        let bad = |problem| LibraryError::BadName { name: name.to_owned(), problem };
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
            return Err(bad("a name is not empty, has no slash and does not begin with a dot"));
        }
        let folder = self.folder.as_ref().ok_or_else(|| HubError::NoCache { what: name.to_owned() })?;
        let target = target.canonicalize().map_err(disk(target))?;
        let ending = ENDINGS.iter().rev().find(|ending| target.display().to_string().ends_with(**ending));
        let link = folder.join(format!("{}{}", name, ending.unwrap_or(&"")));
        let _lock = lock(folder, name)?;
        match link.symlink_metadata() {
            Ok(there) if force && there.is_symlink() => std::fs::remove_file(&link).map_err(disk(&link))?,
            Ok(there) if force && !there.is_symlink() => {
                return Err(bad("a model of that name is in the library itself; remove it first"));
            }
            Ok(_) => return Err(bad("it is taken; --force replaces a link")),
            Err(_) => {}
        }
        make_link(&target, &link).map_err(disk(&link))?;
        Ok(link)
    }

    /// Returns the path in the library, or the folder in the hub's cache, that [`remove`](Self::remove) would delete.
    ///
    /// # Errors
    /// If the library has no such model. Paths are no names, so that nothing outside of it is removed.
    pub fn removable(&self, name: &str) -> Result<Removable, LibraryError> {
        let no_such = || LibraryError::NoSuchModel { name: name.to_owned() };
        if let Ok(repo) = name.parse::<RepoName>()
            && let Some(remote) = &self.remote
        {
            let owned = match repo.id.owner() {
                Some(_) => vec![repo.clone()],
                None => remote.hub.owners_of(name),
            };
            let cached = remote.hub.cached_repos();
            let is_meant = |id: &crate::hub::CachedRepo| owned.iter().any(|repo| repo.id == id.id);
            let meant: Vec<_> = cached.into_iter().filter(is_meant).collect();
            if let [one] = &meant[..] {
                return Ok(Removable {
                    repo: Some((one.kind, one.id.clone())),
                    path: None,
                    bytes: one.bytes,
                });
            }
        }
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(no_such());
        }
        let folder = self.folder.as_ref().ok_or_else(no_such)?;
        let path = ENDINGS.iter().map(|ending| folder.join(format!("{name}{ending}")));
        let path = path.into_iter().find(|path| path.symlink_metadata().is_ok()).ok_or_else(no_such)?;
        let is_link = path.symlink_metadata().is_ok_and(|there| there.is_symlink());
        let bytes = if is_link { 0 } else { Summary::read(&path).map_or(0, |summary| summary.bytes()) };
        Ok(Removable { repo: None, path: Some(path), bytes })
    }

    /// Deletes a model of the library or of the hub's cache. Of a link only the link goes.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn remove(&self, name: &str, what: &Removable) -> Result<(), LibraryError> {
        if let (Some((kind, id)), Some(remote)) = (&what.repo, &self.remote) {
            remote.hub.remove_cached(id, *kind)?;
        }
        if let Some(path) = &what.path {
            let _lock = self.folder.as_ref().map(|folder| lock(folder, name)).transpose()?;
            let is_folder = path.symlink_metadata().is_ok_and(|there| there.is_dir());
            if is_folder {
                // Without its manifest it is no vindex, however much of it is left. A checkpoint has none.
                let _ = std::fs::remove_file(path.join("index.json"));
            }
            let removed = if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            match removed {
                // Another process removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(LibraryError::NoSuchModel { name: name.to_owned() });
                }
                removed => removed.map_err(disk(path))?,
            }
        }
        self.folder.iter().for_each(|folder| uses::forget(folder, name));
        Ok(())
    }

    fn bundled_checkpoint(&self, model: &'static BundledModel) -> Result<PathBuf, LibraryError> {
        let checkpoint = self.home(model)?.join(model.name);
        make_once(model, &checkpoint, |folder| {
            model.write_to(folder).map_err(unwritable(model, &checkpoint))
        })?;
        Ok(checkpoint)
    }

    fn bundled_vindex(&self, model: &'static BundledModel) -> Result<PathBuf, LibraryError> {
        let vindex = vindex_of(&self.home(model)?, model);
        make_once(model, &vindex, |folder| {
            let checkpoint = Checkpoint::open(&self.bundled_checkpoint(model)?)
                .map_err(|error| LibraryError::Model(error.into()))?;
            let options = ExtractOptions { level: ExtractLevel::All, ..ExtractOptions::default() };
            larql_vindex::extract(&checkpoint, folder, &options, &NoProgress)?;
            Ok(())
        })?;
        Ok(vindex)
    }

    fn home(&self, model: &'static BundledModel) -> Result<PathBuf, LibraryError> {
        let folder = self.folder.as_deref().ok_or(LibraryError::NoFolder { name: model.name })?;
        Ok(home_of(folder, model))
    }
}

impl LibraryEntry {
    /// A vindex under its file name without the ending.
    pub fn of(summary: Summary) -> LibraryEntry {
        let name = summary.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        LibraryEntry { name, bundled: false, source: None, used: None, summary: Some(summary) }
    }
}

/// A model that can be deleted.
#[derive(Clone, Debug)]
pub struct Removable {
    /// The repository in the hub's cache.
    pub repo: Option<(RepoKind, crate::hub::RepoId)>,
    /// The path in the library.
    pub path: Option<PathBuf>,
    /// Bytes that become free.
    pub bytes: u64,
}

enum Found {
    Path(PathBuf),
    Bundled(&'static BundledModel),
}

/// The folder for what is made of a bundled model. Other weights under the same name have another one, so that
/// programs of several versions can share the library.
fn home_of(folder: &Path, model: &BundledModel) -> PathBuf {
    folder.join(format!("{}-{}", model.name, model.digest))
}

fn vindex_of(home: &Path, model: &BundledModel) -> PathBuf {
    home.join(format!("{}.vindex", model.name))
}

/// Has `make` fill a folder that becomes `target` when it is whole, unless there is one already. If another process
/// does the same, one of the two folders stays.
fn make_once(
    model: &'static BundledModel,
    target: &Path,
    make: impl FnOnce(&Path) -> Result<(), LibraryError>,
) -> Result<(), LibraryError> {
    let (Some(parent), false) = (target.parent(), target.is_dir()) else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(unwritable(model, parent))?;
    let growing = tempfile::tempdir_in(parent).map_err(unwritable(model, parent))?;
    let made = growing.path().join(model.name);
    make(&made)?;
    match std::fs::rename(&made, target) {
        Err(error) if !target.is_dir() => Err(unwritable(model, target)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> LibraryError {
    let path = path.display().to_string();
    move |source| LibraryError::Disk { path, source }
}

/// Locks a name of the library, until the file is dropped. Links and removals of one name wait for each other.
fn lock(folder: &Path, name: &str) -> Result<File, LibraryError> {
    let locks = folder.join(".locks");
    std::fs::create_dir_all(&locks).map_err(disk(&locks))?;
    let path = locks.join(format!("{name}.lock"));
    let file = File::options().create(true).append(true).open(&path).map_err(disk(&path))?;
    file.lock().map_err(disk(&path))?;
    Ok(file)
}

/// The path that a link leads to, if a path is one.
fn link_target(path: &Path) -> Option<String> {
    std::fs::read_link(path).ok().map(|target| target.display().to_string())
}

#[cfg(unix)]
fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    match target.is_dir() {
        true => std::os::windows::fs::symlink_dir(target, link),
        false => std::os::windows::fs::symlink_file(target, link),
    }
}

fn unwritable(model: &'static BundledModel, path: &Path) -> impl FnOnce(io::Error) -> LibraryError {
    let path = path.display().to_string();
    move |source| LibraryError::Unwritable { name: model.name, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vindexes(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> = entries.collect();
        paths.sort();
        paths
    }

    #[test]
    fn a_tilde_is_the_home_folder() {
        let home = tempfile::tempdir().unwrap();
        let vindex = home.path().join("models/a.vindex");
        std::fs::create_dir_all(&vindex).unwrap();
        let library = Library::default().with_home(Some(home.path().to_owned()));
        assert_eq!(library.find(Path::new("~/models/a.vindex")).unwrap(), vindex);
        assert!(library.find(Path::new("~other/models/a.vindex")).is_err());
        assert!(Library::default().find(Path::new("~/models/a.vindex")).is_err());
    }

    #[test]
    fn a_bundled_model_is_made_once_even_by_two_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::new(folder.path().join("cache/models"));
        let before = library.list().unwrap();
        assert!(
            matches!(&before[..], [entry] if entry.bundled && entry.name == "atlas" && entry.summary.is_none())
        );

        let find = || library.find(Path::new("atlas")).unwrap();
        let (one, other) = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(find), scope.spawn(find));
            (one.join().unwrap(), other.join().unwrap())
        });
        assert_eq!(one, other);
        assert_eq!(Summary::read(&one).unwrap().level, ExtractLevel::All);
        let checkpoint = library.find_checkpoint(Path::new("atlas")).unwrap();
        // Nothing is left of the one that was slower.
        assert_eq!(vindexes(one.parent().unwrap()), [checkpoint, one.clone()]);

        let made = std::fs::metadata(one.join("index.json")).unwrap().modified().unwrap();
        assert_eq!(library.find(Path::new("atlas")).unwrap(), one);
        assert_eq!(std::fs::metadata(one.join("index.json")).unwrap().modified().unwrap(), made);
        let after = library.list().unwrap();
        assert!(
            matches!(&after[..], [entry] if entry.bundled && entry.summary.as_ref().unwrap().path == one)
        );
    }

    #[test]
    fn the_library_comes_before_what_is_bundled() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("atlas.vindex");
        std::fs::create_dir(&own).unwrap();
        let library = Library::new(folder.path().into());
        assert_eq!(library.find(Path::new("atlas")).unwrap(), own);
        assert!(Library::default().list().unwrap().is_empty());
    }

    #[test]
    fn unknown_names_are_an_error_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::new(folder.path().into());
        for name in ["owner/name", "hf://owner/name@main"] {
            assert!(matches!(library.find(Path::new(name)), Err(LibraryError::NoHub { .. })), "{name}");
        }
        for name in ["no-such", "/no/such", "/such", "no/", "./no", "a/b/c"] {
            assert!(matches!(library.find(Path::new(name)), Err(LibraryError::NoSuchModel { .. })), "{name}");
        }
        assert!(matches!(Library::default().find(Path::new("atlas")), Err(LibraryError::NoFolder { .. })));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let blocked = Library::new(file.join("models"));
        assert!(matches!(blocked.find(Path::new("atlas")), Err(LibraryError::Unwritable { .. })));
    }
}
