//! 4-bit codes that index a fixed table whose steps grow with the distance from zero: `IQ4_NL` and `IQ4_XS`.

use bytemuck::{Pod, Zeroable};

use super::blocks_of_32::pack_4_bits;
use super::float::{f32_to_half, half_to_f32};
use super::k_quants::share_signed;
use super::search::{best_scale_of, nearest, weights};
use super::{Block, EncodeBlock, reciprocal};

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

/// The code whose value is nearest to each whole number from -128 to 127.
const NEAREST_CODES: [u8; 256] = {
    let mut codes = [0; 256];
    let (mut at, mut code) = (0, 0);
    while at < 256 {
        let value = at as i16 - 128;
        while code < 15 && IQ4_VALUES[code] as i16 + IQ4_VALUES[code + 1] as i16 <= 2 * value {
            code += 1;
        }
        codes[at] = code as u8;
        at += 1;
    }
    codes
};

/// The code nearest to a value in units of the scale.
fn nearest_code(value: f32) -> u8 {
    let value = value.clamp(-128.0, 127.0);
    let code = NEAREST_CODES[(nearest(value) + 128.0) as usize];
    // Half a step from the whole number, the value may be nearer to the code below.
    let [below, found] = [code.saturating_sub(1), code].map(|code| f32::from(IQ4_VALUES[usize::from(code)]));
    code - u8::from(2.0 * value < below + found && code > 0)
}

/// The best scale of 32 values.
fn best_scale(values: &[f32; 32], importance: Option<&[f32; 32]>) -> f32 {
    let weights = weights(values, importance, |value| value * value);
    // The extreme value gets the value of code 0, or one beside it.
    let places = (-7..=7).map(|step| f32::from(IQ4_VALUES[0]) + step as f32);
    best_scale_of(values, &weights, places, |value| f32::from(IQ4_VALUES[usize::from(nearest_code(value))]))
}

fn encode_32(scale: f32, values: &[f32; 32]) -> [u8; 16] {
    let inverse = reciprocal(scale);
    // The value of no code is zero, which only a scale of zero gives.
    pack_4_bits(&values.map(|value| nearest_code(value * inverse)))
}

impl EncodeBlock<32> for IQ4_NL {
    fn encode(values: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        let scale = f32_to_half(best_scale(values, importance));
        IQ4_NL { scale, codes: encode_32(half_to_f32(scale), values) }
    }
}

impl EncodeBlock<256> for IQ4_XS {
    fn encode(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let values: &[[f32; 32]; 8] = bytemuck::cast_ref(values);
        let importance: Option<&[[f32; 32]; 8]> = importance.map(bytemuck::cast_ref);
        let scales = std::array::from_fn(|i| best_scale(&values[i], importance.map(|all| &all[i])));
        let (scale, sub_scales): ([u8; 2], [i8; 8]) = share_signed(scales, 32.0);
        let (mut high, mut scales_low) = (0, [0; 4]);
        for (i, sub_scale) in sub_scales.into_iter().enumerate() {
            let code = (sub_scale + 32) as u8;
            scales_low[i / 2] |= (code & 15) << (i % 2 * 4);
            high |= u16::from(code >> 4) << (2 * i);
        }
        let unit = half_to_f32(scale);
        let codes = std::array::from_fn(|i| encode_32(unit * f32::from(sub_scales[i]), &values[i]));
        IQ4_XS { scale, scales_high: high.to_le_bytes(), scales_low, codes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_nearest() {
        for step in -1200..=1200 {
            let value = step as f32 / 8.0 + 0.01;
            let distance = |code: u8| (f32::from(IQ4_VALUES[usize::from(code)]) - value).abs();
            let nearest = (0..16).min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap();
            assert_eq!(nearest_code(value), nearest, "{value}");
        }
    }
}
