//! Matrix products straight from encoded weights.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::OnceLock;

use crate::kernels::{CodeActivations, CodeTile, Isa, PANEL_ROWS, QuantisedRow, Tile};
use crate::{MatRef, Pool, Precision};

/// Activations `[batch, width]` that several matrices may read. Their 8-bit forms are made at most once.
#[derive(Debug)]
pub struct Activations<'a> {
    values: &'a [f32],
    width: usize,
    blocks_of_32: OnceLock<Vec<QuantisedRow>>,
    blocks_of_256: OnceLock<Vec<QuantisedRow>>,
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

    /// The rows in 8 bits, in blocks of `block_len` (32 or 256).
    fn quantised(&self, pool: &Pool, block_len: usize) -> &[QuantisedRow] {
        let form = if block_len == 32 { &self.blocks_of_32 } else { &self.blocks_of_256 };
        form.get_or_init(|| {
            let mut rows = vec![QuantisedRow::default(); self.batch()];
            pool.for_each_piece(&mut rows, 1, |start, rows| {
                for (row, values) in rows.iter_mut().zip(self.values[start * self.width..].chunks(self.width))
                {
                    *row = Isa::best().quantise(values, block_len);
                }
            });
            rows
        })
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
    let (isa, format) = (Isa::best(), weights.format());
    let quantised = (precision == Precision::Fast && isa.multiplies_codes(format))
        .then(|| input.quantised(pool, format.block_len()));
    let out = Columns::new(out, weights.rows());
    if input.batch() < PANEL_BATCH {
        return pool.for_each_range(weights.rows(), 4, |range| match quantised {
            Some(x) => multiply_few_codes(isa, weights, x, range, &out),
            None => multiply_few(isa, weights, input, range, &out),
        });
    }
    if let Some(x) = quantised.filter(|_| isa.has_code_panels()) {
        let x = CodeActivations::new(x, format);
        return pool.for_each_range(weights.rows(), PANEL_ROWS, |range| {
            let mut tile = CodeTile::default();
            for start in range.clone().step_by(PANEL_ROWS) {
                let rows = start..(start + PANEL_ROWS).min(range.end);
                tile.multiply(isa, weights.slice_rows(rows.clone()), &x, |b, products| {
                    // SAFETY: no two ranges overlap.
                    unsafe { out.part(b, rows.clone()) }.copy_from_slice(products);
                });
            }
        });
    }
    pool.for_each_range(weights.rows(), PANEL_ROWS, |range| {
        let mut tile = Tile::default();
        for start in range.clone().step_by(PANEL_ROWS) {
            let rows = start..(start + PANEL_ROWS).min(range.end);
            tile.multiply(isa, weights.slice_rows(rows.clone()), input.values(), |b, products| {
                // SAFETY: no two ranges overlap.
                unsafe { out.part(b, rows.clone()) }.copy_from_slice(products);
            });
        }
    });
}

/// Activation rows from which on it pays to unpack weights into panels.
const PANEL_BATCH: usize = 6;

/// Bytes of weights that are multiplied with all activation rows before the next: they stay in the second-level
/// cache.
const WEIGHTS_AT_ONCE: usize = 128 << 10;

/// The products with the weight rows of `range` for few activation rows in 8 bits.
fn multiply_few_codes(
    isa: Isa,
    weights: MatRef<'_>,
    x: &[QuantisedRow],
    range: Range<usize>,
    out: &Columns<'_>,
) {
    let step = (WEIGHTS_AT_ONCE / weights.row_bytes()).next_multiple_of(4).max(4);
    for start in range.clone().step_by(step) {
        let rows = start..(start + step).min(range.end);
        let bytes = weights.slice_rows(rows.clone()).bytes();
        for (b, x) in x.iter().enumerate() {
            // SAFETY: no two ranges overlap.
            isa.dot_rows(weights.format(), bytes, x, unsafe { out.part(b, rows.clone()) });
        }
    }
}

