use bytemuck::{Pod, Zeroable};

use super::{Line, codes_on, lines, share};
use crate::codec::float::half_to_f32;
use crate::codec::{Block, EncodeBlock};

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

impl EncodeBlock<256> for Q2_K {
    fn encode(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
        let sub_blocks: &[[f32; 16]; 16] = bytemuck::cast_ref(values);
        let lines = lines(sub_blocks, importance.map(bytemuck::cast_ref), 3.0);
        let (scale, scales) = share(lines.map(|line| line.scale), 15.0);
        let (minimum, minima) = share(lines.map(|line| line.minimum), 15.0);
        let mut codes = [[0; 32]; 2];
        for (i, values) in sub_blocks.iter().enumerate() {
            // Codes are chosen for the lines as they will be decoded.
            let line = Line {
                scale: half_to_f32(scale) * f32::from(scales[i]),
                minimum: half_to_f32(minimum) * f32::from(minima[i]),
            };
            let shift = i % 8 / 2 * 2;
            let bytes = &mut codes[i / 8].as_chunks_mut::<16>().0[i % 2];
            for (byte, code) in bytes.iter_mut().zip(codes_on(line, values, 3.0)) {
                *byte |= code << shift;
            }
        }
        Q2_K { scales: std::array::from_fn(|i| scales[i] | minima[i] << 4), codes, scale, minimum }
    }
}
