//! Names of models: what a name refers to, and where models are on this machine.
//!
//! This crate turns the argument of a command or a statement into the path of a vindex or checkpoint. It knows nothing of
//! statements, of running models, or of its callers.
//!
//! ```
//! use larql_hub::{Library, ModelResolver};
//!
//! let folder = std::env::temp_dir().join("larql-models-that-are-not-there");
//! let library = Library::new(folder);
//! let error = library.find("no-such-model".as_ref()).unwrap_err();
//! assert_eq!(error.to_string(), "there is no file or model named no-such-model");
//! ```
//!
//! In reading order: `resolver` (the trait), `library` (the resolver of this machine: a folder, and the bundled models),
//! `name` (the name of a checkpoint, from its path).

#![forbid(unsafe_code)]

mod library;
mod name;
mod resolver;

pub use library::{Library, LibraryEntry, LibraryError};
pub use name::model_name;
pub use resolver::ModelResolver;
