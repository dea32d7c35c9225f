//! Rows whose product with a vector may exceed a limit, found by products in 8 bits.
//!
//! Rows and vectors are rounded to 8 bits with one scale each. How far the product of the rounded forms can be from the
//! exact one follows from the lengths of what rounding took, so that nearly all rows are ruled out without a product of
//! floats, and of the others nearly all by one in whatever order of sums is fastest.
//!
//! ```
//! use larql_compute::{CoarsePanels, CoarseVectors, Pool};
//!
//! let pool = Pool::new(1);
//! let (rows, vectors) = ([1.0, 0.0, 0.0, 1.0, 0.6, 0.8], [0.5, 0.5]);
//! let (rows, vectors) = (CoarsePanels::new(&pool, &rows, 2), CoarseVectors::new(&pool, &vectors, 2));
//! let mut found = [vec![]];
//! rows.for_each_candidate(&pool, &vectors, &mut found, |_| 0.6, |found, row| found.push(row));
//! assert_eq!(found, [[2]]);
//! ```

use std::ops::Range;

use crate::Pool;
use crate::aligned::AlignedVec;
use crate::kernels::{BYTE_COLUMNS, BYTE_LANES, BYTE_VECTORS, ByteQuad, Isa, Limit, Rounded, RowFigures};

/// Bound on the rounding error of a product, as a share of the lengths of its factors; the actual error is far smaller.
const ROUNDING: f32 = 1e-4;

/// Codes of rows that stay in the second-level cache, with the rows themselves, while vectors pass.
const CACHED_CODES: usize = 1 << 17;

/// Vectors that pass the cached rows together, and stay in the cache for the next rows.
const VECTORS_AT_ONCE: usize = 4 * BYTE_VECTORS;

/// Vectors in 8 bits, `[vectors, width]`.
pub struct CoarseVectors<'a> {
    isa: Isa,
    values: &'a [f32],
    width: usize,
    /// As [`round`] returns them.
    codes: AlignedVec<i8>,
    vectors: Vec<Rounded>,
}

impl<'a> CoarseVectors<'a> {
    /// Rounds vectors, `[vectors, width]`.
    ///
    /// # Panics
    /// If `values` is not a number of whole vectors.
    pub fn new(pool: &Pool, values: &'a [f32], width: usize) -> CoarseVectors<'a> {
        CoarseVectors::with_isa(Isa::best(), pool, values, width)
    }

    fn with_isa(isa: Isa, pool: &Pool, values: &'a [f32], width: usize) -> CoarseVectors<'a> {
        let (codes, vectors) = round((isa, isa.largest_byte(), isa.vectors_beside()), pool, values, width);
        CoarseVectors { isa, values, width, codes, vectors }
    }

    fn slice(&self, range: Range<usize>) -> VectorSlice<'_> {
        let beside = self.isa.vectors_beside();
        let stride = self.codes.len() / self.vectors.len().next_multiple_of(beside);
        VectorSlice {
            values: &self.values[range.start * self.width..range.end * self.width],
            codes: &self.codes[range.start * stride..range.end.next_multiple_of(beside) * stride],
            figures: &self.vectors[range],
        }
    }
}

/// Some consecutive vectors of [`CoarseVectors`].
struct VectorSlice<'a> {
    values: &'a [f32],
    codes: &'a [i8],
    figures: &'a [Rounded],
}

/// Rows in 8 bits, `[rows, width]`, in the order in which they are multiplied with many vectors.
pub struct CoarsePanels<'a> {
    isa: Isa,
    values: &'a [f32],
    width: usize,
    rows: usize,
    /// `[panels, columns / 4]`.
    codes: AlignedVec<ByteQuad>,
    panels: Vec<RowFigures>,
}

