use bytemuck::{Pod, Zeroable};

use crate::codec::Block;

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
