//! Access to weights by role, for everything that computes.

use std::ops::Range;

use larql_compute::Matrix;

use crate::{ModelError, ModelSpec, Role};

/// A model's weights by role. Checkpoints and vindexes implement it, and the forward pass depends on nothing else.
///
/// Implementations check completeness and shapes when they are opened: asking for a role that
/// [`ModelSpec::tensors`] lists does not fail for a reason that could have been known then.
pub trait WeightSource: Send + Sync {
    /// The model that the weights belong to.
    fn spec(&self) -> &ModelSpec;

    /// A matrix, in the encoding of its file wherever possible.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`] if this source does not hold the role.
    fn matrix(&self, role: Role) -> Result<Matrix, ModelError>;

    /// The values of some rows of a matrix, `[rows, cols]`, as the source defines them, where [`WeightSource::matrix`] gives
    /// blocks that are only near; none where it gives the values themselves.
    ///
    /// # Errors
    /// As [`WeightSource::matrix`].
    ///
    /// # Panics
    /// If there are no such rows.
    fn defined_rows(&self, role: Role, rows: Range<usize>) -> Result<Option<Vec<f32>>, ModelError> {
        let (_, _) = (role, rows);
        Ok(None)
    }

    /// A vector (norm, bias, scale), as f32.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`] if this source does not hold the role.
    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError>;
}
