//! Softmax attention of new tokens over cached keys and values.

use crate::disjoint_rows::DisjointRows;
use crate::kernels::Isa;
use crate::{Pool, activation};

/// What one attention layer computes, as far as its heads are concerned.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads. Query head `h` reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head's queries and keys.
    pub head_dim: usize,
    /// Width of a head's values.
    pub value_dim: usize,
    /// A token sees itself and at most `window - 1` tokens before it.
    pub window: Option<usize>,
    /// What the scores are multiplied by.
    pub scale: f32,
    /// Scores `s` become `cap * tanh(s / cap)`.
    pub soft_cap: Option<f32>,
    /// For each query head a score that joins the softmax and is dropped after it, so that a head may look at
    /// nothing (attention sinks, arXiv 2309.17453, as GPT-OSS learns them); empty for none.
    pub sinks: Vec<f32>,
}

/// Keys and values of one sequence in one layer, each head's contiguous.
#[derive(Clone, Debug, Default)]
pub struct KeyValues {
    /// For each key head `[positions, head_dim]`.
    keys: Vec<Vec<f32>>,
    /// For each value head `[positions, value_dim]`.
    values: Vec<Vec<f32>>,
    head_dim: usize,
    value_dim: usize,
}

impl KeyValues {
    /// Room for any number of positions of `kv_heads` heads, with keys of width `head_dim` and values of width
    /// `value_dim`.
    pub fn new(kv_heads: usize, head_dim: usize, value_dim: usize) -> KeyValues {
        let (keys, values) = (vec![Vec::new(); kv_heads], vec![Vec::new(); kv_heads]);
        KeyValues { keys, values, head_dim, value_dim }
    }

    /// Number of positions held.
    pub fn len(&self) -> usize {
        self.keys.first().map_or(0, |head| head.len() / self.head_dim)
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends tokens; `keys` are `[tokens, kv_heads * head_dim]` and `values` `[tokens, kv_heads * value_dim]`.
    ///
    /// # Panics
    /// If the two are not of as many whole tokens.
    pub fn append(&mut self, keys: &[f32], values: &[f32]) {
        let heads = self.keys.len();
        assert!(keys.len().is_multiple_of(heads * self.head_dim));
        assert!(keys.len() / self.head_dim * self.value_dim == values.len());
        for (from, to, width) in
            [(keys, &mut self.keys, self.head_dim), (values, &mut self.values, self.value_dim)]
        {
            for token in from.chunks_exact(heads * width) {
                for (head, part) in to.iter_mut().zip(token.chunks_exact(width)) {
                    head.extend_from_slice(part);
                }
            }
        }
    }

    /// Forgets every position from `positions` on.
    pub fn truncate(&mut self, positions: usize) {
        self.keys.iter_mut().for_each(|head| head.truncate(positions * self.head_dim));
        self.values.iter_mut().for_each(|head| head.truncate(positions * self.value_dim));
    }
}

/// Attention of the last tokens of a sequence, whose keys and values are already in `cache`, over everything
/// that each may see. `queries` are `[tokens, heads * head_dim]`, `out` is `[tokens, heads * value_dim]`.
///
/// # Panics
/// If the sizes do not fit together or `cache` holds fewer positions than there are queries.
pub fn attend(pool: &Pool, shape: &AttentionShape, cache: &KeyValues, queries: &[f32], out: &mut [f32]) {
    let width = shape.heads * shape.head_dim;
    assert!(queries.len().is_multiple_of(width));
    assert!(cache.keys.len() == shape.kv_heads && cache.head_dim == shape.head_dim);
    assert!(
        cache.value_dim == shape.value_dim && (shape.sinks.is_empty() || shape.sinks.len() == shape.heads)
    );
    let tokens = queries.len() / width;
    assert!(out.len() == tokens * shape.heads * shape.value_dim);
    let first = cache.len().checked_sub(tokens).expect("the cache holds the queries' own positions");

    // Each output row belongs to one (token, head); rows are handed out in disjoint runs.
    let rows = DisjointRows::new(out, shape.value_dim);
    pool.for_each_range(tokens * shape.heads, 1, |range| {
        let mut scores = Vec::new();
        for row in range {
            let (token, head) = (row / shape.heads, row % shape.heads);
            let end = first + token + 1;
            let start = shape.window.map_or(0, |window| end.saturating_sub(window));
            let kv_head = head / (shape.heads / shape.kv_heads);
            let one = Head {
                query: &queries[row * shape.head_dim..][..shape.head_dim],
                keys: &cache.keys[kv_head][start * shape.head_dim..end * shape.head_dim],
                values: &cache.values[kv_head][start * shape.value_dim..end * shape.value_dim],
                sink: shape.sinks.get(head).copied(),
            };
            // SAFETY: every row number is in exactly one range, so no other thread holds this row.
            let out = unsafe { rows.row(row) };
            attend_one(shape, one, &mut scores, out);
        }
    });
}

/// The weights that the last position of `cache` gives to each position, `[heads, positions]`, for its query
/// `[heads * head_dim]`: what [`attend`] mixes values with. Positions outside the window have weight 0.
///
/// # Panics
/// If the sizes do not fit together or the cache is empty.
pub fn attention_weights(shape: &AttentionShape, cache: &KeyValues, query: &[f32]) -> Vec<f32> {
    assert!(cache.keys.len() == shape.kv_heads && query.len() == shape.heads * shape.head_dim);
    let positions = cache.len();
    let start = shape.window.map_or(0, |window| positions.saturating_sub(window));
    let mut weights = vec![0.0; shape.heads * positions];
    let mut scores = Vec::new();
    for (head, weights) in weights.chunks_exact_mut(positions).enumerate() {
        let query = &query[head * shape.head_dim..][..shape.head_dim];
        let keys = &cache.keys[head / (shape.heads / shape.kv_heads)];
        let sink = shape.sinks.get(head).copied();
        set_weights(shape, query, &keys[start * shape.head_dim..], sink, &mut scores);
        weights[start..].copy_from_slice(&scores[..positions - start]);
    }
    weights
}

/// One query and what it may see: keys `[positions, head_dim]` and values `[positions, value_dim]`.
struct Head<'a> {
    query: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    sink: Option<f32>,
}

