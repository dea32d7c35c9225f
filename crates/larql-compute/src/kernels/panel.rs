//! Products of many activation rows: weights are unpacked once, into panels that suit the arithmetic.
//!
//! A panel holds some columns of [`ROWS`] weight rows, and what belongs to one column lies together: one vector
//! load gives a weight of every row, and an activation that is spread over a vector multiplies them all. Four
//! activation rows go over a panel at a time, so that nearly all instructions are multiplications.

use std::ops::Range;

use super::Isa;
use crate::MatRef;

/// Weight rows in a panel.
pub(crate) const ROWS: usize = 32;

/// Activation rows that are multiplied at a time.
pub(super) const BATCH: usize = 4;

/// Columns in a panel, which then stays in the second-level cache.
pub(super) const COLUMNS: usize = 1024;

/// Products of [`BATCH`] activation rows with [`ROWS`] weight rows.
pub(super) type Sums = [[f32; ROWS]; BATCH];

/// Working memory for any number of panels.
#[derive(Default)]
pub(crate) struct Tile {
    decoded: [Vec<f32>; 4],
    panel: Vec<[f32; ROWS]>,
    sums: Vec<Sums>,
}

impl Tile {
    /// Multiplies activations `x`, `[batch, weights.cols()]`, with up to [`ROWS`] weight rows, and calls `take`
    /// with the number of each activation row and its products.
    pub(crate) fn multiply(
        &mut self,
        isa: Isa,
        weights: MatRef<'_>,
        x: &[f32],
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let (format, width) = (weights.format(), weights.cols());
        let batch = x.len() / width;
        self.sums.clear();
        self.sums.resize(batch.div_ceil(BATCH), [[0.0; ROWS]; BATCH]);
        for start in (0..width).step_by(COLUMNS) {
            let columns = start..(start + COLUMNS).min(width);
            self.panel.resize(columns.len(), [0.0; ROWS]);
            for first in (0..weights.rows()).step_by(4) {
                for (r, decoded) in self.decoded.iter_mut().enumerate() {
                    decoded.resize(columns.len(), 0.0);
                    if first + r < weights.rows() {
                        isa.decode(format, weights.row_part(first + r, columns.clone()), decoded);
                    }
                }
                interleave(self.decoded.each_ref().map(Vec::as_slice), &mut self.panel, first);
            }
            for (i, sums) in self.sums.iter_mut().enumerate() {
                let rows = std::array::from_fn(|b| {
                    let row = (BATCH * i + b).min(batch - 1);
                    &x[row * width..][columns.clone()]
                });
                isa.multiply_panel(&self.panel, rows, sums);
            }
        }
        for b in 0..batch {
            take(b, &self.sums[b / BATCH][b % BATCH][..weights.rows()]);
        }
    }

    /// Multiplies `x`, `[batch, rows.len()]`, with some columns, whole blocks, of the given rows of `weights`, and calls
    /// `take` with the number of each activation row, the first column, and the products of up to [`ROWS`] columns.
    ///
    /// A row of weights as it is decoded holds neighbouring columns side by side, which is what a panel of the transposed
    /// matrix consists of.
    pub(crate) fn multiply_columns(
        &mut self,
        isa: Isa,
        (weights, rows): (MatRef<'_>, &[usize]),
        columns: Range<usize>,
        x: &[f32],
        mut take: impl FnMut(usize, usize, &[f32]),
    ) {
        let batch = x.len() / rows.len();
        let (panels, groups) = (columns.len().div_ceil(ROWS), batch.div_ceil(BATCH));
        self.sums.clear();
        self.sums.resize(panels * groups, [[0.0; ROWS]; BATCH]);
        let decoded = &mut self.decoded[0];
        decoded.resize(columns.len(), 0.0);
        for start in (0..rows.len()).step_by(COLUMNS) {
            let part = start..(start + COLUMNS).min(rows.len());
            self.panel.resize(panels * part.len(), [0.0; ROWS]);
            for (r, row) in rows[part.clone()].iter().enumerate() {
                isa.decode(weights.format(), weights.row_part(*row, columns.clone()), decoded);
                for (panel, values) in decoded.chunks(ROWS).enumerate() {
                    self.panel[panel * part.len() + r][..values.len()].copy_from_slice(values);
                }
            }
            for (panel, sums) in self.panel.chunks_exact(part.len()).zip(self.sums.chunks_exact_mut(groups)) {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let inputs = std::array::from_fn(|b| {
                        let row = (BATCH * i + b).min(batch - 1);
                        &x[row * rows.len()..][part.clone()]
                    });
                    isa.multiply_panel(panel, inputs, sums);
                }
            }
        }
        for (panel, sums) in self.sums.chunks_exact(groups).enumerate() {
            let first = columns.start + panel * ROWS;
            let count = ROWS.min(columns.end - first);
            (0..batch).for_each(|b| take(b, first, &sums[b / BATCH][b % BATCH][..count]));
        }
    }
}

/// Makes four rows columns `first` to `first + 3` of the panel.
pub(super) fn interleave<T: Copy>(rows: [&[T]; 4], panel: &mut [[T; ROWS]], first: usize) {
    let [(a, a_rest), (b, b_rest), (c, c_rest), (d, d_rest)] = rows.map(|row| row.as_chunks::<4>());
    let (panel, rest) = panel.as_chunks_mut::<4>();
    for ((((panel, a), b), c), d) in panel.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        for i in 0..4 {
            panel[i].as_chunks_mut::<4>().0[first / 4] = [a[i], b[i], c[i], d[i]];
        }
    }
    for (i, panel) in rest.iter_mut().enumerate() {
        panel[first..first + 4].copy_from_slice(&[a_rest[i], b_rest[i], c_rest[i], d_rest[i]]);
    }
}
