//! Query vectors from embeddings.

use larql_compute::norm;
use larql_models::{LayerRole, NormKind, Role, WeightSource};

use crate::{Vindex, VindexError};

impl Vindex {
    /// Query of a text of `tokens`: the mean of their embeddings, scaled, `[hidden]`.
    ///
    /// # Errors
    /// [`VindexError::NoTokens`] if there are none, [`VindexError::TokenOutOfRange`] for one without an embedding.
    pub fn embedding_query(&self, tokens: &[u32]) -> Result<Vec<f32>, VindexError> {
        if tokens.is_empty() {
            return Err(VindexError::NoTokens);
        }
        let embedding = self.matrix(Role::Embedding)?;
        let mut sum = vec![0.0; embedding.cols()];
        let mut row = vec![0.0; embedding.cols()];
        for &token in tokens {
            if token as usize >= embedding.rows() {
                let (path, vocab_size) = (self.path().into(), embedding.rows());
                return Err(VindexError::TokenOutOfRange { path, token, vocab_size });
            }
            embedding.view().decode_row(token as usize, &mut row);
            sum.iter_mut().zip(&row).for_each(|(sum, value)| *sum += value);
        }
        let scale = self.spec().embedding_scale / tokens.len() as f32;
        sum.iter_mut().for_each(|value| *value *= scale);
        Ok(sum)
    }

    /// The feed-forward input of a layer for `query`, `[hidden]`: after that layer's own norm, or
    /// to unit root mean square where the norm is not held.
    pub fn layer_query(&self, layer: usize, query: &[f32]) -> Vec<f32> {
        let mut query = query.to_vec();
        let spec = &self.spec().layers[layer];
        let (norm, weight, bias) = if spec.parallel {
            (spec.attention_norm, LayerRole::AttentionNorm, LayerRole::AttentionNormBias)
        } else {
            (spec.feed_forward_norm, LayerRole::FeedForwardNorm, LayerRole::FeedForwardNormBias)
        };
        let Some(norm) = norm else { return query };
        let vector = |role| self.vector(Role::Layer(layer, role));
        match (norm.kind, vector(weight)) {
            (kind @ (NormKind::Rms | NormKind::RmsUnit | NormKind::RmsOnePlus), Ok(weight)) => {
                norm::rms_norm(&mut query, &weight, norm.epsilon, kind.weight_offset());
            }
            (kind @ (NormKind::Layer | NormKind::LayerUnbiased | NormKind::LayerOnePlus), Ok(mut weight)) => {
                weight.iter_mut().for_each(|weight| *weight += kind.weight_offset());
                let bias = vector(bias).unwrap_or_else(|_| vec![0.0; weight.len()]);
                norm::layer_norm(&mut query, &weight, &bias, norm.epsilon);
            }
            (_, Err(_)) => {
                let ones = vec![1.0; query.len()];
                norm::rms_norm(&mut query, &ones, norm.epsilon, 0.0);
            }
        }
        query
    }
}
