//! Products of many activation rows in 8 bits.
//!
//! As in [`panel`](super::panel), but of the codes of the weights. A vector holds four columns of each row, which are
//! multiplied with four codes of an activation row and added up.

use std::borrow::Cow;
use std::ops::Range;

use super::panel::{BATCH, ROWS, Sums, interleave};
use super::{Isa, QuantisedRow};
use crate::aligned::AlignedVec;
use crate::{Format, MatRef};

/// Columns in a panel, which then stays in the first-level cache.
pub(super) const COLUMNS: usize = 512;

/// Columns that the last panel takes more, where as few are left: a panel of their own would cost nearly as much as a whole
/// one.
const MORE_COLUMNS: usize = 128;

/// Some columns of [`ROWS`] weight rows, each weight `scale * code + minimum`. Codes are unsigned on x86 and
/// signed for NEON, as their instructions take them.
#[derive(Default)]
pub(super) struct Panel {
    /// Four columns of each row: `[columns / 4, ROWS]`.
    pub(super) codes: AlignedVec<[[u8; 4]; ROWS]>,
    /// Values for each group of columns: `[columns / group_len, ROWS]`.
    pub(super) scales: AlignedVec<[f32; ROWS]>,
    /// As the scales. On x86 with AVX-512 not of formats with a [`zero_point`].
    pub(super) minima: AlignedVec<[f32; ROWS]>,
    /// Units of scales and of minima, for each block: `[columns / 256, 2, ROWS]`. Only on x86 with AVX-512 and for
    /// formats with blocks of 256; elsewhere scales and minima are multiplied already.
    pub(super) factors: AlignedVec<[[f32; ROWS]; 2]>,
}

/// The same columns of one activation row.
#[derive(Clone, Copy)]
pub(super) struct Activation<'a> {
    pub(super) codes: &'a [[i8; 4]],
    /// Scale of each group, and the scale times the sum of its codes.
    pub(super) factors: &'a [[f32; 2]],
    /// For each group what its codes add up to, times minus the [`zero_point`] of the weights.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for AVX-512 alone"))]
    pub(super) starts: &'a [i32],
    /// For each group what its codes add up to.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for AVX-512 alone"))]
    pub(super) sums: &'a [f32],
}

/// Consecutive weights of one row, as in a [`Panel`].
#[derive(Default)]
pub(super) struct Unpacked {
    pub(super) codes: Vec<u8>,
    /// Scale of each group.
    pub(super) scales: Vec<f32>,
    /// Minimum of each group.
    pub(super) minima: Vec<f32>,
}

/// Weights that share scale and minimum: a sub-block of the format, but not more than 32.
pub(super) fn group_len(format: Format) -> usize {
    match format {
        Format::Q2_K | Format::Q3_K | Format::Q6_K => 16,
        Format::IQ2_XS | Format::IQ2_S | Format::IQ1_M => 16,
        _ => 32,
    }
}

/// The unsigned code that stands for zero, in formats whose minima are that many times minus the scale.
pub(super) fn zero_point(format: Format) -> Option<i32> {
    match format {
        Format::Q4_1 | Format::Q5_1 | Format::Q2_K | Format::Q4_K | Format::Q5_K => None,
        Format::Q3_K => Some(4),
        Format::Q4_0 => Some(8),
        Format::MXFP4 => Some(12),
        Format::Q5_0 => Some(16),
        Format::Q6_K => Some(32),
        _ => Some(128),
    }
}

/// Activation rows as panels need them.
pub(crate) struct Activations<'a> {
    /// The planes of the first row, then those of the second, and so on.
    planes: Vec<&'a QuantisedRow>,
    /// Values of the groups of each plane.
    factors: Vec<Cow<'a, [[f32; 2]]>>,
    /// As the factors; zeros for all planes if the format has minima.
    starts: Vec<Vec<i32>>,
    /// As the factors; zeros for all planes if they are not needed.
    sums: Vec<Vec<f32>>,
    planes_per_row: usize,
}

