//! Plain Rust: what every other version is compared with.

use super::QuantisedRow;
use super::panel::{BATCH, ROWS, Sums};
use crate::Format;

/// Sum of the products of `a` and `b`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Product of a weight row with `x`.
pub(super) fn dot_decoded(format: Format, row: &[u8], x: &[f32]) -> f32 {
    let mut decoded = vec![0.0; x.len()];
    format.decode(row, &mut decoded);
    dot(&decoded, x)
}

/// Products of consecutive weight rows with `x`.
pub(super) fn dot_rows(format: Format, rows: &[u8], x: &QuantisedRow, out: &mut [f32]) {
    let x = x.to_f32();
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