/// The products with the weight rows of `range` for few activation rows.
fn multiply_few(
    isa: Isa,
    weights: MatRef<'_>,
    input: &Activations<'_>,
    range: Range<usize>,
    out: &Columns<'_>,
) {
    let format = weights.format();
    // SAFETY: no two ranges overlap.
    let set = |b: usize, row: usize, product: f32| unsafe { out.part(b, row..row + 1) }[0] = product;
    if input.batch() == 1 {
        for row in range {
            set(0, row, isa.dot_decoded(format, weights.row(row), input.values()));
        }
        return;
    }
    let mut decoded = vec![0.0; weights.cols()];
    for row in range {
        isa.decode(format, weights.row(row), &mut decoded);
        for (b, x) in input.values().chunks_exact(input.width()).enumerate() {
            set(b, row, isa.dot(&decoded, x));
        }
    }
}

/// The output `[batch, rows]`, of which every thread writes other columns.
struct Columns<'a> {
    start: *mut f32,
    len: usize,
    rows: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only used through `part`, whose callers promise that no two threads use one column.
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    fn new(out: &'a mut [f32], rows: usize) -> Self {
        Columns { start: out.as_mut_ptr(), len: out.len(), rows, borrow: PhantomData }
    }

    /// The products of one activation row with the weight rows of `range`, for writing.
    ///
    /// # Safety
    /// Nobody else may hold any of them at the same time.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint by the caller's promise")]
    unsafe fn part(&self, batch_row: usize, range: Range<usize>) -> &mut [f32] {
        assert!(
            range.start <= range.end && range.end <= self.rows && (batch_row + 1) * self.rows <= self.len
        );
        // SAFETY: the part lies inside the borrowed slice, and is used by this caller alone.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(batch_row * self.rows + range.start), range.len())
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

    /// Largest error of a product, as a fraction of the sum of its terms' magnitudes: rounding, and for
    /// activations in 8 bits half a step of the largest.
    fn budget(precision: Precision) -> f64 {
        match precision {
            Precision::Exact => 1e-6,
            Precision::Fast => 1e-2,
        }
    }

    #[test]
    fn products_agree_with_the_definition_on_any_number_of_threads() {
        let (rows, width) = (71, 512);
        for format in Format::all() {
            // Codes of any bits, with the highest unset so that no scale is large.
            let mut bytes: Vec<u8> = values(rows * format.row_bytes(width).unwrap(), 1)
                .into_iter()
                .map(|value| (value.abs() * 64.0) as u8)
                .collect();
            if format == Format::MXFP4 {
                bytes.chunks_mut(17).for_each(|block| block[0] = 127);
            }
            if format == Format::AFFINE8 {
                let factors = [0.01f32.to_le_bytes(), (-0.3f32).to_le_bytes()].concat();
                bytes.chunks_mut(40).for_each(|block| block[..8].copy_from_slice(&factors));
            }
            let weights = Matrix::new(format, rows, width, bytes.into()).unwrap();
            let decoded = weights.view().to_f32();
            for batch in [1, 3, 9, 40] {
                for precision in [Precision::Exact, Precision::Fast] {
                    let x = values(batch * width, 2);
                    let results = [1, 2, 5].map(|threads| {
                        let mut out = vec![f32::NAN; batch * rows];
                        let input = Activations::new(&x, width);
                        matmul(&Pool::new(threads), weights.view(), &input, precision, &mut out);
                        out
                    });
                    assert!(results[0] == results[1] && results[0] == results[2]);
                    for (b, x) in x.chunks_exact(width).enumerate() {
                        for (r, row) in decoded.chunks_exact(width).enumerate() {
                            let terms = || x.iter().zip(row).map(|(x, w)| f64::from(*x) * f64::from(*w));
                            let error = (terms().sum::<f64>() - f64::from(results[0][b * rows + r])).abs();
                            let magnitude: f64 = terms().map(f64::abs).sum();
                            assert!(
                                error <= budget(precision) * magnitude,
                                "{format} {precision:?} batch {batch} row {r}: {error} of {magnitude}"
                            );
                        }
                    }
                }
            }
        }
    }
}