impl<'a> Activations<'a> {
    /// Rows of equally many planes, for weights of this format.
    pub(crate) fn new(rows: &[&'a [QuantisedRow]], format: Format) -> Self {
        let group_len = group_len(format);
        let planes: Vec<_> = rows.iter().copied().flatten().collect();
        let groups = planes.first().map_or(0, |plane| plane.codes.len() / group_len);
        let in_blocks_of_32 = format.block_len() == 32;
        // The factors of blocks of 32 have what minima are multiplied with.
        let sums: Vec<Vec<i32>> = match zero_point(format) {
            None if in_blocks_of_32 => Vec::new(),
            _ => planes.iter().map(|plane| plane.group_sums(group_len)).collect(),
        };
        let factors = planes.iter().enumerate().map(|(i, plane)| match in_blocks_of_32 {
            true => Cow::Borrowed(&plane.factors[..]),
            false => Cow::Owned(plane.group_factors(&sums[i])),
        });
        let factors = factors.collect();
        let (mut starts, mut minima_sums) = (vec![vec![0; groups]], vec![vec![0.0; groups]]);
        let sums = sums.into_iter();
        match zero_point(format) {
            Some(zero) => starts = sums.map(|sums| sums.iter().map(|sum| -zero * sum).collect()).collect(),
            None if in_blocks_of_32 => {}
            None => minima_sums = sums.map(|sums| sums.iter().map(|sum| *sum as f32).collect()).collect(),
        }
        let planes_per_row = rows.first().map_or(1, |planes| planes.len());
        Activations { factors, planes, starts, sums: minima_sums, planes_per_row }
    }

    /// Some columns of a plane, in whole groups.
    fn columns(&self, plane: usize, columns: Range<usize>, groups: Range<usize>) -> Activation<'_> {
        Activation {
            codes: self.planes[plane].codes[columns].as_chunks().0,
            factors: &self.factors[plane][groups.clone()],
            starts: &self.starts[plane.min(self.starts.len() - 1)][groups.clone()],
            sums: &self.sums[plane.min(self.sums.len() - 1)][groups],
        }
    }
}

/// Working memory for any number of panels.
#[derive(Default)]
pub(crate) struct CodeTile {
    unpacked: [Unpacked; 4],
    panel: Panel,
    sums: Vec<Sums>,
}

impl CodeTile {
    /// Multiplies activations `x` with up to [`ROWS`] weight rows, and calls `take` with the number of each
    /// activation row and its products. `isa` [has such panels](Isa::code_panel_batch).
    pub(crate) fn multiply(
        &mut self,
        isa: Isa,
        weights: MatRef<'_>,
        x: &Activations<'_>,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let (format, width, planes) = (weights.format(), weights.cols(), x.planes.len());
        let group_len = group_len(format);
        self.sums.clear();
        self.sums.resize(planes.div_ceil(BATCH), [[0.0; ROWS]; BATCH]);
        let mut columns = 0..0;
        while columns.end < width {
            let rest = width - columns.end;
            let count = if rest <= COLUMNS + MORE_COLUMNS { rest } else { COLUMNS };
            columns = columns.end..columns.end + count;
            let groups = columns.start / group_len..columns.end / group_len;
            self.panel.codes.resize(columns.len() / 4);
            self.panel.scales.resize(groups.len());
            self.panel.minima.resize(groups.len());
            self.panel.factors.resize(columns.len() / 256);
            self.fill(isa, weights, columns.clone());
            for (i, sums) in self.sums.iter_mut().enumerate() {
                let rows = std::array::from_fn(|b| {
                    x.columns((BATCH * i + b).min(planes - 1), columns.clone(), groups.clone())
                });
                isa.multiply_code_panel(format, &self.panel, &rows, (planes - BATCH * i).min(BATCH), sums);
            }
        }
        for (b, planes) in self.sums.as_flattened()[..planes].chunks_exact(x.planes_per_row).enumerate() {
            let mut sums = planes[0];
            for plane in &planes[1..] {
                sums.iter_mut().zip(plane).for_each(|(sum, product)| *sum += product);
            }
            take(b, &sums[..weights.rows()]);
        }
    }

    /// Makes some columns of up to [`ROWS`] weight rows the panel.
    fn fill(&mut self, isa: Isa, weights: MatRef<'_>, columns: Range<usize>) {
        if isa.fill_code_panel(weights, columns.clone(), &mut self.panel) {
            return;
        }
        let groups = self.panel.scales.len();
        for first in (0..weights.rows()).step_by(4) {
            for (r, unpacked) in self.unpacked.iter_mut().enumerate() {
                unpacked.codes.resize(columns.len(), 0);
                unpacked.scales.resize(groups, 0.0);
                unpacked.minima.resize(groups, 0.0);
                if first + r < weights.rows() {
                    isa.unpack(weights.format(), weights.row_part(first + r, columns.clone()), unpacked);
                }
            }
            let [a, b, c, d] = &self.unpacked;
            let quads = [a, b, c, d].map(|unpacked| unpacked.codes.as_chunks::<4>().0);
            interleave(quads, &mut self.panel.codes, first);
            interleave([&a.scales, &b.scales, &c.scales, &d.scales], &mut self.panel.scales, first);
            interleave([&a.minima, &b.minima, &c.minima, &d.minima], &mut self.panel.minima, first);
        }
    }
}
