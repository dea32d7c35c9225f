//! The inner loops of attention: a few queries against the keys and values of some positions. Each instruction set
//! brings the two products; in the rest the compiler finds the vectors.

use std::ops::Range;

use crate::activation::{exp, soft_cap};
use crate::lanes;

/// Queries that share what is loaded of keys and values.
pub(crate) const QUERIES: usize = 4;

/// Positions whose keys lie side by side.
pub(crate) const KEYS_SIDE_BY_SIDE: usize = 16;

/// Keys and values of consecutive positions of one head.
pub(crate) struct AttentionTile<'a> {
    /// The first position, a multiple of 16.
    pub(crate) start: usize,
    /// `[panels, head_dim, 16]`
    pub(crate) keys: &'a [[f32; KEYS_SIDE_BY_SIDE]],
    /// `[positions, value_dim]`; there may be fewer than there is room for keys.
    pub(crate) values: &'a [f32],
    /// Factor of the scores.
    pub(crate) scale: f32,
    /// See [`AttentionShape`](crate::attention::AttentionShape).
    pub(crate) soft_cap: Option<f32>,
}

/// Softmax over the positions seen so far (online softmax, arXiv 1805.02867).
#[derive(Clone, Debug)]
pub(crate) struct RunningSoftmax {
    /// The largest score.
    pub(crate) largest: f32,
    /// Sums of `e^(score - largest)`, of which each is of every sixteenth score.
    sums: [f32; lanes::LANES],
    /// Sum of the values, each times its `e^(score - largest)`: `[value_dim]`.
    pub(crate) values: Vec<f32>,
}

impl RunningSoftmax {
    /// A sum over no position.
    pub(crate) fn new(value_dim: usize) -> RunningSoftmax {
        RunningSoftmax { largest: f32::NEG_INFINITY, sums: [0.0; lanes::LANES], values: vec![0.0; value_dim] }
    }

    /// Sum of `e^(score - largest)`.
    pub(crate) fn sum(&self) -> f32 {
        self.sums.iter().sum()
    }

    /// Makes everything relative to a larger score.
    #[inline(always)]
    fn raise(&mut self, largest: f32) {
        if largest > self.largest {
            let factor = exp(self.largest - largest);
            self.largest = largest;
            self.sums.iter_mut().for_each(|sum| *sum *= factor);
            self.values.iter_mut().for_each(|value| *value *= factor);
        }
    }

    /// Adds what another one has seen.
    pub(crate) fn add(&mut self, other: &RunningSoftmax) {
        if other.largest == f32::NEG_INFINITY {
            return;
        }
        self.raise(other.largest);
        let factor = exp(other.largest - self.largest);
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| *sum += factor * other);
        self.values.iter_mut().zip(&other.values).for_each(|(value, other)| *value += factor * other);
    }

    /// Adds a score that stands for no value.
    pub(crate) fn add_sink(&mut self, score: f32) {
        self.raise(score);
        self.sums[0] += exp(score - self.largest);
    }
}

/// A query, the positions that it may see, and what it has seen of them.
pub(crate) struct Query<'a> {
    /// `[head_dim]`
    pub(crate) query: &'a [f32],
    pub(crate) visible: Range<usize>,
    pub(crate) mixed: &'a mut RunningSoftmax,
}

/// Weights of the positions of a tile for each query: `[QUERIES, positions]`.
pub(crate) type Scores = [Vec<f32>; QUERIES];

/// Products of each query with 16 keys.
pub(super) type PanelProducts = [[f32; KEYS_SIDE_BY_SIDE]; QUERIES];

/// The keys of 16 positions: `[head_dim, 16]`.
pub(super) type KeyPanel = [[f32; KEYS_SIDE_BY_SIDE]];

/// Values that [`attend`] sums up at a time: so many for each query stay in registers.
pub(super) const VALUES_AT_ONCE: usize = 32;

/// For each query sums of values, each times its weight.
pub(super) type ValueSums = [[f32; VALUES_AT_ONCE]; QUERIES];

/// Some columns of rows of values.
pub(super) struct Columns<'a> {
    pub(super) rows: std::slice::ChunksExact<'a, f32>,
    pub(super) first: usize,
}

impl<'a> Iterator for Columns<'a> {
    type Item = &'a [f32; VALUES_AT_ONCE];

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next().and_then(|row| row[self.first..].first_chunk())
    }
}

/// Lets up to [`QUERIES`] queries see a tile, and leaves in `scores` the weight that each gives to each position.
///
/// `multiply(panels, queries)` are the products of each of two panels of keys with each query, `sum(columns, weights)` the
/// sums of columns, each times its weight.
#[inline(always)]
pub(super) fn attend(
    tile: &AttentionTile<'_>,
    queries: &mut [Query<'_>],
    scores: &mut Scores,
    multiply: impl Fn([&KeyPanel; 2], [&[f32]; QUERIES]) -> [PanelProducts; 2],
    sum: impl Fn(Columns<'_>, [&[f32]; QUERIES]) -> ValueSums,
) {
    let all: [&[f32]; QUERIES] = std::array::from_fn(|q| queries[q.min(queries.len() - 1)].query);
    scores.iter_mut().for_each(Vec::clear);
    let mut panels = tile.keys.chunks_exact(all[0].len());
    while let Some(first) = panels.next() {
        let second = panels.next();
        let products = multiply([first, second.unwrap_or(first)], all);
        for products in &products[..1 + usize::from(second.is_some())] {
            scores.iter_mut().zip(products).for_each(|(scores, products)| scores.extend_from_slice(products));
        }
    }
    for (query, scores) in queries.iter_mut().zip(scores.iter_mut()) {
        weigh(tile, query, scores);
    }

    let width = queries[0].mixed.values.len();
    let weights = scores.each_ref().map(Vec::as_slice);
    let whole = width / VALUES_AT_ONCE * VALUES_AT_ONCE;
    for first in (0..whole).step_by(VALUES_AT_ONCE) {
        let sums = sum(Columns { rows: tile.values.chunks_exact(width), first }, weights);
        for (query, sums) in queries.iter_mut().zip(&sums) {
            query.mixed.values[first..].iter_mut().zip(sums).for_each(|(value, sum)| *value += sum);
        }
    }
    if whole == width {
        return;
    }
    for (query, weights) in queries.iter_mut().zip(weights) {
        for (row, weight) in tile.values.chunks_exact(width).zip(weights) {
            let out = query.mixed.values[whole..].iter_mut();
            out.zip(&row[whole..]).for_each(|(out, value)| *out += weight * value);
        }
    }
}

/// Turns products with keys into weights relative to the query's largest score, and adds up those.
#[inline(always)]
fn weigh(tile: &AttentionTile<'_>, query: &mut Query<'_>, scores: &mut [f32]) {
    scores.iter_mut().for_each(|score| *score *= tile.scale);
    if let Some(cap) = tile.soft_cap {
        scores.iter_mut().for_each(|score| *score = soft_cap(*score, cap));
    }
    let [start, end] = [query.visible.start, query.visible.end]
        .map(|position| position.saturating_sub(tile.start).min(scores.len()));
    scores[..start.min(end)].fill(f32::NEG_INFINITY);
    scores[end..].fill(f32::NEG_INFINITY);
    query.mixed.raise(lanes::largest(scores));
    // Only where this query has seen nothing at all yet is its largest score infinite.
    let largest = query.mixed.largest.max(f32::MIN);
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    lanes::gather(&mut query.mixed.sums, scores, |sum, weight| sum + weight);
}
