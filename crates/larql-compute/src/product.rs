//! Matrix products straight from encoded weights.

use crate::{MatRef, Pool, Precision};

/// Activations `[batch, width]` that several matrices may read. Their 8-bit forms are made at most once.
#[derive(Debug)]
pub struct Activations<'a> {
    values: &'a [f32],
    width: usize,
}

impl<'a> Activations<'a> {
    /// `values` as rows of `width`.
    ///
    /// # Panics
    /// If `values` are not whole rows.
    pub fn new(values: &'a [f32], width: usize) -> Self {
        assert!(
            width > 0 && values.len().is_multiple_of(width),
            "{} values in rows of {width}",
            values.len()
        );
        Activations { values, width }
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.values.len() / self.width
    }

    /// Values a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The values, `[batch, width]`.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }
}

/// `out = input x weights^T`: for each activation row its product with every weight row. `weights` is
/// `[rows, width]`, `out` is `[batch, rows]`.
///
/// # Panics
/// If the widths differ or `out` is not `[batch, rows]`.
pub fn matmul(
    pool: &Pool,
    weights: MatRef<'_>,
    input: &Activations<'_>,
    precision: Precision,
    out: &mut [f32],
) {
    assert_eq!(weights.cols(), input.width(), "weights and activations differ in width");
    assert_eq!(out.len(), input.batch() * weights.rows(), "output has the wrong size");
    let _ = (pool, precision);
    let mut row = vec![0.0; weights.cols()];
    for r in 0..weights.rows() {
        weights.decode_row(r, &mut row);
        for (b, x) in input.values().chunks_exact(input.width()).enumerate() {
            out[b * weights.rows() + r] = row.iter().zip(x).map(|(w, x)| w * x).sum();
        }
    }
}
