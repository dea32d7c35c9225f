//! Softmax attention of new tokens over cached keys and values.

mod gradient;
mod key_values;

use std::ops::Range;

pub use gradient::{AttentionGradient, attend_gradient};
pub use key_values::KeyValues;

use crate::Pool;
use crate::disjoint_rows::DisjointRows;
use crate::kernels::{AttentionTile, Isa, KEYS_SIDE_BY_SIDE, Mixed, QUERIES, Query, Scores};

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

/// Attention of the last tokens of a sequence, whose keys and values are already in `cache`, over everything
/// that each may see. `queries` are `[tokens, heads * head_dim]`, `out` is `[tokens, heads * value_dim]`.
///
/// # Panics
/// If the sizes do not fit together or `cache` holds fewer positions than there are queries.
pub fn attend(pool: &Pool, shape: &AttentionShape, cache: &KeyValues, queries: &[f32], out: &mut [f32]) {
    let width = shape.heads * shape.head_dim;
    assert!(queries.len().is_multiple_of(width));
    assert!(cache.shape() == [shape.kv_heads, shape.head_dim, shape.value_dim]);
    assert!(shape.sinks.is_empty() || shape.sinks.len() == shape.heads);
    let tokens = queries.len() / width;
    assert!(out.len() == tokens * shape.heads * shape.value_dim);
    let first = cache.len().checked_sub(tokens).expect("the cache holds the queries' own positions");

    // The query heads of one key head read the same keys: these are its rows, token by token.
    let group = shape.heads / shape.kv_heads;
    let rows = tokens * group;
    let blocks = rows.div_ceil(ROWS_AT_ONCE);
    // With few rows their positions are shared out as well.
    let spans = if shape.kv_heads * blocks >= ENOUGH_JOBS { 1 } else { cache.len().div_ceil(SPAN) };
    let part = |job: usize| {
        let (span, block) = (job % spans, job / spans % blocks);
        let (kv_head, rows) =
            (job / spans / blocks, block * ROWS_AT_ONCE..((block + 1) * ROWS_AT_ONCE).min(rows));
        let span =
            if spans == 1 { 0..cache.len() } else { span * SPAN..((span + 1) * SPAN).min(cache.len()) };
        let row = |row: usize| {
            let (token, head) = (row / group, kv_head * group + row % group);
            let end = first + token + 1;
            let start = shape.window.map_or(0, |window| end.saturating_sub(window));
            (token * shape.heads + head, start.max(span.start)..end.min(span.end))
        };
        (kv_head, rows.map(row).collect::<Vec<_>>())
    };
    let mut seen = vec![Vec::new(); shape.kv_heads * blocks * spans];
    pool.for_each_piece(&mut seen, 1, |start, seen| {
        for (job, seen) in (start..).zip(seen) {
            let (kv_head, rows) = part(job);
            *seen = see(shape, cache, kv_head, queries, &rows);
        }
    });

    let out = DisjointRows::new(out, shape.value_dim);
    // Of one token this is less than a job of the threads costs.
    let grain = if tokens == 1 { shape.kv_heads } else { 1 };
    pool.for_each_range(shape.kv_heads * blocks, grain, |range| {
        for block in range {
            let (_, rows) = part(block * spans);
            for (i, (row, _)) in rows.iter().enumerate() {
                let mut spans = seen[block * spans..][..spans].iter().map(|span| &span[i]);
                let mut all = spans.next().expect("there is a span").clone();
                spans.for_each(|span| all.add(span));
                if let Some(sink) = shape.sinks.get(row % shape.heads) {
                    all.add_sink(*sink);
                }
                // SAFETY: every row is in exactly one block, so no other thread holds this row.
                let out = unsafe { out.row(*row) };
                out.iter_mut().zip(&all.values).for_each(|(out, value)| *out = value / all.sum);
            }
        }
    });
}

/// Rows of queries that are shown a tile of keys and values one after another, while it is in the cache.
const ROWS_AT_ONCE: usize = 32;

/// Positions of a tile.
const TILE: usize = 64;

/// Positions that one job sees at least, a multiple of [`TILE`].
const SPAN: usize = 256;

/// Jobs that keep all threads busy.
const ENOUGH_JOBS: usize = 32;

