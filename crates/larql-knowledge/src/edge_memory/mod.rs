//! External edge memory: a nearest-neighbour lookup on a layer's feed-forward input overrides the next tokens when the prompt
//! matches a stored question.
//!
//! Raw cosines do not distinguish prompts: unrelated ones reach 0.9. So inputs are compared in a whitened [`KeySpace`], and
//! each entry has a threshold of its own. The weights stay as they are.

mod interceptor;
mod key_space;

use std::sync::Arc;

use larql_compute::vector::dot;
use larql_compute::{Activations, Format, Matrix, Pool, Precision, matmul, top_k_by_value};
use larql_inference::{Hook, HookError, Point, PointSet, Rows, Stage};
use larql_models::Tokenizer;
use larql_vindex::{KnnEntry, KnnStore};

pub use interceptor::MemoryInterceptor;
pub use key_space::{KeySpace, greatest_cosines};

use crate::KnowledgeError;
use crate::reading::entity_tokens;

/// Threshold of entries without one of their own, as patches of other programs have them.
const THRESHOLD: f32 = 0.95;

/// Error of a cosine beside that of 8-bit directions: the rounding of sums.
const ROUNDING: f32 = 1e-5;

/// Entries of all layers, indexed for lookups.
#[derive(Clone, Debug)]
pub struct EdgeMemory {
    layers: Vec<LayerIndex>,
}

/// Index of the entries of one layer.
#[derive(Clone, Debug)]
struct LayerIndex {
    space: Arc<KeySpace>,
    entries: Vec<KnnEntry>,
    /// Tokens of the target of each entry, `[entries]`.
    targets: Vec<Vec<u32>>,
    /// Directions of the keys, `[entries, hidden]`: in 8 bits, because the cost of a lookup is reading them, or in halves of
    /// floats where rows are not whole blocks.
    keys: Matrix,
    /// Greatest norm of the encoding error of a direction.
    lost: f32,
    /// Lowest threshold.
    least: f32,
}

/// Edge that answers a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryAnswer {
    /// The edge.
    pub entry: KnnEntry,
    /// Tokens of its target; at least one.
    pub tokens: Vec<u32>,
    /// Cosine of the prompt with the question that the edge answers, centred and whitened.
    pub cosine: f32,
    /// Least cosine with which the edge answers.
    pub threshold: f32,
}

impl EdgeMemory {
    /// Indexes the entries of a store; `space` returns the coordinates of a layer.
    ///
    /// # Errors
    /// If a target cannot be encoded or has no tokens, or `space` fails.
    pub fn new(
        store: &KnnStore,
        tokenizer: &Tokenizer,
        pool: &Pool,
        mut space: impl FnMut(usize) -> Result<Arc<KeySpace>, KnowledgeError>,
    ) -> Result<EdgeMemory, KnowledgeError> {
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

    /// Returns a hook that records a pass's only, or first, sequence for a lookup.
    pub fn probe(self: &Arc<Self>) -> MemoryProbe {
        self.probe_of(0)
    }

    /// Returns a hook that records one of a pass's sequences, by its number, for a lookup.
    pub fn probe_of(self: &Arc<Self>, sequence: usize) -> MemoryProbe {
        MemoryProbe { memory: Arc::clone(self), sequence, inputs: vec![Vec::new(); self.layers.len()] }
    }

    /// Looks up inputs of a layer, `[n, hidden]`: the edge that answers each, if one does.
    pub fn answers(&self, pool: &Pool, layer: usize, residuals: &[f32]) -> Vec<Option<MemoryAnswer>> {
        let at = self.layers.iter().find(|at| at.space.layer() == layer);
        at.map_or_else(Vec::new, |at| at.answers(pool, residuals))
    }

    /// The entries of a layer whose keys are nearest to an input of that layer, `[hidden]`: at most `count`, each with its
    /// cosine, centred and whitened, greatest first. An entry need not reach its threshold.
    pub fn nearest(&self, pool: &Pool, layer: usize, input: &[f32], count: usize) -> Vec<(KnnEntry, f32)> {
        let at = self.layers.iter().find(|at| at.space.layer() == layer);
        at.map_or_else(Vec::new, |at| at.nearest(pool, input, count))
    }

    /// Number of bytes of the keys as a vindex holds them, in halves of floats. A lookup reads little more than half of that.
    pub fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| layer.entries.len() * layer.space.hidden_size() * Format::F16.block_bytes())
            .sum()
    }
}

