//! Matrix products straight from encoded weights.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::OnceLock;

use crate::kernels::{
    CodeActivations, CodeTile, GroupProducts, Groups, Isa, PANEL_ROWS, QuantisedRow, ROWS_AT_ONCE, Tile,
};
use crate::{Format, MatRef, Pool, Precision};

/// Activations `[batch, width]` that several matrices may read. Their 8-bit forms are made at most once.
#[derive(Debug)]
pub struct Activations<'a> {
    values: &'a [f32],
    width: usize,
    fine: bool,
    /// In blocks of 32 and in blocks of 256, as sums of one, two or three planes.
    codes: [[OnceLock<Codes>; EXACT_PLANES]; 2],
}

/// Activation rows in 8 bits: of each row the planes whose sum it is.
type Codes = Vec<Vec<QuantisedRow>>;

/// Planes of 8 bits that hold as much of an activation as f32 does: what the last one leaves over is at most 6e-8 of the
/// largest value of its block.
const EXACT_PLANES: usize = 3;

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
        Activations { values, width, fine: false, codes: Default::default() }
    }

    /// As [`Activations::new`], for values that span orders of magnitude: where [`Precision::Fast`] turns others into
    /// 8 bits, it takes 16 for these, as two numbers of 8.
    ///
    /// # Panics
    /// As [`Activations::new`].
    pub fn fine(values: &'a [f32], width: usize) -> Self {
        Activations { fine: true, ..Activations::new(values, width) }
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

    /// Of each row the Euclidean length of what 8 bits leave over, where [`Precision::Fast`] takes them for weights in
    /// `format`: by so much of a weight row's length its product may be off.
    pub fn lost_in_8_bits(&self, pool: &Pool, format: Format) -> Option<Vec<f32>> {
        let in_8_bits = !self.fine && Isa::best().multiplies_codes(format);
        in_8_bits.then(|| {
            let rows = self.values.chunks_exact(self.width);
            let codes = self.quantised(pool, format.block_len(), 1);
            rows.zip(codes).map(|(values, planes)| planes[0].squared_distance(values).sqrt()).collect()
        })
    }

    /// The rows in blocks of `block_len` (32 or 256), as sums of `planes` of 8 bits.
    fn quantised(&self, pool: &Pool, block_len: usize, planes: usize) -> &Codes {
        self.codes[usize::from(block_len != 32)][planes - 1].get_or_init(|| {
            let mut rows = vec![Vec::new(); self.batch()];
            pool.for_each_piece(&mut rows, 1, |start, rows| {
                for (values, codes) in self.values[start * self.width..].chunks_exact(self.width).zip(rows) {
                    *codes = Isa::best().quantise(values, block_len, planes);
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
    matmul_each(pool, [weights], input, precision, [out]);
}

/// [`matmul`] of several matrices that read the same activations, as one job of the threads.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_each<const N: usize>(
    pool: &Pool,
    weights: [MatRef<'_>; N],
    input: &Activations<'_>,
    precision: Precision,
    out: [&mut [f32]; N],
) {
    let mut out = out.into_iter();
    let products =
        weights.map(|weights| Product::new(pool, weights, input, precision, out.next().expect("N of both")));
    // Every matrix begins with a new piece.
    let grain = if products.iter().any(|product| product.in_panels) { PANEL_ROWS } else { ROWS_AT_ONCE };
    let items = products.each_ref().map(|product| product.weights.rows().next_multiple_of(grain));
    pool.for_each_range(items.iter().sum(), grain, |range| {
        let mut first = 0;
        for (product, items) in products.iter().zip(items) {
            let rows = product.weights.rows();
            let part = range.start.max(first) - first..(range.end.max(first) - first).min(rows);
            if !part.is_empty() {
                product.multiply(part);
            }
            first += items;
        }
    });
}

/// A matrix, what it is multiplied with, and where the products go.
struct Product<'a> {
    isa: Isa,
    weights: MatRef<'a>,
    input: &'a Activations<'a>,
    /// Whether weights are unpacked into panels.
    in_panels: bool,
    /// The input in 8 bits, where that is what is multiplied.
    codes: Option<&'a Codes>,
    /// The same for panels.
    panel_codes: Option<CodeActivations<'a>>,
    /// The input in groups, where those are multiplied with unpacked weights.
    groups: Option<Groups>,
    out: Columns<'a>,
}

impl<'a> Product<'a> {
    fn new(
        pool: &Pool,
        weights: MatRef<'a>,
        input: &'a Activations<'a>,
        precision: Precision,
        out: &'a mut [f32],
    ) -> Self {
        assert_eq!(weights.cols(), input.width(), "weights and activations differ in width");
        assert_eq!(out.len(), input.batch() * weights.rows(), "output has the wrong size");
        let (isa, format) = (Isa::best(), weights.format());
        let batch = input.batch();
        let planes = match precision {
            Precision::Fast if input.fine => 2,
            Precision::Fast => 1,
            Precision::Exact => EXACT_PLANES,
        };
        let in_codes = isa.multiplies_codes(format)
            && match precision {
                // Panels of several planes would be no faster than those of f32.
                Precision::Fast if planes > 1 => batch < PLANES_BATCH,
                Precision::Fast => isa.code_panel_batch().is_some() || batch < isa.panel_batch(),
                Precision::Exact => batch < isa.decoded_batch(),
            };
        let in_panels = if in_codes {
            planes == 1 && isa.code_panel_batch().is_some_and(|least| batch >= least)
        } else {
            batch >= isa.panel_batch()
        };
        let codes = in_codes.then(|| input.quantised(pool, format.block_len(), planes));
        let panel_codes = codes.filter(|_| in_panels).map(|codes| CodeActivations::new(codes, format));
        let in_groups = !in_codes && !in_panels && isa.has_groups() && batch > 1;
        let groups = in_groups.then(|| Groups::new(isa, format, input.values(), input.width()));
        let out = Columns::new(out, weights.rows());
        Product { isa, weights, input, in_panels, codes, panel_codes, groups, out }
    }

    /// The products of the weight rows of `range`.
    fn multiply(&self, range: Range<usize>) {
        match (self.codes, &self.groups) {
            _ if self.in_panels => self.multiply_panels(range),
            (Some(codes), _) => self.multiply_codes(codes, range),
            (None, Some(groups)) => self.multiply_groups(groups, range),
            (None, None) => self.multiply_decoded(range),
        }
    }

    fn multiply_panels(&self, range: Range<usize>) {
        let (mut tile, mut code_tile) = (Tile::default(), CodeTile::default());
        for start in range.clone().step_by(PANEL_ROWS) {
            let rows = start..(start + PANEL_ROWS).min(range.end);
            let weights = self.weights.slice_rows(rows.clone());
            let take = |b: usize, products: &[f32]| {
                // SAFETY: no two ranges overlap.
                unsafe { self.out.part(b, rows.clone()) }.copy_from_slice(products);
            };
            match &self.panel_codes {
                Some(x) => code_tile.multiply(self.isa, weights, x, take),
                None => tile.multiply(self.isa, weights, self.input.values(), take),
            }
        }
    }

    fn multiply_codes(&self, codes: &Codes, range: Range<usize>) {
        let format = self.weights.format();
        let step = match codes.len() {
            1 => range.len(),
            _ => rows_at_once(self.weights),
        };
        for start in range.clone().step_by(step) {
            let rows = start..(start + step).min(range.end);
            let bytes = self.weights.slice_rows(rows.clone()).bytes();
            for (b, planes) in codes.iter().enumerate() {
                // SAFETY: no two ranges overlap.
                self.isa.dot_rows(format, bytes, planes, unsafe { self.out.part(b, rows.clone()) });
            }
        }
    }

    fn multiply_groups(&self, groups: &Groups, range: Range<usize>) {
        let mut products = GroupProducts::default();
        let step = if groups.decode_first() { ROWS_AT_ONCE } else { rows_at_once(self.weights) };
        for start in range.clone().step_by(step) {
            let rows = start..(start + step).min(range.end);
            products.multiply(self.isa, self.weights.slice_rows(rows.clone()), groups, |b, products| {
                // SAFETY: no two ranges overlap.
                unsafe { self.out.part(b, rows.clone()) }.copy_from_slice(products);
            });
        }
    }

    fn multiply_decoded(&self, range: Range<usize>) {
        let Product { isa, weights, input, out, .. } = self;
        let format = weights.format();
        let mut decoded = vec![0.0; weights.cols()];
        for row in range {
            // SAFETY: no two ranges overlap.
            let set = |b, product| unsafe { out.part(b, row..row + 1)[0] = product };
            if input.batch() == 1 {
                // Nothing is there to share what is decoded.
                set(0, isa.dot_decoded(format, weights.row(row), input.values()));
                continue;
            }
            isa.decode(format, weights.row(row), &mut decoded);
            for (b, x) in input.values().chunks_exact(weights.cols()).enumerate() {
                set(b, isa.dot(&decoded, x));
            }
        }
    }
}

/// Activation rows from which on f32 is faster than several planes of 8 bits, where those are enough.
const PLANES_BATCH: usize = 6;

/// Weight rows that are multiplied with all activation rows before the next: they stay in the first-level cache.
fn rows_at_once(weights: MatRef<'_>) -> usize {
    ((16 << 10) / weights.row_bytes()).next_multiple_of(ROWS_AT_ONCE).max(ROWS_AT_ONCE)
}

/// The output `[batch, rows]`, of which every thread writes other columns.
pub(crate) struct Columns<'a> {
    start: *mut f32,
    len: usize,
    rows: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only used through `part`, whose callers promise that no two threads use one column.
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    pub(crate) fn new(out: &'a mut [f32], rows: usize) -> Self {
        Columns { start: out.as_mut_ptr(), len: out.len(), rows, borrow: PhantomData }
    }

    /// The products of one activation row with the weight rows of `range`, for writing.
    ///
    /// # Safety
    /// Nobody else may hold any of them at the same time.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint by the caller's promise")]
    pub(crate) unsafe fn part(&self, batch_row: usize, range: Range<usize>) -> &mut [f32] {
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

    /// A matrix in blocks of 4 bits.
    fn four_bit_weights(rows: usize, width: usize, seed: u32) -> Matrix {
        let mut bytes = Vec::new();
        Format::Q4_K.encode(&values(rows * width, seed), &mut bytes).unwrap();
        Matrix::new(Format::Q4_K, rows, width, bytes.into()).unwrap()
    }

    #[test]
    fn matrices_that_share_their_input_give_what_each_gives_alone() {
        let (width, rows) = (256, [7, 64, 33]);
        let [a, b, c] = rows.map(|rows| four_bit_weights(rows, width, rows as u32));
        for (batch, precision) in [(1, Precision::Fast), (3, Precision::Exact), (40, Precision::Fast)] {
            let x = values(batch * width, 9);
            let input = Activations::new(&x, width);
            let alone = [&a, &b, &c].map(|weights| {
                let mut out = vec![f32::NAN; batch * weights.rows()];
                matmul(&Pool::new(1), weights.view(), &input, precision, &mut out);
                out
            });
            let mut together = rows.map(|rows| vec![f32::NAN; batch * rows]);
            let out = together.each_mut().map(Vec::as_mut_slice);
            matmul_each(&Pool::new(3), [a.view(), b.view(), c.view()], &input, precision, out);
            assert!(together == alone);
        }
    }

    #[test]
    fn fine_activations_lose_next_to_nothing_in_fast_products() {
        let (rows, width) = (9, 512);
        let weights = four_bit_weights(rows, width, 3);
        // One value in each block is a hundred times the others.
        let mut x = values(width, 4);
        x.iter_mut().step_by(32).for_each(|value| *value *= 100.0);
        let product = |input: Activations<'_>, precision| {
            let mut out = vec![0.0; rows];
            matmul(&Pool::new(1), weights.view(), &input, precision, &mut out);
            out
        };
        let exact = product(Activations::new(&x, width), Precision::Exact);
        let error = |input| {
            let found = product(input, Precision::Fast);
            found.iter().zip(&exact).map(|(found, exact)| (found - exact).abs()).fold(0.0, f32::max)
        };
        let (coarse, fine) = (error(Activations::new(&x, width)), error(Activations::fine(&x, width)));
        assert!(fine * 100.0 < coarse, "{fine} against {coarse}");
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
