//! Groups of codes that index a codebook, with signs apart: the `IQ` formats below four bits.

use bytemuck::{Pod, Zeroable};

use super::SignedCodes;
use super::float::half_to_f32;
use super::iq_grids::{IQ1_S_GRID, IQ2_S_GRID, IQ2_XS_GRID, IQ2_XXS_GRID, IQ3_S_GRID, IQ3_XXS_GRID};

/// Magnitudes of the codes of `IQ2` formats, in units of an eighth of the scale.
const IQ2_VALUES: [i8; 4] = [8, 25, 43, 0];
/// Magnitudes of the codes of [`IQ3_XXS`], in units of a quarter of the scale.
const IQ3_XXS_VALUES: [i8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];

/// 32 values: four indices of groups of 8 in the first four bytes; in the others, from the lowest bits on, four times
/// 7 bits of signs, then a scale of 4 bits.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Group32 {
    indices: [u8; 4],
    signs_and_scale: [u8; 4],
}

/// `value = scale / 8 * (2 sub_scale + 1) * sign * IQ2_VALUES[code]`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ2_XXS {
    scale: [u8; 2],
    groups: [Group32; 8],
}

/// As [`IQ2_XXS`]. A group of 8 values has 9 bits of index and 7 of signs, 16 values have a scale of 4 bits.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ2_XS {
    scale: [u8; 2],
    groups: [[u8; 2]; 32],
    scales: [u8; 8],
}

/// As [`IQ2_XS`], with indices of 10 bits, of which the highest 2 are apart, and a sign for each value.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ2_S {
    scale: [u8; 2],
    indices: [u8; 32],
    signs: [u8; 32],
    high_bits: [u8; 8],
    scales: [u8; 8],
}

/// `value = scale / 4 * (2 sub_scale + 1) * sign * IQ3_XXS_VALUES[code]`. Two groups of 4 values have 7 bits of signs,
/// 32 values a scale of 4 bits, laid out as in [`IQ2_XXS`].
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ3_XXS {
    scale: [u8; 2],
    indices: [[u8; 8]; 8],
    signs_and_scales: [[u8; 4]; 8],
}

/// `value = scale * (2 sub_scale + 1) * sign * (2 code + 1)`. A group of 4 values has 9 bits of index, of which the
/// highest is apart, and a sign for each value; 32 values have a scale of 4 bits.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ3_S {
    scale: [u8; 2],
    indices: [[u8; 8]; 8],
    high_bits: [u8; 8],
    signs: [[u8; 4]; 8],
    scales: [u8; 4],
}

/// `value = scale / 8 * (2 sub_scale + 1) * (8 (code - 1) + shift)`, where the shift is 1 or -1. For 32 values, two
/// bytes hold from the lowest bits on four times the highest 3 bits of an index, 3 bits of scale, and a bit that is
/// set for the shift of -1.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ1_S {
    scale: [u8; 2],
    indices: [[u8; 4]; 8],
    high_bits: [[u8; 2]; 8],
}

/// As [`IQ1_S`], with a shift for each group of 8 values, beside the highest 3 bits of its index, and a scale for 16
/// values. Of the two bytes that hold four scales the highest 4 bits are a part of the block's own, in half precision.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ1_M {
    indices: [[u8; 4]; 8],
    high_bits: [[u8; 2]; 8],
    scales: [[u8; 2]; 4],
}

/// The signs of 8 values: 7 bits and one that makes the number of those that are set even.
fn with_parity(bits: u8) -> u8 {
    let bits = bits & 127;
    bits | (((bits.count_ones() & 1) as u8) << 7)
}

/// Writes 8 values of a codebook with 2-bit codes, negative where a bit of `signs` is set.
fn write_8(entry: u16, signs: u8, out: &mut [i8]) {
    for (j, out) in out.iter_mut().enumerate() {
        let value = IQ2_VALUES[usize::from(entry >> (2 * j) & 3)];
        *out = if signs >> j & 1 == 0 { value } else { -value };
    }
}

/// Writes 4 values of a codebook with 3-bit codes, negative where a bit of `signs` is set.
fn write_4(entry: u16, signs: u8, value: impl Fn(u8) -> i8, out: &mut [i8]) {
    for (j, out) in out.iter_mut().enumerate() {
        let value = value((entry >> (3 * j) & 7) as u8);
        *out = if signs >> j & 1 == 0 { value } else { -value };
    }
}

/// Writes 8 values of the codebook of `IQ1` formats, shifted.
fn write_shifted(entry: u16, shift: i8, out: &mut [i8]) {
    for (j, out) in out.iter_mut().enumerate() {
        *out = 8 * ((entry >> (2 * j) & 3) as i8 - 1) + shift;
    }
}

/// The nibbles of scales, those of even index in the low halves, as `2 nibble + 1`.
fn odd_scales<const COUNT: usize>(scales: &[u8]) -> [i8; COUNT] {
    std::array::from_fn(|i| 2 * (scales[i / 2] >> (4 * (i % 2)) & 15) as i8 + 1)
}

/// A scale for each half of the sub-blocks of 32 values.
fn twice(scales: [i8; 8]) -> [i8; 16] {
    std::array::from_fn(|i| scales[i / 2])
}

impl SignedCodes for IQ2_XXS {
    fn codes(&self, i: usize) -> [i8; 32] {
        let Group32 { indices, signs_and_scale } = self.groups[i];
        let signs = u32::from_le_bytes(signs_and_scale);
        let mut codes = [0; 32];
        for (j, (index, out)) in indices.iter().zip(codes.chunks_exact_mut(8)).enumerate() {
            write_8(IQ2_XXS_GRID[usize::from(*index)], with_parity((signs >> (7 * j)) as u8), out);
        }
        codes
    }

