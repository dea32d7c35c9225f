//! `AFFINE8`: codes of up to 8 bits with a scale and a minimum in full precision.

use bytemuck::{Pod, Zeroable};

use super::Block;

/// `value = scale * code + minimum`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AFFINE8 {
    pub(crate) scale: [u8; 4],
    pub(crate) minimum: [u8; 4],
    pub(crate) codes: [u8; 32],
}

impl Block<32> for AFFINE8 {
    fn decode(&self, out: &mut [f32; 32]) {
        let (scale, minimum) = (f32::from_le_bytes(self.scale), f32::from_le_bytes(self.minimum));
        *out = self.codes.map(|code| scale * f32::from(code) + minimum);
    }
}
