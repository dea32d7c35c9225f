//! Plain Rust: what every other version is compared with.

use super::QuantisedRow;
use super::panel::{BATCH, ROWS, Sums};
use crate::Format;

/// Sum of the products of `a` and `b`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Products of `x` with consecutive rows that are as long.
pub(super) fn dots(x: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(x.len()).zip(out) {
        *out = dot(x, row);
    }
}

/// Adds to `out` consecutive rows that are as long, each times its weight. Plain code in which the compiler finds
/// the vectors, so each instruction set calls it from a function of its own; `FUSED` where it has a multiply-add.
#[inline(always)]
pub(super) fn add_rows<const FUSED: bool>(rows: &[f32], weights: &[f32], out: &mut [f32]) {
    // Four rows at a time, so that the sums are loaded and stored less often.
    let (fours, last) = weights.as_chunks::<4>();
    let (rows, last_rows) = rows.split_at(4 * fours.len() * out.len());
    for (rows, weights) in rows.chunks_exact(4 * out.len()).zip(fours) {
        let (ab, cd) = rows.split_at(2 * out.len());
        let ((a, b), (c, d)) = (ab.split_at(out.len()), cd.split_at(out.len()));
        for ((((sum, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let first_two =
                multiply_add::<FUSED>(weights[1], *b, multiply_add::<FUSED>(weights[0], *a, *sum));
            *sum = multiply_add::<FUSED>(weights[3], *d, multiply_add::<FUSED>(weights[2], *c, first_two));
        }
    }
    for (row, weight) in last_rows.chunks_exact(out.len()).zip(last) {
        for (sum, value) in out.iter_mut().zip(row) {
            *sum = multiply_add::<FUSED>(*weight, *value, *sum);
        }
    }
}

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
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
