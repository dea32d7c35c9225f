//! Plain Rust: what every other version is compared with.

use super::QuantisedRow;
use super::attention_tile::{
    self, AttentionTile, Columns, KEYS_SIDE_BY_SIDE, KeyPanel, QUERIES, Query, Scores, VALUES_AT_ONCE,
};
use super::panel::{BATCH, ROWS, Sums};
use crate::Format;

/// Sum of the products of `a` and `b`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// See [`super::Isa::attend`].
pub(super) fn attend(tile: &AttentionTile<'_>, queries: &mut [Query<'_>], scores: &mut Scores) {
    let multiply = |panels: [&KeyPanel; 2], queries: [&[f32]; QUERIES]| {
        panels.map(|keys| {
            queries.map(|query| {
                let mut sums = [0.0; KEYS_SIDE_BY_SIDE];
                add_rows(keys.iter(), query, &mut sums);
                sums
            })
        })
    };
    let sum = |columns: Columns<'_>, weights: [&[f32]; QUERIES]| {
        let columns: Vec<_> = columns.collect();
        weights.map(|weights| {
            let mut sums = [0.0; VALUES_AT_ONCE];
            add_rows(columns.iter().copied(), weights, &mut sums);
            sums
        })
    };
    attention_tile::attend(tile, queries, scores, multiply, sum);
}

/// Adds rows, each times its weight.
fn add_rows<'a, const LEN: usize>(
    rows: impl Iterator<Item = &'a [f32; LEN]>,
    weights: &[f32],
    sums: &mut [f32; LEN],
) {
    for (row, weight) in rows.zip(weights) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
    }
}

/// Product of a weight row with `x`.
pub(super) fn dot_decoded(format: Format, row: &[u8], x: &[f32]) -> f32 {
    let mut decoded = vec![0.0; x.len()];
    format.decode(row, &mut decoded);
    dot(&decoded, x)
}

/// Products of consecutive weight rows with the sum of the planes `x`.
pub(super) fn dot_rows(format: Format, rows: &[u8], x: &[QuantisedRow], out: &mut [f32]) {
    let x = QuantisedRow::sum_to_f32(x);
    for (row, out) in rows.chunks_exact(rows.len() / out.len()).zip(out) {
        *out = dot_decoded(format, row, &x);
    }
}

/// Adds the products of the panel's rows with those of `x`, which have a value for each of its columns.
pub(super) fn multiply_panel(panel: &[[f32; ROWS]], x: [&[f32]; BATCH], sums: &mut Sums) {
    for (x, sums) in x.iter().zip(sums) {
        for (x, column) in x.iter().zip(panel) {
            for (sum, weight) in sums.iter_mut().zip(column) {
                *sum += x * weight;
            }
        }
    }
}
