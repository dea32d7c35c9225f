//! The output head by rows.

use larql_compute::Matrix;

use crate::{InferenceError, Model};

impl Model {
    /// Returns this model with an output head of `tokens` alone, in that order: its logits are `[rows, tokens]`.
    ///
    /// # Errors
    /// If a head of so many rows cannot be built.
    pub fn with_head_of(&self, tokens: &[u32]) -> Result<Model, InferenceError> {
        let hidden = self.spec.hidden_size;
        let mut rows = vec![0.0; tokens.len() * hidden];
        for (token, row) in tokens.iter().zip(rows.chunks_exact_mut(hidden)) {
            self.head.view().decode_row(*token as usize, row);
        }
        let head = Matrix::from_f32(tokens.len(), hidden, &rows)?;
        let bias = |bias: &Vec<f32>| tokens.iter().map(|token| bias[*token as usize]).collect();
        let head_bias = self.head_bias.as_ref().map(bias);
        Ok(Model { head, head_bias, ..self.clone() })
    }

    /// Dot product of a token's row of the output head with a vector, `[hidden]`.
    pub fn head_product(&self, token: u32, vector: &[f32]) -> f32 {
        let mut row = vec![0.0; vector.len()];
        self.head.view().decode_row(token as usize, &mut row);
        row.iter().zip(vector).map(|(a, b)| a * b).sum()
    }
}
