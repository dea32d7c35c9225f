use bytemuck::{Pod, Zeroable};

use crate::codec::Block;
use crate::codec::float::half_to_f32;

/// `value = scale * sub_scale * code - minimum * sub_minimum`, in 8 sub-blocks of 32 values.
///
/// `codes[i][j]` holds the codes of value `j` of sub-blocks `2 i` (low half) and `2 i + 1`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4_K {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) sub_scales: SubScales,
    pub(crate) codes: [[u8; 32]; 4],
}

/// [`Q4_K`] with a fifth bit: bit `i` of `high_bits[j]` belongs to value `j` of sub-block `i`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_K {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) sub_scales: SubScales,
    pub(crate) high_bits: [u8; 32],
    pub(crate) codes: [[u8; 32]; 4],
}

/// 6-bit scales and minima of 8 sub-blocks.
///
/// Sub-blocks 0 to 3 have them in the low 6 bits of bytes `i` (scale) and `4 + i` (minimum). Sub-blocks 4 to 7
/// have their low 4 bits in byte `4 + i` (scale in the low half) and their high 2 bits in the 2 bits that
/// sub-block `i - 4` leaves free.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct SubScales([u8; 12]);

impl SubScales {
    /// Scales and minima, each at most 63.
    pub(crate) fn unpack(&self) -> ([u8; 8], [u8; 8]) {
        let packed = &self.0;
        let (mut scales, mut minima) = ([0; 8], [0; 8]);
        for i in 0..4 {
            scales[i] = packed[i] & 63;
            minima[i] = packed[4 + i] & 63;
            scales[4 + i] = packed[8 + i] & 15 | (packed[i] >> 6) << 4;
            minima[4 + i] = packed[8 + i] >> 4 | (packed[4 + i] >> 6) << 4;
        }
        (scales, minima)
    }
}

impl Block<256> for Q4_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        let (scales, minima) = self.sub_scales.unpack();
        for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, minimum) = (scale * f32::from(scales[i]), minimum * f32::from(minima[i]));
            let shift = i % 2 * 4;
            *out = self.codes[i / 2].map(|byte| scale * f32::from(byte >> shift & 15) - minimum);
        }
    }
}

impl Block<256> for Q5_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        let (scales, minima) = self.sub_scales.unpack();
        for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, minimum) = (scale * f32::from(scales[i]), minimum * f32::from(minima[i]));
            let shift = i % 2 * 4;
            for (j, value) in out.iter_mut().enumerate() {
                let code = self.codes[i / 2][j] >> shift & 15 | (self.high_bits[j] >> i & 1) << 4;
                *value = scale * f32::from(code) - minimum;
            }
        }
    }
}
