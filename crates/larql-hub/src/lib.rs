//! Names of models: what a name refers to, on this machine and on the hub, and the way there and back.
//!
//! This crate turns the argument of a command or a statement into the path of a vindex or checkpoint, and downloads it first
//! if it is on the hub. It publishes vindexes and their slices there. It knows nothing of statements, of running models, of
//! environment variables, or of its callers.
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
//! In reading order: `resolver` (the trait), `library` (the resolver of this machine: a folder, the bundled models, and the
//! cache of the hub), `name` (the name of a checkpoint, from its path), `uses` (when models were last used), `hub` (requests,
//! cache, download, publication).

#![forbid(unsafe_code)]

mod hub;
mod library;
mod name;
mod resolver;
mod uses;

pub use hub::{
    CachedRepo, Card, Collection, CollectionItem, CollectionTitles, Hub, HubError, HubSettings, Publication,
    PublicationPlan, PublishError, PublishOptions, Published, PublishedRepo, Pulled, RemoteFile, Removed,
    RepoId, RepoInfo, RepoKind, RepoName, RepoPlan, Sketch, Token, Wanted, WebFile, WebLimits, parse_tree,
    sibling,
};
pub use library::{Library, LibraryEntry, LibraryError, Removable};
pub use name::model_name;
pub use resolver::ModelResolver;