    fn sub_scales(&self) -> [i8; 16] {
        twice(self.groups.map(|group| 2 * (group.signs_and_scale[3] >> 4) as i8 + 1))
    }

    fn scale(&self) -> f32 {
        half_to_f32(self.scale) * 0.125
    }
}

impl SignedCodes for IQ2_XS {
    fn codes(&self, i: usize) -> [i8; 32] {
        let mut codes = [0; 32];
        for (group, out) in self.groups[4 * i..].iter().zip(codes.chunks_exact_mut(8)) {
            let group = u16::from_le_bytes(*group);
            write_8(IQ2_XS_GRID[usize::from(group & 511)], with_parity((group >> 9) as u8), out);
        }
        codes
    }

    fn sub_scales(&self) -> [i8; 16] {
        odd_scales(&self.scales)
    }

    fn scale(&self) -> f32 {
        half_to_f32(self.scale) * 0.125
    }
}

impl SignedCodes for IQ2_S {
    fn codes(&self, i: usize) -> [i8; 32] {
        let mut codes = [0; 32];
        for (j, out) in codes.chunks_exact_mut(8).enumerate() {
            let high = usize::from(self.high_bits[i] >> (2 * j) & 3);
            let index = usize::from(self.indices[4 * i + j]) | high << 8;
            write_8(IQ2_S_GRID[index], self.signs[4 * i + j], out);
        }
        codes
    }

    fn sub_scales(&self) -> [i8; 16] {
        odd_scales(&self.scales)
    }

    fn scale(&self) -> f32 {
        half_to_f32(self.scale) * 0.125
    }
}

impl SignedCodes for IQ3_XXS {
    fn codes(&self, i: usize) -> [i8; 32] {
        let signs = u32::from_le_bytes(self.signs_and_scales[i]);
        let mut codes = [0; 32];
        for (j, (index, out)) in self.indices[i].iter().zip(codes.chunks_exact_mut(4)).enumerate() {
            let signs = with_parity((signs >> (7 * (j / 2))) as u8) >> (4 * (j % 2));
            let value = |code: u8| IQ3_XXS_VALUES[usize::from(code)];
            write_4(IQ3_XXS_GRID[usize::from(*index)], signs, value, out);
        }
        codes
    }

    fn sub_scales(&self) -> [i8; 16] {
        twice(self.signs_and_scales.map(|bytes| 2 * (bytes[3] >> 4) as i8 + 1))
    }

    fn scale(&self) -> f32 {
        half_to_f32(self.scale) * 0.25
    }
}

impl SignedCodes for IQ3_S {
    fn codes(&self, i: usize) -> [i8; 32] {
        let mut codes = [0; 32];
        for (j, (index, out)) in self.indices[i].iter().zip(codes.chunks_exact_mut(4)).enumerate() {
            let high = usize::from(self.high_bits[i] >> j & 1);
            let signs = self.signs[i][j / 2] >> (4 * (j % 2));
            let value = |code: u8| 2 * code as i8 + 1;
            write_4(IQ3_S_GRID[usize::from(*index) | high << 8], signs, value, out);
        }
        codes
    }

    fn sub_scales(&self) -> [i8; 16] {
        twice(odd_scales(&self.scales))
    }

    fn scale(&self) -> f32 {
        half_to_f32(self.scale)
    }
}

impl SignedCodes for IQ1_S {
    fn codes(&self, i: usize) -> [i8; 32] {
        let high = u16::from_le_bytes(self.high_bits[i]);
        let shift = if high >> 15 == 0 { 1 } else { -1 };
        let mut codes = [0; 32];
        for (j, (index, out)) in self.indices[i].iter().zip(codes.chunks_exact_mut(8)).enumerate() {
            let index = usize::from(*index) | usize::from(high >> (3 * j) & 7) << 8;
            write_shifted(IQ1_S_GRID[index], shift, out);
        }
        codes
    }

    fn sub_scales(&self) -> [i8; 16] {
        twice(self.high_bits.map(|bytes| 2 * (bytes[1] >> 4 & 7) as i8 + 1))
    }

    fn scale(&self) -> f32 {
        half_to_f32(self.scale) * 0.125
    }
}

impl SignedCodes for IQ1_M {
    fn codes(&self, i: usize) -> [i8; 32] {
        let mut codes = [0; 32];
        for (j, (index, out)) in self.indices[i].iter().zip(codes.chunks_exact_mut(8)).enumerate() {
            let high = self.high_bits[i][j / 2] >> (4 * (j % 2));
            let shift = if high & 8 == 0 { 1 } else { -1 };
            write_shifted(IQ1_S_GRID[usize::from(*index) | usize::from(high & 7) << 8], shift, out);
        }
        codes
    }

    fn sub_scales(&self) -> [i8; 16] {
        std::array::from_fn(|i| 2 * (u16::from_le_bytes(self.scales[i / 4]) >> (3 * (i % 4)) & 7) as i8 + 1)
    }

    fn scale(&self) -> f32 {
        let parts = self.scales.iter().enumerate();
        let bits = parts.fold(0, |bits, (i, bytes)| bits | u16::from(bytes[1] >> 4) << (4 * i));
        half_to_f32(bits.to_le_bytes()) * 0.125
    }
}