impl<'a> CoarsePanels<'a> {
    /// Rounds rows, `[rows, width]`.
    ///
    /// # Panics
    /// If `values` is not a number of whole rows.
    pub fn new(pool: &Pool, values: &'a [f32], width: usize) -> CoarsePanels<'a> {
        CoarsePanels::with_isa(Isa::best(), pool, values, width)
    }

    fn with_isa(isa: Isa, pool: &Pool, values: &'a [f32], width: usize) -> CoarsePanels<'a> {
        let (row_codes, rows) = round((isa, i8::MAX, 1), pool, values, width);
        let quads = width.next_multiple_of(BYTE_COLUMNS) / 4;
        let row_codes = row_codes.as_chunks::<4>().0;
        let zero = isa.byte_zero();
        let mut codes = AlignedVec::default();
        codes.resized(quads * rows.len().div_ceil(BYTE_LANES)).fill([[zero; 4]; BYTE_LANES]);
        pool.for_each_piece(&mut codes, quads.max(1), |start, codes| {
            let rows = row_codes[start * BYTE_LANES..].chunks(quads * BYTE_LANES);
            for (panel, rows) in codes.chunks_mut(quads).zip(rows) {
                // So few columns at a time that what is written stays in the first-level cache.
                for (part, panel) in panel.chunks_mut(BYTE_COLUMNS / 4).enumerate() {
                    for (lane, row) in rows.chunks(quads).enumerate() {
                        for (quad, codes) in panel.iter_mut().zip(&row[part * BYTE_COLUMNS / 4..]) {
                            quad[lane] = codes.map(|code| (code as u8).wrapping_add(zero));
                        }
                    }
                }
            }
        });
        let panels = rows.chunks(BYTE_LANES).map(figures).collect();
        CoarsePanels { isa, values, width, rows: rows.len(), codes, panels }
    }

    /// Calls `visit` with the state of each vector and each row whose product with the vector may be greater than what
    /// `to_beat` returns for that state. The rows of a vector come in order; what the state has to beat may grow meanwhile,
    /// and then rules out more.
    ///
    /// # Panics
    /// If the widths differ or there is not one state for each vector.
    pub fn for_each_candidate<State: Send>(
        &self,
        pool: &Pool,
        vectors: &CoarseVectors<'_>,
        states: &mut [State],
        to_beat: impl Fn(&State) -> f32 + Sync,
        visit: impl Fn(&mut State, usize) + Sync,
    ) {
        assert_eq!(self.width, vectors.width, "rows and vectors differ in length");
        assert_eq!(states.len(), vectors.vectors.len(), "a state for each vector");
        assert_eq!(self.isa, vectors.isa);
        let quads = self.codes.len() / self.panels.len().max(1);
        let panels_at_once = (CACHED_CODES / (4 * quads * BYTE_LANES).max(1)).max(1);
        pool.for_each_piece(states, VECTORS_AT_ONCE, |first, states| {
            for (first, states) in (first..).step_by(VECTORS_AT_ONCE).zip(states.chunks_mut(VECTORS_AT_ONCE))
            {
                for panel in (0..self.panels.len()).step_by(panels_at_once) {
                    let panels = panel..(panel + panels_at_once).min(self.panels.len());
                    let groups = (first..).step_by(BYTE_VECTORS).zip(states.chunks_mut(BYTE_VECTORS));
                    for (start, states) in groups {
                        let vectors = vectors.slice(start..start + states.len());
                        for panel in panels.clone() {
                            self.visit_panel(panel, &vectors, states, &to_beat, &visit);
                        }
                    }
                }
            }
        });
    }

    /// Visits the candidates of one panel for a few vectors.
    fn visit_panel<State>(
        &self,
        panel: usize,
        vectors: &VectorSlice<'_>,
        states: &mut [State],
        to_beat: impl Fn(&State) -> f32,
        visit: impl Fn(&mut State, usize),
    ) {
        let quads = self.codes.len() / self.panels.len();
        let mut products = [[0; BYTE_LANES]; BYTE_VECTORS];
        let products = &mut products[..vectors.codes.len() / (4 * quads)];
        let zero = i32::from(self.isa.byte_zero());
        for (products, vector) in products.iter_mut().zip(vectors.figures) {
            *products = [-zero * vector.sum; BYTE_LANES];
        }
        self.isa.add_byte_products(&self.codes[panel * quads..][..quads], vectors.codes, products);
        let rows = &self.panels[panel];
        let vectors = vectors.figures.iter().zip(vectors.values.chunks_exact(self.width));
        for ((state, (vector, values)), products) in states.iter_mut().zip(vectors).zip(&*products) {
            for lane in self.candidates(rows, products, *vector, to_beat(state)) {
                let row = panel * BYTE_LANES + lane;
                let rounding = rows.rounding(lane, *vector);
                if row < self.rows && self.may_beat(row, values, rounding, to_beat(state)) {
                    visit(state, row);
                }
            }
        }
    }

    /// The rows of a panel that products in 8 bits do not rule out; nearly always none.
    fn candidates(
        &self,
        panel: &RowFigures,
        products: &[i32; BYTE_LANES],
        vector: Rounded,
        to_beat: f32,
    ) -> impl Iterator<Item = usize> + use<> {
        let [to_beat, norm, loss] = [to_beat, vector.norm, vector.loss].map(|value| value / vector.scale);
        let lanes = match vector.scale > 0.0 && norm.is_finite() && loss.is_finite() {
            true => self.isa.bytes_above(products, panel, Limit { to_beat, norm, loss }),
            // Where there is no bound all rows are candidates.
            false => u32::MAX,
        };
        (0..BYTE_LANES).filter(move |lane| lanes >> lane & 1 == 1)
    }

    /// False if the product of a row with a vector is not greater than a limit in any order of sums, which change it by
    /// `rounding` at most.
    fn may_beat(&self, row: usize, vector: &[f32], rounding: f32, limit: f32) -> bool {
        let product = self.isa.dot(&self.values[row * self.width..][..self.width], vector);
        product + rounding > limit || !rounding.is_finite()
    }
}

/// Figures of the rows of a panel. They bound the distance of a coarse product from the exact one: with `d` a vector, `u` a
/// row and `'` for their coarse forms, `|d.u - d'.u'| <= |d| |u - u'| + |d - d'| |u'|`, by the Cauchy-Schwarz inequality.
fn figures(rows: &[Rounded]) -> RowFigures {
    let [scales, losses, norms] = [[0.0; BYTE_LANES]; 3];
    let mut figures = RowFigures { scales, losses, norms };
    for (lane, row) in rows.iter().enumerate() {
        let bounds = [row.scale, row.loss + ROUNDING * row.norm, row.norm + row.loss];
        // A row that is not finite has no bound, so that it is always a candidate.
        let finite = bounds.iter().all(|value| value.is_finite());
        [figures.scales[lane], figures.losses[lane], figures.norms[lane]] =
            if finite { bounds } else { [0.0, f32::INFINITY, 0.0] };
    }
    figures
}

impl RowFigures {
    /// Bound on the distance of two products of floats of a row and a vector whose sums differ in order.
    fn rounding(&self, lane: usize, vector: Rounded) -> f32 {
        match self.losses[lane].is_finite() {
            true => ROUNDING * vector.norm * self.norms[lane],
            false => f32::INFINITY,
        }
    }
}

/// Rows in codes of at most `largest`, with what they stand for. Of `beside` rows 64 columns follow one another, then the
/// next 64: `[rows / beside, columns / 64, beside, 64]`. Columns and rows are filled up with zeros to whole steps.
fn round(
    (isa, largest, beside): (Isa, i8, usize),
    pool: &Pool,
    values: &[f32],
    width: usize,
) -> (AlignedVec<i8>, Vec<Rounded>) {
    assert!(width > 0 && values.len().is_multiple_of(width), "values are not whole rows");
    assert!(width <= 1 << 16, "sums of products of wider rows do not fit in 32 bits");
    let (rows, stride) = (values.len() / width, width.next_multiple_of(BYTE_COLUMNS));
    let mut codes = AlignedVec::default();
    codes.resize(rows.next_multiple_of(beside) * stride);
    let mut rounded = vec![Rounded::default(); rows];
    let groups = codes.chunks_exact_mut(beside * stride).zip(rounded.chunks_mut(beside));
    let mut groups: Vec<_> = groups.collect();
    pool.for_each_piece(&mut groups, 1, |first, groups| {
        let mut row_codes = vec![0; stride];
        let values = values[first * beside * width..].chunks(beside * width);
        for ((codes, rounded), values) in groups.iter_mut().zip(values) {
            for (row, (rounded, values)) in rounded.iter_mut().zip(values.chunks_exact(width)).enumerate() {
                *rounded = isa.round_to_bytes(values, largest, &mut row_codes[..width]);
                let steps = codes.chunks_exact_mut(beside * BYTE_COLUMNS);
                for (step, row_codes) in steps.zip(row_codes.chunks_exact(BYTE_COLUMNS)) {
                    step[row * BYTE_COLUMNS..][..BYTE_COLUMNS].copy_from_slice(row_codes);
                }
            }
        }
    });
    (codes, rounded)
}

#[cfg(test)]
mod tests {
    use larql_testing::noise;

    use super::*;
    use crate::vector::dot;

    #[test]
    fn no_row_that_beats_the_limit_is_ruled_out_and_few_others_are_visited() {
        // More than pass the rows together, and not whole groups of them.
        let (rows, width, vectors) = (1003, 200, VECTORS_AT_ONCE + 37);
        let mut values = noise(rows * width, 1);
        values[5] *= 1000.0;
        let (mut others, limit) = (noise(vectors * width, 2), 2.5 * (width as f32).sqrt() / 3.0);
        others[3 * width..4 * width].fill(0.0);
        for isa in Isa::available() {
            for threads in [1, 3] {
                let pool = Pool::new(threads);
                let panels = CoarsePanels::with_isa(isa, &pool, &values, width);
                let coarse = CoarseVectors::with_isa(isa, &pool, &others, width);
                let mut found = vec![Vec::new(); vectors];
                panels.for_each_candidate(
                    &pool,
                    &coarse,
                    &mut found,
                    |_| limit,
                    |found, row| found.push(row),
                );
                let mut visited = 0;
                for (found, vector) in found.iter().zip(others.chunks_exact(width)) {
                    visited += found.len();
                    for (row, values) in values.chunks_exact(width).enumerate() {
                        assert!(dot(values, vector) <= limit || found.contains(&row), "{isa:?} {row}");
                    }
                }
                assert!(visited < rows * vectors / 10, "{isa:?} {visited}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_rules_nothing_out_wrongly() {
        let (width, pool) = (8, Pool::new(1));
        let mut values = noise(40 * width, 3);
        values[0] = f32::INFINITY;
        values[9] = f32::NAN;
        let mut others = noise(3 * width, 4);
        others[2 * width] = f32::INFINITY;
        let panels = CoarsePanels::new(&pool, &values, width);
        let coarse = CoarseVectors::new(&pool, &others, width);
        let mut found = vec![Vec::new(); 3];
        panels.for_each_candidate(&pool, &coarse, &mut found, |_| 0.5, |found, row| found.push(row));
        for (found, vector) in found.iter().zip(others.chunks_exact(width)) {
            for (row, values) in values.chunks_exact(width).enumerate() {
                let beats = dot(values, vector) > 0.5;
                assert!(!beats || found.contains(&row), "{row}");
            }
        }
    }
}
