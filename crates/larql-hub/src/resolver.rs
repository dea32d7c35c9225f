//! The trait of whatever turns names into models.

use std::path::{Path, PathBuf};

use larql_vindex::VindexError;

use crate::{LibraryEntry, LibraryError};

/// Source of models by path or name.
pub trait ModelResolver: Send + Sync {
    /// Returns the path of the vindex or checkpoint that `model` names; relative paths begin at `folder`.
    ///
    /// # Errors
    /// If there is no such model, or it cannot be brought to this machine.
    fn find_from(&self, folder: &Path, model: &Path) -> Result<PathBuf, LibraryError>;

    /// Returns the path of the vindex or checkpoint that `model` names.
    ///
    /// # Errors
    /// As [`find_from`](Self::find_from).
    fn find(&self, model: &Path) -> Result<PathBuf, LibraryError> {
        self.find_from(Path::new(""), model)
    }

    /// Returns the path of the checkpoint that `model` names, never that of a vindex.
    ///
    /// # Errors
    /// As [`find_from`](Self::find_from).
    fn find_checkpoint(&self, model: &Path) -> Result<PathBuf, LibraryError>;

    /// Returns the path of a file of text, such as a patch, that `name` is the path or the address of; relative paths begin
    /// at `folder`.
    ///
    /// # Errors
    /// If it is an address, and the file cannot be brought to this machine.
    fn find_file(&self, folder: &Path, name: &str) -> Result<PathBuf, LibraryError>;

    /// Returns the models that have a name, in order of name.
    ///
    /// # Errors
    /// If where they lie cannot be read.
    fn list(&self) -> Result<Vec<LibraryEntry>, VindexError>;

    /// Returns the folder for layers of builds, which need not exist yet; none if builds are not cached.
    fn builds(&self) -> Option<PathBuf>;

    /// Returns the folder for what was measured of models, which need not exist yet; none if measurements are not cached.
    fn measurements(&self) -> Option<PathBuf>;
}
