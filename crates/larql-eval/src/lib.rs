//! Evaluation: conformance with references, speed, and how well a model is read and edited.
//!
//! This crate knows nothing of LQL or serving, and nothing that serves depends on it.
//!
//! ```
//! use larql_eval::EditSet;
//!
//! assert_eq!(EditSet::shipped()?.edits.len(), 1000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order: [`conformance`] and [`real`] (the forward pass against reference outputs), [`parity`] (two
//! models that should be one), [`speed`], [`knowledge`]
//! (fact tables against what is read from a model), `edit_set`, `edits` and `edge_memory` (edges that are inserted, updated
//! or deleted, and asked for), `attribution` (graphs, by ablation).

#![forbid(unsafe_code)]

mod attribution;
pub mod conformance;
mod divergence;
mod edge_memory;
mod edit_set;
mod edits;
mod error;
pub mod knowledge;
pub mod parity;
pub mod real;
mod share;
pub mod speed;

pub use attribution::{AttributionEvaluation, AttributionScores, evaluate_attribution};
pub use divergence::{Divergence, key_value_divergence};
pub use edge_memory::{EdgeMemoryScores, evaluate_edge_memory};
pub use edit_set::{EditQuestion, EditRelation, EditSet};
pub use edits::{
    DELETED_TOKENS, EditEvaluation, EditKind, EditMethod, EditScores, EditedGroup, evaluate_edits,
};
pub use error::EvalError;
pub use share::Share;
