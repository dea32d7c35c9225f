//! Declared interventions: what a pass captures, ablates, steers or patches, and where.
//!
//! A [`Declaration`] is data, usually a JSON file. Resolved for a model it becomes an [`Intervention`]: a hook, which works in
//! prefill and in each step of generation, and afterwards gives a [`Receipt`] with the declaration's digest and how often
//! each part changed something.

mod declaration;
mod error;
mod hook;
mod resolve;

pub use declaration::{Action, Capture, Declaration, PatchSource, Place, RowSelection, Vector};
pub use error::InterventionError;
pub use hook::{Intervention, Receipt};
