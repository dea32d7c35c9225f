//! Edges that are remembered beside a model's weights: a prompt whose residual is like that of the question that an edge
//! answers is answered with the edge's target.
//!
//! Raw cosines do not tell prompts apart: unrelated ones reach 0.9. So residuals are compared in a [`KeySpace`], and
//! each entry has a threshold of its own, found by [`remember`]. Nothing is in the weights, and what the model says by
//! itself stays to be seen.

mod key_space;
mod remember;

use std::sync::Arc;

use larql_compute::{Activations, Format, Matrix, Pool, Precision, matmul, top_k_by_value};
use larql_models::Tokenizer;
use larql_vindex::{KnnEntry, KnnStore};

pub use key_space::KeySpace;
pub use remember::{Assertion, remember};

use crate::knowledge::entity_tokens;
use crate::{Hook, InferenceError, Point, Stage};

/// The cosine from which on an entry without a threshold of its own answers, as patches of other programs have them.
const THRESHOLD: f32 = 0.95;

/// How much a cosine of keys in halves of floats may be off.
const ROUNDING: f32 = 2e-3;

/// How many of the nearest entries are compared again.
const COMPARED_AGAIN: usize = 8;

/// Entries that are ready to answer.
#[derive(Clone, Debug)]
pub struct Recall {
    layers: Vec<RememberedAt>,
}

/// The entries of one layer.
#[derive(Clone, Debug)]
struct RememberedAt {
    space: Arc<KeySpace>,
    entries: Vec<KnnEntry>,
    /// What each answers, `[entries]`.
    targets: Vec<Vec<u32>>,
    /// Directions of the keys, `[entries, hidden]`. Halves of floats, because reading them is what a lookup costs.
    keys: Matrix,
}

/// An edge that answers a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// The edge.
    pub entry: KnnEntry,
    /// Its target as it follows the prompt; at least one token.
    pub tokens: Vec<u32>,
    /// How like the prompt is to the question that the edge answers: centred, white cosine.
    pub cosine: f32,
    /// From which cosine on the edge answers.
    pub threshold: f32,
}

impl Recall {
    /// Makes the entries of a store ready; `space` gives the coordinates of a layer.
    ///
    /// # Errors
    /// If a target cannot be encoded or has no tokens, or coordinates are not to be had.
    pub fn new(
        store: &KnnStore,
        tokenizer: &Tokenizer,
        pool: &Pool,
        mut space: impl FnMut(usize) -> Result<Arc<KeySpace>, InferenceError>,
    ) -> Result<Recall, InferenceError> {
        let mut layers = Vec::new();
        for layer in store.layers() {
            let (space, entries) = (space(layer)?, store.entries(layer));
            let keys: Vec<f32> = entries.iter().flat_map(|entry| entry.key.iter().copied()).collect();
            let mut bytes = Vec::with_capacity(keys.len() * Format::F16.block_bytes());
            Format::F16.encode(&space.directions(pool, &keys), &mut bytes)?;
            let targets = entries.iter().map(|entry| target_tokens(tokenizer, entry));
            layers.push(RememberedAt {
                keys: Matrix::new(Format::F16, entries.len(), space.hidden_size(), bytes.into())?,
                targets: targets.collect::<Result<_, _>>()?,
                entries: entries.to_vec(),
                space,
            });
        }
        Ok(Recall { layers })
    }

    /// What watches passes for prompts that entries answer.
    pub fn cue(&self) -> Cue<'_> {
        Cue { recall: self, seen: vec![Vec::new(); self.layers.len()] }
    }

    /// For each of some residuals of a layer, `[n, hidden]`, the edge that answers, if one does.
    pub(crate) fn answers(&self, pool: &Pool, layer: usize, residuals: &[f32]) -> Vec<Option<Recalled>> {
        let at = self.layers.iter().find(|at| at.space.layer() == layer);
        let nearest = at.map_or_else(Vec::new, |at| at.nearest(pool, residuals));
        nearest.into_iter().map(|recalled| Some(recalled).filter(Recalled::answers)).collect()
    }

    /// Bytes of the keys, which a lookup reads.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.keys.bytes().len()).sum()
    }
}

