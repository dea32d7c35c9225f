//! The output head by rows.

use std::sync::Arc;

use larql_compute::Matrix;

use crate::ends::LocalEnds;
use crate::projection::Projection;
use crate::{BackendError, Model};

impl Model {
    /// Returns this model with an output head of `tokens` alone, in that order: its logits are `[rows, tokens]`.
    ///
    /// # Errors
    /// If the output head is absent, or a head of so many rows cannot be built.
    pub fn with_head_of(&self, tokens: &[u32]) -> Result<Model, BackendError> {
        let hidden = self.spec.hidden_size;
        let own = self.ends.head()?;
        let mut rows = vec![0.0; tokens.len() * hidden];
        for (token, row) in tokens.iter().zip(rows.chunks_exact_mut(hidden)) {
            own.weight.view().decode_row(*token as usize, row);
        }
        let weight = Matrix::from_f32(tokens.len(), hidden, &rows);
        let weight = weight.map_err(|error| BackendError::Failed(error.into()))?;
        let bias = |bias: &Vec<f32>| tokens.iter().map(|token| bias[*token as usize]).collect();
        let head = Projection { weight, bias: own.bias.as_ref().map(bias) };
        let ends = LocalEnds { head: Some(head), ..LocalEnds::clone(&self.ends) };
        Ok(Model { ends: Arc::new(ends), ..self.clone() })
    }

    /// Dot product of a token's row of the output head with a vector, `[hidden]`.
    ///
    /// # Errors
    /// If the output head is absent.
    pub fn head_product(&self, token: u32, vector: &[f32]) -> Result<f32, BackendError> {
        let mut row = vec![0.0; vector.len()];
        self.ends.head()?.weight.view().decode_row(token as usize, &mut row);
        Ok(row.iter().zip(vector).map(|(a, b)| a * b).sum())
    }
}
