//! Triples and facts, progress and cancelling: shared by the crates of the workspace.
//!
//! This crate knows nothing of models, of files other than fact tables, or of queries.
//!
//! ```
//! use larql_core::facts::Facts;
//! use larql_core::progress::CancelToken;
//!
//! let facts = Facts::shipped();
//! let capital = facts.iter().find(|fact| fact.entity == "France" && fact.relation == "capital").unwrap();
//! assert_eq!(capital.target, "Paris");
//!
//! let token = CancelToken::new();
//! let held_by_the_work = token.clone();
//! token.cancel();
//! assert!(held_by_the_work.check().is_err());
//! ```
//!
//! In reading order: `triple` (entity, relation, target), [`facts`] (tables of triples, and the wordings that ask for
//! them), [`progress`] (reports of long work, and how it is cancelled), `lazy` (values that threads compute once together).

#![forbid(unsafe_code)]

pub mod facts;
mod lazy;
pub mod progress;
mod triple;

pub use lazy::SharedLazy;
pub use triple::Triple;