/// The tokens of an entry's target after a prompt.
fn target_tokens(tokenizer: &Tokenizer, entry: &KnnEntry) -> Result<Vec<u32>, InferenceError> {
    let tokens = entity_tokens(tokenizer, &entry.target)?;
    if tokens.is_empty() {
        let prompt = format!("{} of {}", entry.relation, entry.entity);
        return Err(InferenceError::NoTarget { prompt, target: entry.target.clone() });
    }
    Ok(tokens)
}

impl RememberedAt {
    /// The entry of the greatest of `cosines`, `[entries]`, with `query`. Those that lie too near to it to be told apart
    /// in halves of floats are compared again.
    fn best(&self, pool: &Pool, cosines: &[f32], query: &[f32]) -> Option<(usize, f32)> {
        let mut near = top_k_by_value(cosines, COMPARED_AGAIN);
        let (_, greatest) = *near.first()?;
        near.retain(|(_, cosine)| *cosine >= greatest - ROUNDING);
        if near.len() > 1 {
            let keys: Vec<f32> =
                near.iter().flat_map(|(place, _)| self.entries[*place].key.iter().copied()).collect();
            let directions = self.space.directions(pool, &keys);
            for ((_, cosine), direction) in near.iter_mut().zip(directions.chunks_exact(query.len())) {
                *cosine = direction.iter().zip(query).map(|(a, b)| a * b).sum();
            }
        }
        near.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// For each of some residuals, `[n, hidden]`, the entry whose key is nearest.
    fn nearest(&self, pool: &Pool, residuals: &[f32]) -> Vec<Recalled> {
        let queries = self.space.directions(pool, residuals);
        let queries = Activations::new(&queries, self.space.hidden_size());
        let mut cosines = vec![0.0; queries.batch() * self.entries.len()];
        matmul(pool, self.keys.view(), &queries, Precision::Exact, &mut cosines);
        let cosines = cosines.chunks_exact(self.entries.len());
        let queries = queries.values().chunks_exact(self.space.hidden_size());
        let nearest = cosines.zip(queries).filter_map(|(cosines, query)| self.best(pool, cosines, query));
        let recalled = nearest.map(|(place, cosine)| {
            let entry = self.entries[place].clone();
            let threshold = entry.threshold.unwrap_or(THRESHOLD);
            Recalled { entry, tokens: self.targets[place].clone(), cosine, threshold }
        });
        recalled.collect()
    }
}

impl Recalled {
    fn answers(&self) -> bool {
        self.cosine >= self.threshold
    }

    /// How far above its threshold an entry is, as a share of how far it could be.
    fn margin(&self) -> f32 {
        (self.cosine - self.threshold) / (1.0 - self.threshold).max(f32::EPSILON)
    }
}

/// Keeps of a pass over one sequence what tells which edge answers.
#[derive(Clone, Debug)]
pub struct Cue<'a> {
    recall: &'a Recall,
    /// For each layer with entries what its feed-forward step read for the last token, `[hidden]`.
    seen: Vec<Vec<f32>>,
}

impl Cue<'_> {
    /// The edge that answers what was last run, if one does: the nearest of its layer, and of several layers the one
    /// that is farthest above its threshold.
    pub fn answer(&self, pool: &Pool) -> Option<Recalled> {
        let seen = self.recall.layers.iter().zip(&self.seen).filter(|(_, residual)| !residual.is_empty());
        let nearest = seen.flat_map(|(layer, residual)| layer.nearest(pool, residual));
        let answers = nearest.filter(Recalled::answers);
        answers.max_by(|a, b| a.margin().total_cmp(&b.margin()))
    }
}

impl Hook for Cue<'_> {
    fn at(&mut self, point: Point, values: &mut [f32]) {
        if point.stage != Stage::FeedForwardInput {
            return;
        }
        for (layer, seen) in self.recall.layers.iter().zip(&mut self.seen) {
            if layer.space.layer() == point.layer {
                *seen = values[values.len() - layer.space.hidden_size()..].to_vec();
            }
        }
    }
}
