//! `MXFP4`: 4-bit floats that share a power of two (OCP Microscaling Formats, version 1.0), in ggml's layout.

use bytemuck::{Pod, Zeroable};

use super::blocks_of_32::pack_4_bits;
use super::search::weights;
use super::{Block, EncodeBlock, extreme};

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

/// The code nearest to a value in units of half the scale.
fn nearest_code(value: f32) -> u8 {
    /// The points midway between two magnitudes.
    const MIDWAY: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
    let magnitude = value.abs();
    let code = MIDWAY.iter().map(|midway| u8::from(magnitude > *midway)).sum::<u8>();
    code | u8::from(value < 0.0) << 3
}

impl EncodeBlock<32> for MXFP4 {
    fn encode(values: &[f32; 32], importance: Option<&[f32; 32]>) -> Self {
        let weights = weights(values, importance, |_| 1.0);
        // The largest magnitude is 4 to 8 times the first power of two and 2 to 4 times the second; the codes reach 6.
        let first = (extreme(values).abs().to_bits() >> 23).saturating_sub(2).min(253) as u8;
        let candidates = [first, first + 1].map(|exponent| {
            let mut block = MXFP4 { exponent, codes: [0; 16] };
            let inverse = 1.0 / block.half_scale();
            block.codes = pack_4_bits(&values.map(|value| nearest_code(value * inverse)));
            let mut decoded = [0.0; 32];
            block.decode(&mut decoded);
            let errors = (0..32).map(|i| weights[i] * (values[i] - decoded[i]).powi(2));
            (errors.sum::<f32>(), block)
        });
        let [(first_error, first), (second_error, second)] = candidates;
        if second_error < first_error { second } else { first }
    }
}
