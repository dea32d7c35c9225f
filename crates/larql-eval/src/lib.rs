//! Evaluation: compares the forward pass with references, and measures knowledge, edits, edge memory and speed. Knows
//! nothing of LQL or serving.

#![forbid(unsafe_code)]

pub mod conformance;
mod edge_memory;
mod edits;
pub mod knowledge;
pub mod real;
pub mod speed;

pub use edge_memory::{RecallProgress, RecallScores, evaluate_recall};
pub use edits::{
    Edge, EditEvaluation, EditMethod, EditProgress, EditQuestion, EditRelation, EditScores, EditSet,
    EditedGroup, evaluate_edits,
};
