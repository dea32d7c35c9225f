//! Executing statements: shared databases, sessions with their patches.
//!
//! This crate turns a statement into its typed answer. It knows nothing of HTTP, of terminals, or of how an answer looks.
//!
//! ```
//! use std::sync::Arc;
//!
//! use larql_compute::Pool;
//! use larql_session::{ExecuteError, Session};
//!
//! let mut session = Session::new(Arc::new(Pool::new(1)));
//! let error = session.execute(&larql_lql::parse_statement("STATS")?).unwrap_err();
//! assert!(matches!(error, ExecuteError::NothingOpen));
//! # Ok::<(), larql_lql::ParseError>(())
//! ```
//!
//! In reading order: `session` (from a statement to the function that carries it out), `target` (what is open), then one
//! file for each group of statements, each a function from statement to typed output. `build` carries out Vindexfiles.

#![forbid(unsafe_code)]

mod build;
mod common;
mod compact;
mod compile;
mod describe;
mod diff;
mod digest;
mod edit;
mod error;
mod extract;
mod infer;
mod insert;
mod measured;
mod merge;
mod patch;
mod pipe;
mod select;
mod session;
mod show;
mod stats;
mod stop;
mod target;
mod upkeep;
mod walk;

pub use build::{Build, BuildError, BuildOptions, LayerDone, LayerError};
pub use error::ExecuteError;
pub use session::Session;
