//! What a model *is*: its specification, its weights on disk, its tokenizer and its chat template.

mod error;
mod role;
mod spec;
mod weights;

pub use error::ModelError;
pub use role::{LayerRole, Role};
pub use spec::*;
pub use weights::WeightSource;
