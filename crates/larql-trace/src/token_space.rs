//! Vectors in token space: nearest embeddings, projections by the output head, and what single heads add to a logit.

use larql_compute::top_k_by_value;
use larql_inference::{BackendError, Hook, HookError, KeyValueCache, Model, Point, PointSet, Rows, Stage};

use crate::TraceError;

/// A token with a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub token: u32,
    /// Its score.
    pub score: f32,
}

fn best(scores: &[f32], count: usize) -> Vec<TokenScore> {
    let best = top_k_by_value(scores, count).into_iter();
    best.map(|(token, score)| TokenScore { token: token as u32, score }).collect()
}

/// Returns the tokens whose embeddings have the greatest cosine with a vector, `[hidden]`, best first.
///
/// # Errors
/// If the embedding is absent.
pub fn embedding_neighbours(
    model: &Model,
    vector: &[f32],
    count: usize,
) -> Result<Vec<TokenScore>, BackendError> {
    Ok(best(&model.embedding_cosines(vector)?, count))
}

/// Returns the tokens whose rows of the output head have the greatest product with a vector, `[hidden]`, best first: direct
/// logit attribution without norm and soft cap.
///
/// # Errors
/// If the output head is absent.
pub fn unembedding_projection(
    model: &Model,
    vector: &[f32],
    count: usize,
) -> Result<Vec<TokenScore>, BackendError> {
    Ok(best(&model.head_products(vector)?, count))
}

/// Contribution of each attention head to the logit of `token` after the last token of a prompt, with the final norm's scale held:
/// `[layers][heads]`.
///
/// # Errors
/// If the pass fails or weights are absent.
pub fn head_contributions(model: &Model, tokens: &[u32], token: u32) -> Result<Vec<Vec<f32>>, TraceError> {
    let mut hook = LastHeads::default();
    model.pass().with_hook(&mut hook).last_logits(&mut KeyValueCache::new(model.spec()), tokens)?;
    let direction = model.logit_direction(token, &hook.residual)?;
    let of_layer = |(layer, heads): (usize, &Vec<f32>)| model.head_contributions(layer, heads, &direction);
    Ok(hook.heads.iter().enumerate().map(of_layer).collect::<Result<_, _>>()?)
}

/// Hook that keeps the last token's head outputs of each layer, and the last layer's output.
#[derive(Default)]
struct LastHeads {
    /// For each layer `[heads * value_dim]`.
    heads: Vec<Vec<f32>>,
    /// `[hidden]`
    residual: Vec<f32>,
}

impl Hook for LastHeads {
    fn points(&self) -> PointSet {
        PointSet::stages([Stage::HeadOutputs, Stage::LayerOutput])
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let width = values.len() / rows.len();
        let last = values[rows.last(0) * width..][..width].to_vec();
        match point.stage() {
            Some(Stage::HeadOutputs) => self.heads.push(last),
            _ => self.residual = last,
        }
        Ok(())
    }
}