/// What some rows of `queries` see of one key head, each of its own positions.
fn see(
    shape: &AttentionShape,
    cache: &KeyValues,
    kv_head: usize,
    queries: &[f32],
    rows: &[(usize, Range<usize>)],
) -> Vec<Mixed> {
    let mut seen = vec![Mixed::new(shape.value_dim); rows.len()];
    let start = rows.iter().map(|(_, visible)| visible.start).min().unwrap_or(0);
    let end = rows.iter().map(|(_, visible)| visible.end).max().unwrap_or(0);
    let (mut keys, mut values, mut scores) = (Vec::new(), Vec::new(), Scores::default());
    let start = start / KEYS_SIDE_BY_SIDE * KEYS_SIDE_BY_SIDE;
    for start in (start..end).step_by(TILE) {
        let positions = start..(start + TILE).min(end);
        let tile = tile(shape, cache, kv_head, positions.clone(), &mut keys, &mut values);
        for (rows, seen) in rows.chunks(QUERIES).zip(seen.chunks_mut(QUERIES)) {
            if !rows.iter().any(|(_, visible)| visible.start < positions.end && positions.start < visible.end)
            {
                continue;
            }
            let query = |(row, mixed): (&(usize, Range<usize>), _)| Query {
                query: &queries[row.0 * shape.head_dim..][..shape.head_dim],
                visible: row.1.clone(),
                mixed,
            };
            let mut rows: Vec<Query<'_>> = rows.iter().zip(seen).map(query).collect();
            Isa::best().attend(&tile, &mut rows, &mut scores);
        }
    }
    seen
}

/// Some positions of a key head, of which the first is a multiple of 16, decoded.
fn tile<'a>(
    shape: &AttentionShape,
    cache: &KeyValues,
    kv_head: usize,
    positions: Range<usize>,
    keys: &'a mut Vec<f32>,
    values: &'a mut Vec<f32>,
) -> AttentionTile<'a> {
    let panels = positions.start / KEYS_SIDE_BY_SIDE..positions.end.div_ceil(KEYS_SIDE_BY_SIDE);
    cache.keys(kv_head, panels, keys);
    cache.values(kv_head, positions.clone(), values);
    let (scale, soft_cap) = (shape.scale, shape.soft_cap);
    AttentionTile { start: positions.start, keys: keys.as_chunks().0, values, scale, soft_cap }
}

/// The weights that the last position of `cache` gives to each position, `[heads, positions]`, for its query
/// `[heads * head_dim]`: what [`attend`] mixes values with. Positions outside the window have weight 0.
///
/// # Panics
/// If the sizes do not fit together or the cache is empty.
pub fn attention_weights(shape: &AttentionShape, cache: &KeyValues, query: &[f32]) -> Vec<f32> {
    assert!(cache.shape()[0] == shape.kv_heads && query.len() == shape.heads * shape.head_dim);
    let positions = cache.len();
    let start = shape.window.map_or(0, |window| positions.saturating_sub(window));
    let (mut keys, mut values, mut scores) = (Vec::new(), Vec::new(), Scores::default());
    let mut weights = Vec::with_capacity(shape.heads * positions);
    for (head, query) in query.chunks_exact(shape.head_dim).enumerate() {
        let kv_head = head / (shape.heads / shape.kv_heads);
        let tile = tile(shape, cache, kv_head, 0..positions, &mut keys, &mut values);
        let mut mixed = Mixed::new(shape.value_dim);
        let mut query = [Query { query, visible: start..positions, mixed: &mut mixed }];
        Isa::best().attend(&tile, &mut query, &mut scores);
        let [scored] = query.each_ref().map(|query| query.mixed.largest);
        if let Some(sink) = shape.sinks.get(head) {
            mixed.add_sink(*sink);
        }
        // A sink may have raised what the sum is relative to.
        let factor = (scored - mixed.largest).exp() / mixed.sum;
        weights.extend(scores[0][..positions].iter().map(|weight| weight * factor));
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Precision;

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

    /// Numbers from -1 to 1 that look random.
    pub(super) fn noise(count: usize, seed: u32) -> Vec<f32> {
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
        for (window, soft_cap, head_dim, value_dim, sinks, (total, new)) in [
            (None, None, 40, 40, vec![], (9, 4)),
            (Some(3), Some(2.0), 64, 64, vec![0.7; 4], (9, 4)),
            (Some(100), None, 7, 5, vec![], (9, 4)),
            // Positions are shared out, and of some shares nothing is seen.
            (Some(100), None, 16, 48, vec![0.2; 4], (700, 1)),
            (None, None, 16, 16, vec![], (600, 2)),
            // Queries are.
            (None, None, 16, 16, vec![], (330, 310)),
        ] {
            let (heads, kv_heads, scale) = (4, 2, 0.3);
            let shape =
                AttentionShape { heads, kv_heads, head_dim, value_dim, window, scale, soft_cap, sinks };
            let keys = noise(total * 2 * head_dim, 1);
            let values = noise(total * 2 * value_dim, 2);
            let mut cache = KeyValues::new(2, head_dim, value_dim);
            let before = (total - new) * 2;
            cache.append(&keys[..before * head_dim], &values[..before * value_dim], Precision::Exact);
            cache.append(&keys[before * head_dim..], &values[before * value_dim..], Precision::Exact);
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
}
