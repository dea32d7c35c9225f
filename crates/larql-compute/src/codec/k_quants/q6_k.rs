use bytemuck::{Pod, Zeroable};

use super::symmetric::{best_scales, share_signed};
use crate::codec::float::half_to_f32;
use crate::codec::search::nearest;
use crate::codec::{Block, EncodeBlock, reciprocal};

/// `value = scale * sub_scale * (code - 32)`, in 16 sub-blocks of 16 values.
///
/// Of each 128 values, byte `j` of the 64 bytes of `codes` holds the low 4 bits of values `j` (low half) and
/// `j + 64`; byte `j` of the 32 bytes of `high_bits` holds the high 2 bits of values `j`, `j + 32`, `j + 64` and
/// `j + 96`, from the lowest bits up.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q6_K {
    pub(crate) codes: [[u8; 64]; 2],
    pub(crate) high_bits: [[u8; 32]; 2],
    pub(crate) sub_scales: [i8; 16],
    pub(crate) scale: [u8; 2],
}

impl Block<256> for Q6_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let scales = self.sub_scales.map(|sub_scale| scale * f32::from(sub_scale));
        for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
            let (codes, high_bits) = (&self.codes[half], &self.high_bits[half]);
            let scales = &scales[8 * half..][..8];
            for j in 0..32 {
                let codes = [
                    codes[j] & 15 | (high_bits[j] & 3) << 4,
                    codes[j + 32] & 15 | (high_bits[j] >> 2 & 3) << 4,
                    codes[j] >> 4 | (high_bits[j] >> 4 & 3) << 4,
                    codes[j + 32] >> 4 | (high_bits[j] >> 6) << 4,
                ];
                for (quarter, code) in codes.into_iter().enumerate() {
                    out[32 * quarter + j] = scales[2 * quarter + j / 16] * f32::from(code as i8 - 32);
                }
            }
        }
    }
}

impl EncodeBlock<256> for Q6_K {
    fn encode(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let scales = best_scales(values, importance, 32.0);
        let (scale, sub_scales) = share_signed(scales, 128.0);
        let unit = half_to_f32(scale);
        let mut block = Q6_K { codes: [[0; 64]; 2], high_bits: [[0; 32]; 2], sub_scales, scale };
        for (i, value) in values.iter().enumerate() {
            let scale = unit * f32::from(sub_scales[i / 16]);
            let code = (nearest((value * reciprocal(scale)).clamp(-32.0, 31.0)) + 32.0) as u8;
            let (half, j) = (i / 128, i % 128);
            block.codes[half][j % 64] |= (code & 15) << (j / 64 * 4);
            block.high_bits[half][j % 32] |= code >> 4 << (j / 32 * 2);
        }
        block
    }
}
