//! The formats with one scale for 32 values: `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1` and `Q8_0`.
//!
//! A byte of 4-bit codes holds value `j` in its low half and value `j + 16` in its high half.

use bytemuck::{Pod, Zeroable};

use super::Block;
use super::float::half_to_f32;

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
