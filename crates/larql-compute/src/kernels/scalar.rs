//! Plain Rust: what every other version is compared with.

use super::QuantisedRow;
use crate::Format;

/// Sum of the products of `a` and `b`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Products of consecutive weight rows with `x`.
pub(super) fn dot_rows(format: Format, rows: &[u8], x: QuantisedRow<'_>, out: &mut [f32]) {
    let x = x.to_f32();
    let mut decoded = vec![0.0; x.len()];
    for (row, out) in rows.chunks_exact(rows.len() / out.len()).zip(out) {
        format.decode(row, &mut decoded);
        *out = dot(&decoded, &x);
    }
}
