//! The formats with one scale for 32 values: `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1` and `Q8_0`.
//!
//! A byte of 4-bit codes holds value `j` in its low half and value `j + 16` in its high half.

use bytemuck::{Pod, Zeroable};

use super::float::{f32_to_half, half_to_f32};
use super::search::{best_line, best_scale, weights};
use super::{Block, EncodeBlock, extreme, reciprocal};

/// `value = scale * (code - 8)`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4_0 {
    pub(crate) scale: [u8; 2],
    pub(crate) codes: [u8; 16],
}

/// `value = scale * code + minimum`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4_1 {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) codes: [u8; 16],
}

/// `value = scale * (code - 16)`; bit `j` of `high_bits` is the fifth bit of code `j`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_0 {
    pub(crate) scale: [u8; 2],
    pub(crate) high_bits: [u8; 4],
    pub(crate) codes: [u8; 16],
}

/// `value = scale * code + minimum`; bit `j` of `high_bits` is the fifth bit of code `j`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_1 {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) high_bits: [u8; 4],
    pub(crate) codes: [u8; 16],
}

/// `value = scale * code`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q8_0 {
    pub(crate) scale: [u8; 2],
    pub(crate) codes: [i8; 32],
}

/// The codes of a block in the order of its values.
fn unpack_4_bits(codes: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|j| if j < 16 { codes[j] & 15 } else { codes[j - 16] >> 4 })
}

fn unpack_5_bits(codes: &[u8; 16], high_bits: [u8; 4]) -> [u8; 32] {
    let low = unpack_4_bits(codes);
    let high = u32::from_le_bytes(high_bits);
    std::array::from_fn(|j| low[j] | ((high >> j & 1) << 4) as u8)
}

impl Block<32> for Q4_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = half_to_f32(self.scale);
        *out = unpack_4_bits(&self.codes).map(|code| scale * f32::from(code as i8 - 8));
    }
}

impl Block<32> for Q4_1 {
    fn decode(&self, out: &mut [f32; 32]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        *out = unpack_4_bits(&self.codes).map(|code| scale * f32::from(code) + minimum);
    }
}

impl Block<32> for Q5_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = half_to_f32(self.scale);
        *out = unpack_5_bits(&self.codes, self.high_bits).map(|code| scale * f32::from(code as i8 - 16));
    }
}

impl Block<32> for Q5_1 {
    fn decode(&self, out: &mut [f32; 32]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        *out = unpack_5_bits(&self.codes, self.high_bits).map(|code| scale * f32::from(code) + minimum);
    }
}

impl Block<32> for Q8_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = half_to_f32(self.scale);
        *out = self.codes.map(|code| scale * f32::from(code));
    }
}

pub(super) fn pack_4_bits(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | codes[j + 16] << 4)
}

fn pack_fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().enumerate().fold(0, |bits, (j, code)| bits | u32::from(code >> 4) << j);
    bits.to_le_bytes()
}

/// Scale and codes for `value = scale * (code - zero)`. The extreme value gets code 0, which is farther from
/// `zero` than the largest code, so its sign decides that of the scale.
fn quantise_symmetric(values: &[f32; 32], importance: Option<&[f32; 32]>, zero: u8) -> ([u8; 2], [u8; 32]) {
    let scale = match importance {
        None => extreme(values) / -f32::from(zero),
        // Codes are chosen for the scale as it will be decoded.
        Some(_) => {
            let weights = weights(values, importance, |_| 1.0);
            half_to_f32(f32_to_half(best_scale(values, &weights, f32::from(zero))))
        }
    };
    let (inverse, rounding) = (reciprocal(scale), f32::from(zero) + 0.5);
    let codes = values.map(|value| ((value * inverse + rounding) as u8).min(2 * zero - 1));
    (f32_to_half(scale), codes)
}

/// Scale, minimum and codes for `value = scale * code + minimum`.
fn quantise_with_minimum(
    values: &[f32; 32],
    importance: Option<&[f32; 32]>,
    largest_code: u8,
) -> ([u8; 2], [u8; 2], [u8; 32]) {
    let minimum = values.iter().copied().fold(f32::INFINITY, f32::min);
    let maximum = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (scale, minimum) = match importance {
        None => ((maximum - minimum) / f32::from(largest_code), minimum),
        Some(_) => {
            // A line's minimum is not negative, which it is for no line below the maximum.
            let below = values.map(|value| value - maximum);
            let line = best_line(&below, &weights(values, importance, |_| 1.0), f32::from(largest_code));
            let decoded = |value| half_to_f32(f32_to_half(value));
            (decoded(line.scale), decoded(maximum - line.minimum))
        }
    };
    let inverse = reciprocal(scale);
    let codes = values.map(|value| (((value - minimum) * inverse + 0.5) as u8).min(largest_code));
    (f32_to_half(scale), f32_to_half(minimum), codes)
}

impl EncodeBlock<32> for Q4_0 {
    fn encode(values: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        let (scale, codes) = quantise_symmetric(values, importance, 8);
        Q4_0 { scale, codes: pack_4_bits(&codes) }
    }
}

impl EncodeBlock<32> for Q4_1 {
    fn encode(values: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        let (scale, minimum, codes) = quantise_with_minimum(values, importance, 15);
        Q4_1 { scale, minimum, codes: pack_4_bits(&codes) }
    }
}

impl EncodeBlock<32> for Q5_0 {
    fn encode(values: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        let (scale, codes) = quantise_symmetric(values, importance, 16);
        Q5_0 { scale, high_bits: pack_fifth_bits(&codes), codes: pack_4_bits(&codes) }
    }
}

impl EncodeBlock<32> for Q5_1 {
    fn encode(values: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        let (scale, minimum, codes) = quantise_with_minimum(values, importance, 31);
        Q5_1 { scale, minimum, high_bits: pack_fifth_bits(&codes), codes: pack_4_bits(&codes) }
    }
}

impl EncodeBlock<32> for Q8_0 {
    fn encode(values: &[f32; 32], _: Option<&[f32; 32]>) -> Self {
        let scale = extreme(values).abs() / 127.0;
        let inverse = reciprocal(scale);
        Q8_0 { scale: f32_to_half(scale), codes: values.map(|value| (value * inverse).round() as i8) }
    }
}
