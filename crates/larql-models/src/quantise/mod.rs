//! Quantising a model: the block format of each matrix, and the importance of the columns of each.

mod importance;
mod mix;

pub use importance::ColumnImportance;
pub use mix::{Mix, Mixing};
