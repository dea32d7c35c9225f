//! `MXFP4`: 4-bit floats that share a power of two (OCP Microscaling Formats, version 1.0), in ggml's layout.

use bytemuck::{Pod, Zeroable};

use super::Block;

/// The values of E2M1, doubled so that they are whole; the scale is halved in turn.
pub(crate) const DOUBLED_E2M1_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 values `2^(exponent - 127) * E2M1[code]`; byte `j` holds the codes of values `j` (low half) and `j + 16`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct MXFP4 {
    pub(crate) exponent: u8,
    pub(crate) codes: [u8; 16],
}

impl MXFP4 {
    /// Half of the shared scale, `2^(exponent - 128)`. The specification calls exponent 255 a NaN; as in ggml
    /// it is the power of two that follows 254.
    pub(crate) fn half_scale(&self) -> f32 {
        f32::from_bits(match self.exponent {
            // The two smallest are subnormal.
            0 => 0x0020_0000,
            1 => 0x0040_0000,
            exponent => u32::from(exponent - 1) << 23,
        })
    }
}

impl Block<32> for MXFP4 {
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = self.half_scale();
        for (j, byte) in self.codes.iter().enumerate() {
            out[j] = scale * f32::from(DOUBLED_E2M1_VALUES[usize::from(byte & 15)]);
            out[j + 16] = scale * f32::from(DOUBLED_E2M1_VALUES[usize::from(byte >> 4)]);
        }
    }
}
