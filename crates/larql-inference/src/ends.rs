//! The two ends of a model: the embedding of tokens, and the output head that turns residuals into logits.

use std::sync::Arc;

use larql_compute::{Activations, Matrix, Pool, Precision, activation, matmul};
use larql_models::ModelSpec;

use crate::norm::Norm;
use crate::projection::{Projection, add};
use crate::{BackendError, Rows};

/// Embeds tokens and computes logits. A pass does not care where the two matrices are.
pub trait Ends: Send + Sync {
    /// Number of tokens that can be embedded.
    fn vocab_size(&self) -> usize;

    /// Number of positions that can be embedded, where positions are learned vectors; `None` if there is no such limit.
    fn position_limit(&self) -> Option<usize>;

    /// Writes what enters the first layer, `[rows, hidden]`, for the token of each row.
    ///
    /// # Errors
    /// If the embedding is not here, or elsewhere and out of reach.
    fn embed(&self, tokens: &[u32], rows: &Rows, out: &mut [f32]) -> Result<(), BackendError>;

    /// Applies the final norm to outputs of the last layer, `[rows, hidden]`.
    ///
    /// # Errors
    /// As [`Ends::embed`].
    fn final_norm(&self, residual: &mut [f32]) -> Result<(), BackendError>;

    /// Returns the logits, `[rows, vocab]`, of normed outputs of the last layer.
    ///
    /// # Errors
    /// As [`Ends::embed`].
    fn logits(&self, normed: &Activations<'_>, precision: Precision) -> Result<Vec<f32>, BackendError>;
}

/// Embedding and output head from a model's own weights, each of which may be absent.
#[derive(Clone, Debug)]
pub(crate) struct LocalEnds {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) pool: Arc<Pool>,
    /// `[vocab, hidden]`
    pub(crate) embedding: Option<Matrix>,
    /// `[positions, hidden]`
    pub(crate) positions: Option<Matrix>,
    pub(crate) final_norm: Option<Norm>,
    /// `[vocab, hidden]`
    pub(crate) head: Option<Projection>,
}

impl LocalEnds {
    pub(crate) fn head(&self) -> Result<&Projection, BackendError> {
        self.head.as_ref().ok_or(BackendError::Absent { part: "the output head", layer: None })
    }

    pub(crate) fn embedding(&self) -> Result<&Matrix, BackendError> {
        self.embedding.as_ref().ok_or(BackendError::Absent { part: "the token embedding", layer: None })
    }

    pub(crate) fn norm(&self) -> Result<&Norm, BackendError> {
        self.final_norm.as_ref().ok_or(BackendError::Absent { part: "the final norm", layer: None })
    }
}

impl Ends for LocalEnds {
    fn vocab_size(&self) -> usize {
        self.embedding.as_ref().map_or(self.spec.vocab_size, Matrix::rows)
    }

    fn position_limit(&self) -> Option<usize> {
        self.positions.as_ref().map(Matrix::rows)
    }

    fn embed(&self, tokens: &[u32], rows: &Rows, out: &mut [f32]) -> Result<(), BackendError> {
        let embedding = self.embedding()?;
        let hidden = self.spec.hidden_size;
        let mut position_row = vec![0.0; if self.positions.is_some() { hidden } else { 0 }];
        let positions = (0..rows.sequences()).flat_map(|sequence| rows.positions(sequence));
        for ((token, position), row) in tokens.iter().zip(positions).zip(out.chunks_exact_mut(hidden)) {
            embedding.view().decode_row(*token as usize, row);
            row.iter_mut().for_each(|v| *v *= self.spec.embedding_scale);
            if let Some(positions) = &self.positions {
                positions.view().decode_row(position, &mut position_row);
                add(row, &position_row);
            }
        }
        Ok(())
    }

    fn final_norm(&self, residual: &mut [f32]) -> Result<(), BackendError> {
        self.norm()?.apply(residual);
        Ok(())
    }

    fn logits(&self, normed: &Activations<'_>, precision: Precision) -> Result<Vec<f32>, BackendError> {
        let head = self.head()?;
        let mut logits = vec![0.0; normed.batch() * head.weight.rows()];
        matmul(&self.pool, head.weight.view(), normed, precision, &mut logits);
        head.add_bias(&mut logits);
        if self.spec.logit_scale != 1.0 {
            logits.iter_mut().for_each(|z| *z *= self.spec.logit_scale);
        }
        if let Some(cap) = self.spec.logit_soft_cap {
            logits.iter_mut().for_each(|z| *z = activation::soft_cap(*z, cap));
        }
        Ok(logits)
    }
}
