//! Edges that are remembered beside a model's weights: a prompt whose residual is like that of the question that an edge
//! answers is answered with the edge's target.
//!
//! Raw cosines do not tell prompts apart: unrelated ones reach 0.9. So residuals are compared in a [`KeySpace`], and
//! each entry has a threshold of its own, found by [`remember`]. Nothing is in the weights, and what the model says by
//! itself stays to be seen.

mod key_space;

use std::sync::Arc;

use larql_compute::vector::dot;
use larql_compute::{Activations, Format, Matrix, Pool, Precision, matmul, top_k_by_value};
use larql_models::Tokenizer;
use larql_vindex::{KnnEntry, KnnStore};

pub use key_space::{KeySpace, greatest_cosines};

use crate::reading::entity_tokens;
use larql_inference::{Hook, InferenceError, Point, Stage};

/// The cosine from which on an entry without a threshold of its own answers, as patches of other programs have them.
const THRESHOLD: f32 = 0.95;

/// What a cosine may be off by beside what 8 bits take from both directions: the rounding of sums.
const ROUNDING: f32 = 1e-5;

/// Entries that are ready to answer.
#[derive(Clone, Debug)]
pub struct EdgeMemory {
    layers: Vec<LayerIndex>,
}

/// The entries of one layer.
#[derive(Clone, Debug)]
struct LayerIndex {
    space: Arc<KeySpace>,
    entries: Vec<KnnEntry>,
    /// What each answers, `[entries]`.
    targets: Vec<Vec<u32>>,
    /// Directions of the keys, `[entries, hidden]`: in 8 bits, because reading them is what a lookup costs, or halves of
    /// floats where rows are not whole blocks.
    keys: Matrix,
    /// The length of what that leaves over of a key, at most.
    lost: f32,
    /// The lowest threshold.
    least: f32,
}

/// An edge that answers a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryAnswer {
    /// The edge.
    pub entry: KnnEntry,
    /// Its target as it follows the prompt; at least one token.
    pub tokens: Vec<u32>,
    /// How like the prompt is to the question that the edge answers: centred, white cosine.
    pub cosine: f32,
    /// From which cosine on the edge answers.
    pub threshold: f32,
}

impl EdgeMemory {
    /// Makes the entries of a store ready; `space` gives the coordinates of a layer.
    ///
    /// # Errors
    /// If a target cannot be encoded or has no tokens, or coordinates are not to be had.
    pub fn new(
        store: &KnnStore,
        tokenizer: &Tokenizer,
        pool: &Pool,
        mut space: impl FnMut(usize) -> Result<Arc<KeySpace>, InferenceError>,
    ) -> Result<EdgeMemory, InferenceError> {
        let mut layers = Vec::new();
        for layer in store.layers() {
            let (space, entries) = (space(layer)?, store.entries(layer));
            let keys: Vec<f32> = entries.iter().flat_map(|entry| entry.key.iter().copied()).collect();
            let hidden = space.hidden_size();
            let whole = hidden.is_multiple_of(Format::Q8_0.block_len());
            let format = if whole { Format::Q8_0 } else { Format::F16 };
            let directions = space.directions(pool, &keys);
            let mut bytes = Vec::with_capacity(entries.len() * format.row_bytes(hidden)?);
            format.encode(&directions, &mut bytes)?;
            let keys = Matrix::new(format, entries.len(), hidden, bytes.into())?;
            let targets = entries.iter().map(|entry| target_tokens(tokenizer, entry));
            layers.push(LayerIndex {
                lost: greatest_distance(&keys, &directions),
                keys,
                least: entries.iter().map(threshold).fold(f32::INFINITY, f32::min),
                targets: targets.collect::<Result<_, _>>()?,
                entries: entries.to_vec(),
                space,
            });
        }
        Ok(EdgeMemory { layers })
    }

    /// What watches passes for prompts that entries answer.
    pub fn probe(&self) -> MemoryProbe<'_> {
        MemoryProbe { memory: self, seen: vec![Vec::new(); self.layers.len()] }
    }

    /// For each of some residuals of a layer, `[n, hidden]`, the edge that answers, if one does.
    pub fn answers(&self, pool: &Pool, layer: usize, residuals: &[f32]) -> Vec<Option<MemoryAnswer>> {
        let at = self.layers.iter().find(|at| at.space.layer() == layer);
        at.map_or_else(Vec::new, |at| at.answers(pool, residuals))
    }

    /// Bytes of the keys as a vindex holds them, in halves of floats. A lookup reads little more than half of that.
    pub fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| layer.entries.len() * layer.space.hidden_size() * Format::F16.block_bytes())
            .sum()
    }
}

/// The tokens of an entry's target after a prompt.
pub fn target_tokens(tokenizer: &Tokenizer, entry: &KnnEntry) -> Result<Vec<u32>, InferenceError> {
    let tokens = entity_tokens(tokenizer, &entry.target)?;
    if tokens.is_empty() {
        let prompt = format!("{} of {}", entry.relation, entry.entity);
        return Err(InferenceError::NoTarget { prompt, target: entry.target.clone() });
    }
    Ok(tokens)
}