/// Tokens of an entry's target after a prompt.
///
/// # Errors
/// If the target cannot be encoded, or has no tokens.
pub fn target_tokens(tokenizer: &Tokenizer, entry: &KnnEntry) -> Result<Vec<u32>, KnowledgeError> {
    let tokens = entity_tokens(tokenizer, &entry.triple.target)?;
    if tokens.is_empty() {
        let prompt = format!("{} of {}", entry.triple.relation, entry.triple.entity);
        return Err(KnowledgeError::NoTarget { prompt, target: entry.triple.target.clone() });
    }
    Ok(tokens)
}

/// Greatest distance of a row of `matrix`, `[n, hidden]`, from the values that it encodes.
fn greatest_distance(matrix: &Matrix, values: &[f32]) -> f32 {
    let mut row = vec![0.0; matrix.cols()];
    let squares = values.chunks_exact(matrix.cols()).enumerate().map(|(index, values)| {
        matrix.view().decode_row(index, &mut row);
        row.iter().zip(values).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
    });
    squares.fold(0.0, f32::max).sqrt()
}

/// Least cosine with which an entry answers.
fn threshold(entry: &KnnEntry) -> f32 {
    entry.threshold.unwrap_or(THRESHOLD)
}

impl LayerIndex {
    /// Looks up inputs, `[n, hidden]`: the entry with the nearest key for each, if its cosine reaches the threshold.
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

    /// The entries with the greatest cosines with an input, `[hidden]`, greatest first.
    fn nearest(&self, pool: &Pool, input: &[f32], count: usize) -> Vec<(KnnEntry, f32)> {
        let query = self.space.directions(pool, input);
        let keys: Vec<f32> = self.entries.iter().flat_map(|entry| entry.key.iter().copied()).collect();
        let directions = self.space.directions(pool, &keys);
        let cosines: Vec<f32> =
            directions.chunks_exact(query.len()).map(|direction| dot(direction, &query)).collect();
        let nearest = top_k_by_value(&cosines, count).into_iter();
        nearest.map(|(place, cosine)| (self.entries[place].clone(), cosine)).collect()
    }

    /// Answer to a query, `[hidden]`, given its cosines with the encoded keys, `[entries]`, and the norm `lost` of the
    /// query's own encoding error.
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
    /// Distance above the threshold, as a share of the greatest possible one.
    fn margin(&self) -> f32 {
        (self.cosine - self.threshold) / (1.0 - self.threshold).max(f32::EPSILON)
    }
}

/// Hook that records the last token's feed-forward input of one sequence at each layer with entries.
#[derive(Clone, Debug)]
pub struct MemoryProbe {
    memory: Arc<EdgeMemory>,
    sequence: usize,
    /// Input at each layer with entries, `[hidden]`; empty before the first pass.
    inputs: Vec<Vec<f32>>,
}

impl MemoryProbe {
    /// Looks up what was recorded last. Of the nearest entries of several layers, the one that is farthest above its
    /// threshold answers.
    pub fn answer(&self, pool: &Pool) -> Option<MemoryAnswer> {
        let recorded = self.memory.layers.iter().zip(&self.inputs).filter(|(_, input)| !input.is_empty());
        let answers = recorded.flat_map(|(layer, input)| layer.answers(pool, input)).flatten();
        answers.max_by(|a, b| a.margin().total_cmp(&b.margin()))
    }
}

impl Hook for MemoryProbe {
    fn points(&self) -> PointSet {
        let point =
            |layer: &LayerIndex| Point::Layer { layer: layer.space.layer(), stage: Stage::FeedForwardInput };
        self.memory.layers.iter().map(point).collect()
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let sequence = self.sequence;
        if sequence >= rows.sequences() {
            return Err(format!("expected sequence {sequence}, found {} sequences", rows.sequences()).into());
        }
        for (layer, input) in self.memory.layers.iter().zip(&mut self.inputs) {
            if Some(layer.space.layer()) == point.layer() {
                let hidden = layer.space.hidden_size();
                *input = values[rows.last(sequence) * hidden..][..hidden].to_vec();
            }
        }
        Ok(())
    }
}
