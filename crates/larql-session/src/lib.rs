//! Executing statements: shared databases, sessions with their patches.
//!
//! This crate turns a statement into its typed answer. It knows nothing of HTTP, of terminals, or of how an answer looks.
//!
//! ```
//! use std::sync::Arc;
//!
//! use larql_compute::Pool;
//! use larql_hub::Library;
//! use larql_session::{Catalog, ExecuteError, Session};
//!
//! let catalog = Arc::new(Catalog::new(Arc::new(Pool::new(1)), Library::default()));
//! let session = Session::new(Arc::clone(&catalog));
//! let error = session.query(&larql_lql::parse_statement("STATS")?).unwrap_err();
//! assert!(matches!(error, ExecuteError::NothingOpen));
//! # Ok::<(), larql_lql::ParseError>(())
//! ```
//!
//! A [`Catalog`] opens each vindex once, as a [`Database`]. A [`Session`] sees a [`View`] of it, the database under the
//! session's own patches; a write makes another view, so that readers of the one before are not disturbed.
//!
//! In reading order: `session` (what is open in it), `execute` (from a statement to the function that executes it),
//! `catalog`, `open_once` and `database` (what sessions share), `view` and `open_vindex` (what is a session's own), then
//! one file for each group of statements, each a function from statement to typed output. `build` carries out Vindexfiles.

#![forbid(unsafe_code)]

mod attribution_graph;
mod build;
mod catalog;
mod common;
mod compact;
mod compile;
mod database;
mod describe;
mod diff;
mod digest;
mod edit;
mod error;
mod execute;
mod extract;
mod feature_edit;
mod infer;
mod insert;
mod measured;
mod merge;
mod open_once;
mod open_vindex;
mod patch;
mod pipe;
mod select;
mod session;
mod show;
mod stats;
mod trace;
mod unprobed;
mod upkeep;
mod use_;
mod view;
mod walk;
mod weight_difference;

pub use build::{Build, BuildError, BuildOptions, LayerDone, LayerError};
pub use catalog::Catalog;
pub use database::Database;
pub use error::{Advised, ChangeError, ExecuteError, Hint, PatchError, QueryError};
pub use session::Session;
pub use view::View;
