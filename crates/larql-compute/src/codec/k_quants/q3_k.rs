use bytemuck::{Pod, Zeroable};

use super::symmetric::{best_scales, share_signed};
use crate::codec::float::half_to_f32;
use crate::codec::search::nearest;
use crate::codec::{Block, EncodeBlock, reciprocal};

/// `value = scale * (sub_scale - 32) * (code - 4)`, in 16 sub-blocks of 16 values.
///
/// Of each 128 values, byte `j` of the 32 bytes of `codes` holds the low 2 bits of values `j`, `j + 32`, `j + 64`
/// and `j + 96`, from the lowest bits up. Bit `i` of `high_bits[j]` is the third bit of value `32 i + j`.
/// Sub-block `i` has the low 4 bits of its scale in half `i / 8` of `scales[i % 8]` and the high 2 bits at bit
/// `2 (i / 4)` of `scales[8 + i % 4]`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q3_K {
    pub(crate) high_bits: [u8; 32],
    pub(crate) codes: [[u8; 32]; 2],
    pub(crate) scales: [u8; 12],
    pub(crate) scale: [u8; 2],
}

impl Q3_K {
    /// The scales of the sub-blocks, in units of the block's scale.
    pub(crate) fn sub_scales(&self) -> [i8; 16] {
        // Four bytes at a time.
        let [a, b, c] = bytemuck::cast::<_, [[u8; 4]; 3]>(self.scales).map(u32::from_le_bytes);
        let (low, high) = (0x0f0f_0f0f, 0x3030_3030);
        let first = [a & low | c << 4 & high, b & low | c << 2 & high];
        let last = [a >> 4 & low | c & high, b >> 4 & low | c >> 2 & high];
        let scales: [u8; 16] = bytemuck::cast([first, last].map(|words| words.map(u32::to_le_bytes)));
        scales.map(|scale| scale as i8 - 32)
    }

    fn pack_sub_scales(sub_scales: [i8; 16]) -> [u8; 12] {
        let mut packed = [0; 12];
        for (i, scale) in sub_scales.into_iter().enumerate() {
            let scale = (scale + 32) as u8;
            packed[i % 8] |= (scale & 15) << (i / 8 * 4);
            packed[8 + i % 4] |= scale >> 4 << (i / 4 * 2);
        }
        packed
    }
}

impl Block<256> for Q3_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let sub_scales = self.sub_scales();
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = scale * f32::from(sub_scales[i]);
            let codes = &self.codes[i / 8].as_chunks::<16>().0[i % 2];
            let high_bits = &self.high_bits.as_chunks::<16>().0[i % 2];
            let shift = i % 8 / 2 * 2;
            for j in 0..16 {
                let code = codes[j] >> shift & 3 | (high_bits[j] >> (i / 2) & 1) << 2;
                out[j] = scale * f32::from(code as i8 - 4);
            }
        }
    }
}

impl EncodeBlock<256> for Q3_K {
    fn encode(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let (scale, sub_scales) = share_signed(best_scales(values, importance, 4.0), 32.0);
        let unit = half_to_f32(scale);
        let (mut high_bits, mut codes) = ([0; 32], [[0; 32]; 2]);
        for (at, value) in values.iter().enumerate() {
            let scale = unit * f32::from(sub_scales[at / 16]);
            let code = (nearest((value * reciprocal(scale)).clamp(-4.0, 3.0)) + 4.0) as u8;
            codes[at / 128][at % 32] |= (code & 3) << (at % 128 / 32 * 2);
            high_bits[at % 32] |= code >> 2 << (at / 32);
        }
        Q3_K { high_bits, codes, scales: Q3_K::pack_sub_scales(sub_scales), scale }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packing_is_undone(scales: [i8; 16]) {
            let scales = scales.map(|scale| scale.rem_euclid(64) - 32);
            let block = Q3_K { scales: Q3_K::pack_sub_scales(scales), ..Q3_K::zeroed() };
            prop_assert_eq!(block.sub_scales(), scales);
        }
    }
}
