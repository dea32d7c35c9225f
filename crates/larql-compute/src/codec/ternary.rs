//! Codes of -1, 0 and 1 with one scale for 256 values: `TQ1_0` and `TQ2_0` (BitNet, arXiv 2402.17764).

use bytemuck::{Pod, Zeroable};

use super::SignedCodes;
use super::float::half_to_f32;

/// `value = scale * (digit - 1)`. A byte holds five digits of base 3 as a fraction of 256: digit `n` is the whole part
/// of 3 times the byte, after the byte has been multiplied by `3^n` and its whole part dropped.
///
/// Value `32 n + j` is digit `n` of byte `j` of the first 32, value `160 + 16 n + j` that of byte `j` of the other 16,
/// value `240 + 4 n + j` that of byte `j` of `last`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TQ1_0 {
    first: [u8; 32],
    middle: [u8; 16],
    last: [u8; 4],
    scale: [u8; 2],
}

/// `value = scale * (code - 1)` with 2-bit codes: bits `2 n` and `2 n + 1` of byte `32 h + j` are those of value
/// `128 h + 32 n + j`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TQ2_0 {
    codes: [[u8; 32]; 2],
    scale: [u8; 2],
}

/// Digit `n` of a byte, less 1.
fn digit(byte: u8, n: usize) -> i8 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    ((u16::from(byte.wrapping_mul(POWERS[n])) * 3) >> 8) as i8 - 1
}

impl SignedCodes for TQ1_0 {
    fn codes(&self, i: usize) -> [i8; 32] {
        std::array::from_fn(|j| match 32 * i + j {
            value @ 0..160 => digit(self.first[value % 32], value / 32),
            value @ 160..240 => digit(self.middle[value % 16], (value - 160) / 16),
            value => digit(self.last[value % 4], (value - 240) / 4),
        })
    }

    fn sub_scales(&self) -> [i8; 16] {
        [1; 16]
    }

    fn scale(&self) -> f32 {
        half_to_f32(self.scale)
    }
}

impl SignedCodes for TQ2_0 {
    fn codes(&self, i: usize) -> [i8; 32] {
        self.codes[i / 4].map(|byte| (byte >> (2 * (i % 4)) & 3) as i8 - 1)
    }

    fn sub_scales(&self) -> [i8; 16] {
        [1; 16]
    }

    fn scale(&self) -> f32 {
        half_to_f32(self.scale)
    }
}
