use bytemuck::{Pod, Zeroable};

use crate::codec::search::nearest;
use crate::codec::{Block, EncodeBlock, extreme, reciprocal};

/// `value = scale * code`, the partner of the other K formats in integer dot products: it quantises activations.
///
/// `sums[i]` is the sum of codes `16 i` to `16 i + 15`, which the minima of the weights are multiplied with.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q8_K {
    pub(crate) scale: [u8; 4],
    pub(crate) codes: [i8; 256],
    pub(crate) sums: [[u8; 2]; 16],
}

impl Block<256> for Q8_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = f32::from_le_bytes(self.scale);
        for (value, code) in out.iter_mut().zip(&self.codes) {
            *value = scale * f32::from(*code);
        }
    }
}

impl EncodeBlock<256> for Q8_K {
    fn encode(values: &[f32; 256], _: Option<&[f32; 256]>) -> Self {
        // The extreme value gets code -127.
        let inverse = reciprocal(extreme(values) / -127.0);
        let codes = values.map(|value| nearest((value * inverse).clamp(-127.0, 127.0)) as i8);
        let sum = |codes: &[i8; 16]| codes.iter().map(|code| i16::from(*code)).sum::<i16>().to_le_bytes();
        let mut sums = [[0; 2]; 16];
        for (out, codes) in sums.iter_mut().zip(codes.as_chunks().0) {
            *out = sum(codes);
        }
        Q8_K { scale: reciprocal(inverse).to_le_bytes(), codes, sums }
    }
}
