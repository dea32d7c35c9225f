//! 4-bit codes that index a fixed table whose steps grow with the distance from zero: `IQ4_NL` and `IQ4_XS`.

use bytemuck::{Pod, Zeroable};

use super::Block;
use super::float::half_to_f32;

/// Values of the codes, in units of the scale.
pub(crate) const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `value = scale * IQ4_VALUES[code]`; byte `j` holds the codes of values `j` (low half) and `j + 16`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ4_NL {
    pub(crate) scale: [u8; 2],
    pub(crate) codes: [u8; 16],
}

/// `value = scale * (sub_scale - 32) * IQ4_VALUES[code]`, in 8 sub-blocks of 32 values laid out as [`IQ4_NL`].
///
/// The 6-bit scale of sub-block `i` has its low 4 bits in half `i % 2` of `scales_low[i / 2]` and its high 2
/// bits at bit `2 i` of `scales_high`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ4_XS {
    pub(crate) scale: [u8; 2],
    pub(crate) scales_high: [u8; 2],
    pub(crate) scales_low: [u8; 4],
    pub(crate) codes: [[u8; 16]; 8],
}

impl IQ4_XS {
    /// The scales of the sub-blocks, in units of the block's scale.
    pub(crate) fn sub_scales(&self) -> [i8; 8] {
        let high = u16::from_le_bytes(self.scales_high);
        std::array::from_fn(|i| {
            let low = self.scales_low[i / 2] >> (4 * (i % 2)) & 15;
            (low | ((high >> (2 * i) & 3) << 4) as u8) as i8 - 32
        })
    }
}

fn decode_32(scale: f32, codes: &[u8; 16], out: &mut [f32; 32]) {
    for (j, byte) in codes.iter().enumerate() {
        out[j] = scale * f32::from(IQ4_VALUES[usize::from(byte & 15)]);
        out[j + 16] = scale * f32::from(IQ4_VALUES[usize::from(byte >> 4)]);
    }
}

impl Block<32> for IQ4_NL {
    fn decode(&self, out: &mut [f32; 32]) {
        decode_32(half_to_f32(self.scale), &self.codes, out);
    }
}

impl Block<256> for IQ4_XS {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let out = out.as_chunks_mut::<32>().0;
        for ((codes, sub_scale), out) in self.codes.iter().zip(self.sub_scales()).zip(out) {
            decode_32(scale * f32::from(sub_scale), codes, out);
        }
    }
}
