//! Attention in two steps: the weights of all positions, then the mix of values.

use super::attend::tile;
use super::{AttentionShape, KeyValueView};
use crate::Pool;
use crate::aligned::AlignedVec;
use crate::kernels::{Isa, Query, RunningSoftmax, Scores};

/// Returns the attention weights of the last tokens of a sequence, `[tokens, heads, positions]`, for their `queries`,
/// `[tokens, heads * head_dim]`: what [`attend`](super::attend()) mixes values with. Positions that a token does not see have
/// weight 0. With attention sinks the weights of a head add up to less than 1.
///
/// # Panics
/// If the sizes do not fit together or the sequence holds fewer positions than there are queries.
pub fn attention_pattern(
    pool: &Pool,
    shape: &AttentionShape,
    cached: &dyn KeyValueView,
    queries: &[f32],
) -> Vec<f32> {
    assert!(cached.shape() == [shape.kv_heads, shape.head_dim, shape.value_dim]);
    let (positions, tokens) = (cached.len(), queries.len() / (shape.heads * shape.head_dim));
    assert!(queries.len() == tokens * shape.heads * shape.head_dim);
    let first = positions.checked_sub(tokens).expect("the sequence holds the queries' own positions");
    let mut rows: Vec<Vec<f32>> = vec![Vec::new(); tokens * shape.heads];
    pool.for_each_piece(&mut rows, 1, |start, rows| {
        let (mut keys, mut values, mut scores) =
            (AlignedVec::default(), AlignedVec::default(), Scores::default());
        for (row, weights) in (start..).zip(rows) {
            let (token, head) = (row / shape.heads, row % shape.heads);
            let kv_head = head / (shape.heads / shape.kv_heads);
            let tile = tile(shape, cached, kv_head, 0..positions, &mut keys, &mut values);
            let query = &queries[row * shape.head_dim..][..shape.head_dim];
            let mut mixed = RunningSoftmax::new(shape.value_dim);
            let mut query = [Query { query, visible: shape.visible(first + token), mixed: &mut mixed }];
            Isa::best().attend(&tile, &mut query, &mut scores);
            let [scored] = query.each_ref().map(|query| query.mixed.largest);
            if let Some(sink) = shape.sinks.get(head) {
                mixed.add_sink(*sink);
            }
            // A sink may have raised what the sum is relative to.
            let factor = (scored - mixed.largest).exp() / mixed.sum();
            weights.extend(scores[0][..positions].iter().map(|weight| weight * factor));
        }
    });
    rows.concat()
}

/// Writes the values of a sequence mixed by a `pattern`, `[tokens, heads, positions]`, to `out`,
/// `[tokens, heads * value_dim]`.
///
/// # Panics
/// If the sizes do not fit together.
pub fn mix_values(
    pool: &Pool,
    shape: &AttentionShape,
    cached: &dyn KeyValueView,
    pattern: &[f32],
    out: &mut [f32],
) {
    let (positions, group) = (cached.len(), shape.heads / shape.kv_heads);
    assert!(out.len() / shape.value_dim * positions == pattern.len());
    let mut rows: Vec<&mut [f32]> = out.chunks_exact_mut(shape.value_dim).collect();
    pool.for_each_piece(&mut rows, 1, |start, rows| {
        let mut values = vec![0.0; positions * shape.value_dim];
        for (row, out) in (start..).zip(rows) {
            cached.decode_values(row % shape.heads / group, 0..positions, &mut values);
            out.fill(0.0);
            let weights = &pattern[row * positions..][..positions];
            for (weight, value) in weights.iter().zip(values.chunks_exact(shape.value_dim)) {
                if *weight != 0.0 {
                    out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
                }
            }
        }
    });
}
