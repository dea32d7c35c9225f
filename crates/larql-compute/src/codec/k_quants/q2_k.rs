use bytemuck::{Pod, Zeroable};

use crate::codec::Block;
use crate::codec::float::half_to_f32;

/// `value = scale * sub_scale * code - minimum * sub_minimum`, in 16 sub-blocks of 16 values.
///
/// `scales[i]` holds the scale (low half) and the minimum of sub-block `i`. Of each 128 values, byte `j` of the
/// 32 bytes of codes holds values `j`, `j + 32`, `j + 64` and `j + 96`, from the lowest bits up.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q2_K {
    pub(crate) scales: [u8; 16],
    pub(crate) codes: [[u8; 32]; 2],
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
}

impl Block<256> for Q2_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = scale * f32::from(self.scales[i] & 15);
            let minimum = minimum * f32::from(self.scales[i] >> 4);
            let codes = &self.codes[i / 8].as_chunks::<16>().0[i % 2];
            let shift = i % 8 / 2 * 2;
            *out = codes.map(|byte| scale * f32::from(byte >> shift & 3) - minimum);
        }
    }
}
