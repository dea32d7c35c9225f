//! The resolver of this machine: the models in a folder, and those that ship with LARQL.

use std::io;
use std::path::{Path, PathBuf};

use larql_assets::BundledModel;
use larql_core::progress::NoProgress;
use larql_models::{Checkpoint, ModelError};
use larql_vindex::{ExtractOptions, Summary, VindexError};
use larql_vindex_spec::ExtractLevel;
use miette::Diagnostic;
use serde::Serialize;

use crate::ModelResolver;

/// Endings that a name may leave out; vindexes come before what they are made of.
const ENDINGS: [&str; 3] = ["", ".vindex", ".gguf"];

/// Models by name: those in a folder, and those that ship with LARQL.
///
/// An argument means, in this order: the path that exists; the model of that name in the library; the bundled model
/// of that name, which is put into the library when it is first used.
#[derive(Clone, Debug, Default)]
pub struct Library {
    folder: Option<PathBuf>,
    home: Option<PathBuf>,
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
    #[error("{name} is not on this machine, and models are not downloaded")]
    #[diagnostic(help("download the model yourself, and give the path of the file or directory"))]
    NoHub {
        /// The name.
        name: String,
    },
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
    /// Its vindex; a bundled model has none before it is first used.
    #[serde(flatten)]
    pub summary: Option<Summary>,
}

impl Library {
    /// A library in `folder`, which need not be there yet.
    pub fn new(folder: PathBuf) -> Library {
        Library { folder: Some(folder), home: None }
    }

    /// Has `~` at the beginning of a path mean a folder, as shells do.
    pub fn with_home(self, home: Option<PathBuf>) -> Library {
        Library { home, ..self }
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

    /// Returns the vindexes in the folder and the bundled models.
    fn list(&self) -> Result<Vec<LibraryEntry>, VindexError> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let summaries = if folder.is_dir() { larql_vindex::list(folder)? } else { Vec::new() };
        let mut entries: Vec<LibraryEntry> = summaries.into_iter().map(LibraryEntry::of).collect();
        for model in larql_assets::MODELS {
            // As when it is looked up, what the library holds under the name comes first.
            if !entries.iter().any(|entry| entry.name == model.name) {
                let summary = Summary::read(&vindex_of(&home_of(folder, model), model)).ok();
                entries.push(LibraryEntry { name: model.name.into(), bundled: true, summary });
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
        // A name is no path: nothing outside the library is found by one.
        if name.contains(['/', '\\']) {
            let owner = path.parent().filter(|_| model.components().count() == 2);
            let of_the_hub = name.starts_with("hf://") || owner.is_some_and(|owner| !owner.is_dir());
            return Err(match of_the_hub {
                true => LibraryError::NoHub { name },
                false => LibraryError::NoSuchModel { name },
            });
        }
        let candidates = self
            .folder
            .iter()
            .flat_map(|folder| endings.iter().map(|ending| folder.join(format!("{name}{ending}"))));
        let known = candidates.into_iter().find(|path| path.exists()).map(Found::Path);
        let bundled = || larql_assets::model(&name).map(Found::Bundled);
        known.or_else(bundled).ok_or(LibraryError::NoSuchModel { name })
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
        LibraryEntry { name, bundled: false, summary: Some(summary) }
    }
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
