//! Products of a few activation rows, all of which are multiplied with a weight as soon as it is in a register.

use std::ops::Range;

use super::Isa;
use crate::{Format, MatRef};

/// Values of a row that stand together.
pub(super) const LANES: usize = 16;

/// Activation rows that are multiplied at a time where weights are unpacked in registers, two rows of them.
const OF_UNPACKED: usize = 8;

/// The same where weights are floats, of which four rows are multiplied.
const OF_FLOATS: usize = 6;

/// Groups up to which it pays to unpack weights for each of them. For more, rows are decoded once.
const UNPACKED_GROUPS: usize = 2;

/// Values of one activation row, aligned as the cache is.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Values(pub(super) [f32; LANES]);

/// Activation rows in groups, in each of which the values of the same columns stand together.
#[derive(Debug)]
pub(crate) struct Groups {
    width: usize,
    /// Whether weights are to be decoded first.
    decode: bool,
    groups: Vec<Group>,
}

/// Some activation rows.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rows: usize,
    /// `[columns / LANES, rows]`; what is missing of the last columns, up to a whole block of 32, is zero.
    pub(super) values: Vec<Values>,
}

impl Groups {
    /// Of activations `[batch, width]` that weights in `format` are multiplied with.
    pub(crate) fn new(isa: Isa, format: Format, values: &[f32], width: usize) -> Groups {
        let batch = values.len() / width;
        let unpack = isa.unpacks_in_registers(format)
            && width.is_multiple_of(2 * LANES)
            && (format.is_float() || batch <= UNPACKED_GROUPS * OF_UNPACKED);
        let most = if unpack && !format.is_float() { OF_UNPACKED } else { OF_FLOATS };
        let count = batch.div_ceil(most);
        let groups = (0..count).map(|group| {
            let rows = batch * group / count..batch * (group + 1) / count;
            Group::new(&values[rows.start * width..rows.end * width], width)
        });
        Groups { width, decode: !unpack, groups: groups.collect() }
    }
}

impl Group {
    /// Of whole rows.
    fn new(values: &[f32], width: usize) -> Group {
        let starts = (0..width.next_multiple_of(2 * LANES)).step_by(LANES);
        let rows = values.chunks_exact(width);
        let values = starts.flat_map(|start| {
            rows.clone().map(move |row| {
                let mut values = Values([0.0; LANES]);
                let part = &row[start.min(width)..(start + LANES).min(width)];
                values.0[..part.len()].copy_from_slice(part);
                values
            })
        });
        Group { rows: rows.len(), values: values.collect() }
    }
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
            let stride = x.width.next_multiple_of(2 * LANES);
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
