use bytemuck::{Pod, Zeroable};

use super::{Line, codes_on, lines, share};
use crate::codec::float::half_to_f32;
use crate::codec::{Block, EncodeBlock};

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
        // Four bytes at a time.
        let [a, b, c] = bytemuck::cast::<_, [[u8; 4]; 3]>(self.0).map(u32::from_le_bytes);
        let (all, low, high) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
        let scales = [a & all, c & low | a >> 2 & high];
        let minima = [b & all, c >> 4 & low | b >> 2 & high];
        let bytes = |words: [u32; 2]| bytemuck::cast([words[0].to_le_bytes(), words[1].to_le_bytes()]);
        (bytes(scales), bytes(minima))
    }

    /// The lines of the sub-blocks, given the block's scale and minimum.
    fn lines(&self, scale: [u8; 2], minimum: [u8; 2]) -> [Line; 8] {
        let (scale, minimum) = (half_to_f32(scale), half_to_f32(minimum));
        let (scales, minima) = self.unpack();
        std::array::from_fn(|i| Line {
            scale: scale * f32::from(scales[i]),
            minimum: minimum * f32::from(minima[i]),
        })
    }

    fn pack(scales: [u8; 8], minima: [u8; 8]) -> Self {
        let mut packed = [0; 12];
        for i in 0..4 {
            packed[i] = scales[i] | scales[4 + i] >> 4 << 6;
            packed[4 + i] = minima[i] | minima[4 + i] >> 4 << 6;
            packed[8 + i] = scales[4 + i] & 15 | minima[4 + i] << 4;
        }
        SubScales(packed)
    }
}

impl Block<256> for Q4_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let lines = self.sub_scales.lines(self.scale, self.minimum);
        for (i, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let (low, high) = (lines[2 * i], lines[2 * i + 1]);
            for (j, byte) in self.codes[i].iter().enumerate() {
                out[j] = low.at(byte & 15);
                out[j + 32] = high.at(byte >> 4);
            }
        }
    }
}

impl Block<256> for Q5_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let lines = self.sub_scales.lines(self.scale, self.minimum);
        for (i, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let (low, high) = (lines[2 * i], lines[2 * i + 1]);
            for (j, byte) in self.codes[i].iter().enumerate() {
                let fifth_bits = self.high_bits[j] >> (2 * i);
                out[j] = low.at(byte & 15 | (fifth_bits & 1) << 4);
                out[j + 32] = high.at(byte >> 4 | (fifth_bits >> 1 & 1) << 4);
            }
        }
    }
}

/// Common part of both formats, before their codes are packed.
struct Quantised {
    scale: [u8; 2],
    minimum: [u8; 2],
    sub_scales: SubScales,
    codes: [[u8; 32]; 8],
}

impl Quantised {
    fn new(values: &[f32; 256], importance: Option<&[f32; 256]>, largest_code: f32) -> Self {
        let sub_blocks: &[[f32; 32]; 8] = bytemuck::cast_ref(values);
        let lines = lines(sub_blocks, importance.map(bytemuck::cast_ref), largest_code);
        let (scale, scales) = share(lines.map(|line| line.scale), 63.0);
        let (minimum, minima) = share(lines.map(|line| line.minimum), 63.0);
        let sub_scales = SubScales::pack(scales, minima);
        // Codes are chosen for the lines as they will be decoded.
        let lines = sub_scales.lines(scale, minimum);
        let codes = std::array::from_fn(|i| codes_on(lines[i], &sub_blocks[i], largest_code));
        Quantised { scale, minimum, sub_scales, codes }
    }

    /// The low 4 bits of the codes.
    fn low_codes(&self) -> [[u8; 32]; 4] {
        std::array::from_fn(|i| {
            std::array::from_fn(|j| self.codes[2 * i][j] & 15 | self.codes[2 * i + 1][j] << 4)
        })
    }
}

impl EncodeBlock<256> for Q4_K {
    fn encode(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let quantised = Quantised::new(values, importance, 15.0);
        let codes = quantised.low_codes();
        let Quantised { scale, minimum, sub_scales, .. } = quantised;
        Q4_K { scale, minimum, sub_scales, codes }
    }
}

impl EncodeBlock<256> for Q5_K {
    fn encode(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let quantised = Quantised::new(values, importance, 31.0);
        let codes = quantised.low_codes();
        let high_bits =
            std::array::from_fn(|j| (0..8).fold(0, |bits, i| bits | quantised.codes[i][j] >> 4 << i));
        let Quantised { scale, minimum, sub_scales, .. } = quantised;
        Q5_K { scale, minimum, sub_scales, high_bits, codes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SubScales;

    proptest! {
        #[test]
        fn packing_is_undone(scales: [u8; 8], minima: [u8; 8]) {
            let (scales, minima) = (scales.map(|s| s & 63), minima.map(|m| m & 63));
            prop_assert_eq!(SubScales::pack(scales, minima).unpack(), (scales, minima));
        }
    }
}
