//! Matrix products straight from encoded weights.

use std::sync::OnceLock;

use crate::kernels::{Isa, Quantised};
use crate::{MatRef, Pool, Precision};

/// Activations `[batch, width]` that several matrices may read. Their 8-bit forms are made at most once.
#[derive(Debug)]
pub struct Activations<'a> {
    values: &'a [f32],
    width: usize,
    blocks_of_32: OnceLock<Quantised>,
    blocks_of_256: OnceLock<Quantised>,
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
        Activations { values, width, blocks_of_32: OnceLock::new(), blocks_of_256: OnceLock::new() }
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

    /// The values in 8 bits, in blocks of `block_len` (32 or 256).
    fn quantised(&self, block_len: usize) -> &Quantised {
        let form = if block_len == 32 { &self.blocks_of_32 } else { &self.blocks_of_256 };
        form.get_or_init(|| Isa::best().quantise(self.values, self.width, block_len))
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
    let isa = Isa::best();
    let format = weights.format();
    if input.batch() == 1 {
        if precision == Precision::Fast && isa.multiplies_bytes(format) {
            let x = input.quantised(format.block_len()).row(0);
            return pool.for_each_piece(out, 4, |start, out| {
                isa.dot_rows(format, weights.slice_rows(start..start + out.len()).bytes(), x, out);
            });
        }
        return pool.for_each_piece(out, 4, |start, out| {
            dot_rows(isa, weights.slice_rows(start..start + out.len()), input.values(), out);
        });
    }
    let (width, rows) = (input.width(), weights.rows());
    // Each thread collects the products of its rows, which are columns of `out`, and they are put in place
    // afterwards.
    let mut transposed = vec![0.0; out.len()];
    pool.for_each_piece(&mut transposed, input.batch(), |start, products| {
        let mut row = vec![0.0; width];
        for (i, products) in products.chunks_exact_mut(input.batch()).enumerate() {
            weights.decode_row(start / input.batch() + i, &mut row);
            for (x, product) in input.values().chunks_exact(width).zip(products) {
                *product = isa.dot(&row, x);
            }
        }
    });
    for (r, products) in transposed.chunks_exact(input.batch()).enumerate() {
        for (b, product) in products.iter().enumerate() {
            out[b * rows + r] = *product;
        }
    }
}

/// Values decoded at a time: they stay in the first-level cache.
const CHUNK: usize = 1024;

/// `out[r] = weights[r] . x`
fn dot_rows(isa: Isa, weights: MatRef<'_>, x: &[f32], out: &mut [f32]) {
    let format = weights.format();
    let chunk_bytes = CHUNK / format.block_len() * format.block_bytes();
    let mut decoded = [0.0; CHUNK];
    for (r, out) in out.iter_mut().enumerate() {
        *out = 0.0;
        for (bytes, x) in weights.row(r).chunks(chunk_bytes).zip(x.chunks(CHUNK)) {
            isa.decode(format, bytes, &mut decoded[..x.len()]);
            *out += isa.dot(&decoded[..x.len()], x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Matrix};

    /// Values in -1..1 that look random and are the same on every run.
    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn products_agree_with_the_definition_on_any_number_of_threads() {
        let (rows, width) = (37, 96);
        for format in [Format::F32, Format::F16, Format::BF16] {
            let mut bytes = Vec::new();
            format.encode(&values(rows * width, 1), &mut bytes).unwrap();
            let weights = Matrix::new(format, rows, width, bytes.into()).unwrap();
            let decoded = weights.view().to_f32();
            for batch in [1, 3, 9] {
                let x = values(batch * width, 2);
                let mut results = [1, 2, 5].map(|threads| {
                    let mut out = vec![f32::NAN; batch * rows];
                    let input = Activations::new(&x, width);
                    matmul(&Pool::new(threads), weights.view(), &input, Precision::Exact, &mut out);
                    out
                });
                for b in 0..batch {
                    for r in 0..rows {
                        let terms = (0..width)
                            .map(|i| f64::from(x[b * width + i]) * f64::from(decoded[r * width + i]));
                        let found = f64::from(results[0][b * rows + r]);
                        assert!((terms.sum::<f64>() - found).abs() < 1e-5, "{format} batch {batch} row {r}");
                    }
                }
                let first = results[0].clone();
                results.iter_mut().for_each(|other| assert_eq!(*other, first));
            }
        }
    }
}
