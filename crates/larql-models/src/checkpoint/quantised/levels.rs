//! From codes to values: levels, scales, zero points, and the groups of values that share them.

use std::sync::Arc;

use bytes::Bytes;
use larql_compute::Format;

use super::codes::{Codes, e4m3};

/// Values of the codes, before scale and zero point.
#[derive(Clone, Debug)]
pub(super) enum Levels {
    /// The codes themselves, as unsigned integers.
    Integers,
    /// The values of a table, by code.
    Table(Arc<[f32]>),
}

impl Levels {
    /// Levels of 8-bit floats.
    pub(super) fn e4m3() -> Levels {
        Levels::Table((0..=255).map(e4m3).collect())
    }

    /// The level of a code. A table has one for every code that its bits allow.
    #[inline]
    pub(super) fn of(&self, code: u8) -> f32 {
        match self {
            Levels::Integers => f32::from(code),
            Levels::Table(levels) => levels[usize::from(code)],
        }
    }
}

/// The group of each input.
#[derive(Clone, Debug)]
pub(super) enum Groups {
    /// Inputs in order, so many to a group.
    Even(usize),
    /// A group for each input, below a count: quantised in another order than they are stored (GPTQ's act-order).
    Listed { of: Arc<[u32]>, count: usize },
    /// All values of the matrix in one sequence, so many to a group, whatever the output.
    Sequence(usize),
}

impl Groups {
    /// First group of an output, and the number of its groups.
    pub(super) fn span(&self, output: usize, inputs: usize) -> (usize, usize) {
        match self {
            Groups::Even(size) => (0, inputs.div_ceil(*size)),
            Groups::Listed { count, .. } => (0, *count),
            Groups::Sequence(size) => {
                let first = output * inputs / size;
                (first, ((output + 1) * inputs).div_ceil(*size) - first)
            }
        }
    }

    /// Place of an input's group among those of the output.
    #[inline]
    pub(super) fn of(&self, output: usize, input: usize, inputs: usize) -> usize {
        match self {
            Groups::Even(size) => input / size,
            Groups::Listed { of, .. } => of[input] as usize,
            Groups::Sequence(size) => (output * inputs + input) / size - output * inputs / size,
        }
    }

    /// Inputs of a block of consecutive ones that share a group always, if groups are as regular.
    pub(super) fn size(&self, inputs: usize) -> Option<usize> {
        match self {
            Groups::Even(size) => Some((*size).min(inputs)),
            Groups::Sequence(size) => inputs.is_multiple_of(*size).then_some(*size),
            Groups::Listed { .. } => None,
        }
    }
}

/// Factors of the levels.
#[derive(Clone, Debug)]
pub(super) enum Scales {
    /// Floats in a table.
    Table {
        floats: Floats,
        shape: ScaleShape,
        /// Factor of each.
        times: f32,
    },
    /// Codes of a byte each, which are quantised themselves (bitsandbytes' double quantisation):
    /// `levels[code] * scales[index / size] + offset`.
    Nested { codes: Bytes, levels: Arc<[f32]>, scales: Floats, size: usize, offset: f32 },
}

/// Meaning of the places in a table of scales.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScaleShape {
    /// One scale.
    Single,
    /// `[groups, outputs]`
    ByGroup { outputs: usize },
    /// `[outputs / shared, groups]`
    ByOutput { groups: usize, shared: usize },
    /// One after the other, numbered through all outputs.
    Sequence,
}

impl Scales {
    pub(super) fn of(&self, output: usize, group: usize) -> f32 {
        match self {
            Scales::Table { floats, shape, times } => {
                let index = match shape {
                    ScaleShape::Single => 0,
                    ScaleShape::ByGroup { outputs } => group * outputs + output,
                    ScaleShape::ByOutput { groups, shared } => output / shared * groups + group,
                    ScaleShape::Sequence => group,
                };
                floats.get(index) * times
            }
            Scales::Nested { codes, levels, scales, size, offset } => {
                levels[usize::from(codes[group])] * scales.get(group / size) + offset
            }
        }
    }
}

/// Zero points, in the units of the codes.
#[derive(Clone, Debug)]
pub(super) enum Zeros {
    /// The same for all.
    All(f32),
    /// Packed as the codes are.
    Packed {
        codes: Codes,
        /// True if a row of them belongs to a group, not to an output.
        by_group: bool,
        /// Added to each, without a carry: the first version of GPTQ's format stores one less.
        plus: u8,
    },
}

impl Zeros {
    pub(super) fn of(&self, output: usize, group: usize) -> f32 {
        match self {
            Zeros::All(zero) => *zero,
            Zeros::Packed { codes, by_group, plus } => {
                let (row, col) = if *by_group { (group, output) } else { (output, group) };
                let mask = (u16::from(u8::MAX) >> (8 - codes.bits)) as u8;
                f32::from(codes.get(row, col).wrapping_add(*plus) & mask)
            }
        }
    }
}

/// Floats in a stored tensor.
#[derive(Clone, Debug)]
pub(super) struct Floats {
    pub(super) format: Format,
    pub(super) bytes: Bytes,
}

impl Floats {
    /// The float at a place.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn get(&self, index: usize) -> f32 {
        let (width, mut value) = (self.format.block_bytes(), [0.0]);
        self.format.decode(&self.bytes[index * width..][..width], &mut value);
        value[0]
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.bytes.len() / self.format.block_bytes()];
        self.format.decode(&self.bytes, &mut values);
        values
    }
}
