//! Products of a few activation rows, all of which are multiplied with a weight as soon as it is in a register.

use std::ops::Range;

use super::Isa;
use crate::aligned::Line;
use crate::{Format, MatRef};

/// Activation rows that are multiplied at a time where weights are unpacked in registers, one or two rows of them.
const OF_UNPACKED: usize = 8;

/// The same where weights are floats, of which two or four rows are multiplied.
const OF_FLOATS: usize = 6;

/// Groups up to which it pays to unpack weights for each of them. For more, rows are decoded once.
const UNPACKED_GROUPS: usize = 2;

/// Columns of which a group has all values, up to a multiple of that.
const COLUMNS: usize = 32;

/// Activation rows in groups, in each of which the values of the same columns stand together.
#[derive(Debug)]
pub(crate) struct Groups {
    width: usize,
    /// True if weights are decoded first.
    decode: bool,
    groups: Vec<Group>,
}

/// Some activation rows.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rows: usize,
    /// `[columns / lanes, rows, lanes]`, where a vector has so many lanes; what is missing of the last 32 columns is zero.
    values: Vec<Line>,
}

impl Groups {
    /// Groups of activations `[batch, width]` that weights in `format`, decoded first or not, are multiplied with.
    pub(crate) fn new(isa: Isa, format: Format, values: &[f32], width: usize, decode: bool) -> Groups {
        let (batch, unpack) = (values.len() / width, !decode);
        let most = if unpack && !format.is_float() { OF_UNPACKED } else { OF_FLOATS };
        let layout = isa.group_layout(if unpack { format } else { Format::F32 });
        let count = batch.div_ceil(most);
        let groups = (0..count).map(|group| {
            let rows = batch * group / count..batch * (group + 1) / count;
            Group::new(&values[rows.start * width..rows.end * width], width, layout)
        });
        Groups { width, decode, groups: groups.collect() }
    }

    /// True if weights in `format` are decoded before they are multiplied with `batch` rows of `width`;
    /// otherwise they are unpacked in registers.
    pub(crate) fn decode_first(isa: Isa, format: Format, width: usize, batch: usize) -> bool {
        let unpack = isa.unpacks_in_registers(format)
            && width.is_multiple_of(COLUMNS)
            && (format.is_float() || batch <= UNPACKED_GROUPS * OF_UNPACKED);
        !unpack
    }
}

impl Group {
    /// The layout of whole rows, for vectors of `lanes` lanes.
    fn new(values: &[f32], width: usize, (lanes, order): (usize, Order)) -> Group {
        let rows = values.len() / width;
        let mut group = Group { rows, values: vec![Line([0.0; 16]); width.div_ceil(COLUMNS) * 2 * rows] };
        for (r, row) in values.chunks_exact(width).enumerate() {
            let groups = bytemuck::cast_slice_mut(&mut group.values).chunks_exact_mut(COLUMNS * rows);
            for (columns, group) in row.chunks(COLUMNS).zip(groups) {
                let mut ordered = [0.0; COLUMNS];
                ordered[..columns.len()].copy_from_slice(columns);
                if let Order::EveryFourth = order {
                    ordered = every_fourth(&ordered);
                }
                for (values, group) in ordered.chunks_exact(lanes).zip(group.chunks_exact_mut(lanes * rows)) {
                    group[r * lanes..][..lanes].copy_from_slice(values);
                }
            }
        }
        group
    }

    /// Vectors of values, `[columns / LANES, rows]`.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "others have no groups"))]
    pub(super) fn vectors<const LANES: usize>(&self) -> &[[f32; LANES]] {
        bytemuck::cast_slice(&self.values).as_chunks().0
    }

    /// Columns, up to a multiple of 32.
    pub(super) fn width(&self) -> usize {
        16 * self.values.len() / self.rows
    }
}

/// See [`Order::EveryFourth`].
fn every_fourth(columns: &[f32; COLUMNS]) -> [f32; COLUMNS] {
    let mut ordered = [[0.0; COLUMNS / 4]; 4];
    for (lane, four) in columns.as_chunks::<4>().0.iter().enumerate() {
        for (ordered, value) in ordered.iter_mut().zip(four) {
            ordered[lane] = *value;
        }
    }
    bytemuck::cast(ordered)
}

/// Order of each 32 columns in a group.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// As they are.
    Natural,
    /// First those that are multiples of 4, then those that are one more, and so on.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "others have no groups"))]
    EveryFourth,
}

/// Working memory for any number of weight rows.
#[derive(Default)]
pub(crate) struct GroupProducts {
    decoded: Vec<f32>,
    products: Vec<f32>,
}

impl GroupProducts {
    /// Multiplies activations with a few weight rows, and calls `take` with the number of each activation row and its
    /// products.
    pub(crate) fn multiply(
        &mut self,
        isa: Isa,
        weights: MatRef<'_>,
        x: &Groups,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let (mut format, mut bytes) = (weights.format(), weights.bytes());
        if x.decode {
            let stride = x.width.next_multiple_of(COLUMNS);
            self.decoded.resize(weights.rows() * stride, 0.0);
            for (row, decoded) in self.decoded.chunks_exact_mut(stride).enumerate() {
                isa.decode(format, weights.row(row), &mut decoded[..x.width]);
            }
            (format, bytes) = (Format::F32, bytemuck::cast_slice(&self.decoded));
        }
        let mut first = 0;
        for group in &x.groups {
            self.products.resize(group.rows * weights.rows(), 0.0);
            isa.multiply_group(format, bytes, group, &mut self.products);
            let rows: Range<usize> = first..first + group.rows;
            rows.zip(self.products.chunks_exact(weights.rows()))
                .for_each(|(row, products)| take(row, products));
            first += group.rows;
        }
    }
}