/// How far a row of `matrix`, `[n, hidden]`, is from what it was made of, at most.
fn greatest_distance(matrix: &Matrix, values: &[f32]) -> f32 {
    let mut row = vec![0.0; matrix.cols()];
    let squares = values.chunks_exact(matrix.cols()).enumerate().map(|(index, values)| {
        matrix.view().decode_row(index, &mut row);
        row.iter().zip(values).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
    });
    squares.fold(0.0, f32::max).sqrt()
}

/// From which cosine on an entry answers.
fn threshold(entry: &KnnEntry) -> f32 {
    entry.threshold.unwrap_or(THRESHOLD)
}

impl LayerIndex {
    /// For each of some residuals, `[n, hidden]`, the entry whose key is nearest, if it is near enough to answer.
    fn answers(&self, pool: &Pool, residuals: &[f32]) -> Vec<Option<MemoryAnswer>> {
        let hidden = self.space.hidden_size();
        let queries = self.space.directions(pool, residuals);
        let queries = Activations::new(&queries, hidden);
        let mut cosines = vec![0.0; queries.batch() * self.entries.len()];
        matmul(pool, self.keys.view(), &queries, Precision::Fast, &mut cosines);
        let lost =
            queries.lost_in_8_bits(pool, self.keys.format()).unwrap_or_else(|| vec![0.0; queries.batch()]);
        let cosines = cosines.chunks_exact(self.entries.len());
        let queries = queries.values().chunks_exact(hidden);
        let queries = queries.zip(lost).zip(cosines);
        queries.map(|((query, lost), cosines)| self.answer(pool, query, cosines, lost)).collect()
    }

    /// The answer to a query, `[hidden]`, of which multiplying took `lost` and left these cosines with the keys,
    /// `[entries]`.
    fn answer(&self, pool: &Pool, query: &[f32], cosines: &[f32], lost: f32) -> Option<MemoryAnswer> {
        // By the Cauchy-Schwarz inequality, of directions of length 1.
        let doubt = lost * (1.0 + self.lost) + self.lost + ROUNDING;
        let (_, greatest) = *top_k_by_value(cosines, 1).first()?;
        if greatest < self.least - doubt {
            return None;
        }
        // The nearest is one of those that may be as near as the one that seems nearest.
        let near = |(_, cosine): &(usize, &f32)| **cosine >= greatest - 2.0 * doubt;
        let near: Vec<usize> = cosines.iter().enumerate().filter(near).map(|(place, _)| place).collect();
        let keys: Vec<f32> = near.iter().flat_map(|place| self.entries[*place].key.iter().copied()).collect();
        let directions = self.space.directions(pool, &keys);
        let exact = directions.chunks_exact(query.len()).map(|direction| dot(direction, query));
        let (place, cosine) = near.into_iter().zip(exact).max_by(|a, b| a.1.total_cmp(&b.1))?;
        let entry = &self.entries[place];
        let threshold = threshold(entry);
        (cosine >= threshold).then(|| MemoryAnswer {
            entry: entry.clone(),
            tokens: self.targets[place].clone(),
            cosine,
            threshold,
        })
    }
}

impl MemoryAnswer {
    /// How far above its threshold an entry is, as a share of how far it could be.
    fn margin(&self) -> f32 {
        (self.cosine - self.threshold) / (1.0 - self.threshold).max(f32::EPSILON)
    }
}

/// Keeps of a pass over one sequence what tells which edge answers.
#[derive(Clone, Debug)]
pub struct MemoryProbe<'a> {
    memory: &'a EdgeMemory,
    /// For each layer with entries what its feed-forward step read for the last token, `[hidden]`.
    seen: Vec<Vec<f32>>,
}

impl MemoryProbe<'_> {
    /// The edge that answers what was last run, if one does: the nearest of its layer, and of several layers the one
    /// that is farthest above its threshold.
    pub fn answer(&self, pool: &Pool) -> Option<MemoryAnswer> {
        let seen = self.memory.layers.iter().zip(&self.seen).filter(|(_, residual)| !residual.is_empty());
        let answers = seen.flat_map(|(layer, residual)| layer.answers(pool, residual)).flatten();
        answers.max_by(|a, b| a.margin().total_cmp(&b.margin()))
    }
}

impl Hook for MemoryProbe<'_> {
    fn at(&mut self, point: Point, values: &mut [f32]) {
        if point.stage != Stage::FeedForwardInput {
            return;
        }
        for (layer, seen) in self.memory.layers.iter().zip(&mut self.seen) {
            if layer.space.layer() == point.layer {
                *seen = values[values.len() - layer.space.hidden_size()..].to_vec();
            }
        }
    }
}