fn attend_one(shape: &AttentionShape, head: Head<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    set_weights(shape, head.query, head.keys, head.sink, scores);
    out.fill(0.0);
    Isa::best().add_rows(head.values, &scores[..head.keys.len() / shape.head_dim], out);
}

/// The softmax of the scores of all keys and of the sink.
fn set_weights(
    shape: &AttentionShape,
    query: &[f32],
    keys: &[f32],
    sink: Option<f32>,
    weights: &mut Vec<f32>,
) {
    weights.clear();
    weights.resize(keys.len() / shape.head_dim, 0.0);
    Isa::best().dots(query, keys, weights);
    for weight in weights.iter_mut() {
        let score = *weight * shape.scale;
        *weight = shape.soft_cap.map_or(score, |cap| activation::soft_cap(score, cap));
    }
    weights.extend(sink);
    activation::softmax(weights);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attention by its definition, in f64, for one token and head.
    fn by_definition(shape: &AttentionShape, query: &[f32], keys: &[&[f32]], values: &[&[f32]]) -> Vec<f64> {
        let scores: Vec<f64> = keys
            .iter()
            .map(|key| {
                let dot: f64 = query.iter().zip(*key).map(|(a, b)| f64::from(a * b)).sum();
                let score = dot * f64::from(shape.scale);
                shape.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            })
            .collect();
        let sink = shape.sinks.first().map_or(0.0, |sink| f64::from(*sink).exp());
        let total: f64 = scores.iter().map(|s| s.exp()).sum::<f64>() + sink;
        (0..shape.value_dim)
            .map(|d| scores.iter().zip(values).map(|(s, v)| s.exp() / total * f64::from(v[d])).sum::<f64>())
            .collect()
    }

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn equals_its_definition_with_groups_window_cap_sinks_and_narrow_values() {
        let pool = Pool::new(2);
        for (window, soft_cap, head_dim, value_dim, sinks) in [
            (None, None, 40, 40, vec![]),
            (Some(3), Some(2.0), 64, 64, vec![0.7; 4]),
            (Some(100), None, 7, 5, vec![]),
        ] {
            let (heads, kv_heads, scale) = (4, 2, 0.3);
            let shape =
                AttentionShape { heads, kv_heads, head_dim, value_dim, window, scale, soft_cap, sinks };
            let (total, new) = (9, 4);
            let keys = noise(total * 2 * head_dim, 1);
            let values = noise(total * 2 * value_dim, 2);
            let mut cache = KeyValues::new(2, head_dim, value_dim);
            cache.append(&keys[..5 * 2 * head_dim], &values[..5 * 2 * value_dim]);
            cache.append(&keys[5 * 2 * head_dim..], &values[5 * 2 * value_dim..]);
            let queries = noise(new * 4 * head_dim, 3);
            let mut out = vec![f32::NAN; new * 4 * value_dim];
            attend(&pool, &shape, &cache, &queries, &mut out);
            for row in 0..new * 4 {
                let (token, head) = (row / 4, row % 4);
                let end = total - new + token + 1;
                let seen = end.saturating_sub(window.unwrap_or(end))..end;
                let pick = |all: &'static [f32], width: usize| -> Vec<&'static [f32]> {
                    seen.clone().map(|p| &all[(p * 2 + head / 2) * width..][..width]).collect()
                };
                let (k, v) = (pick(keys.clone().leak(), head_dim), pick(values.clone().leak(), value_dim));
                let expected = by_definition(&shape, &queries[row * head_dim..][..head_dim], &k, &v);
                for (found, expected) in out[row * value_dim..][..value_dim].iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn forgets_what_is_truncated() {
        let mut cache = KeyValues::new(1, 2, 2);
        cache.append(&[1.0; 6], &[2.0; 6]);
        cache.truncate(1);
        assert_eq!((cache.len(), cache.is_empty()), (1, false));
    }
}
