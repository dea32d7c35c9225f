//! Rows of the output head and of the embedding, and products of all of them with a vector.

use std::sync::{Arc, Mutex, PoisonError};

use larql_compute::vector::cosine;
use larql_compute::{Activations, Matrix, Precision, matmul};

use crate::ends::LocalEnds;
use crate::projection::Projection;
use crate::{BackendError, Model, PassError};

/// Embeddings that a thread takes at a time.
const ROWS: usize = 1024;

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

    /// Row of the embedding, `[hidden]`, without the model's embedding scale.
    ///
    /// # Errors
    /// If the embedding is absent.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn embedding_row(&self, token: u32) -> Result<Vec<f32>, BackendError> {
        let mut row = vec![0.0; self.spec.hidden_size];
        self.ends.embedding()?.view().decode_row(token as usize, &mut row);
        Ok(row)
    }

    /// Row of the output head, `[hidden]`.
    ///
    /// # Errors
    /// If the output head is absent.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn head_row(&self, token: u32) -> Result<Vec<f32>, BackendError> {
        let mut row = vec![0.0; self.spec.hidden_size];
        self.ends.head()?.weight.view().decode_row(token as usize, &mut row);
        Ok(row)
    }

    /// Output projection of the attention of a layer, `[hidden, heads * value_dim]`.
    ///
    /// # Errors
    /// If the layer's attention is absent.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn attention_output(&self, layer: usize) -> Result<&Matrix, PassError> {
        Ok(&self.layers[layer].attention(layer)?.output.weight)
    }

    /// Products of all rows of the output head with a vector, `[hidden]`: `[vocab]`, without norm, bias, scale and soft cap.
    ///
    /// # Errors
    /// If the output head is absent.
    pub fn head_products(&self, vector: &[f32]) -> Result<Vec<f32>, BackendError> {
        let head = self.ends.head()?;
        let mut products = vec![0.0; head.weight.rows()];
        let input = Activations::new(vector, self.spec.hidden_size);
        matmul(&self.pool, head.weight.view(), &input, Precision::Exact, &mut products);
        Ok(products)
    }

    /// Cosines of all token embeddings with a vector, `[hidden]`: `[vocab]`.
    ///
    /// # Errors
    /// If the embedding is absent.
    pub fn embedding_cosines(&self, vector: &[f32]) -> Result<Vec<f32>, BackendError> {
        let embedding = self.ends.embedding()?;
        let cosines = Mutex::new(vec![0.0; embedding.rows()]);
        self.pool.for_each_range(embedding.rows(), ROWS, |rows| {
            let mut row = vec![0.0; vector.len()];
            let own: Vec<f32> = rows
                .clone()
                .map(|token| {
                    embedding.view().decode_row(token, &mut row);
                    cosine(&row, vector)
                })
                .collect();
            cosines.lock().unwrap_or_else(PoisonError::into_inner)[rows].copy_from_slice(&own);
        });
        Ok(cosines.into_inner().unwrap_or_else(PoisonError::into_inner))
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
