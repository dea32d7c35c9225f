//! Blocks of 256 values that are signed codes, with a scale for each 16.

use bytemuck::Pod;

use super::Block;

/// A block whose values are `scale * sub_scale * code`, with codes of at most 7 bits.
pub(crate) trait SignedCodes: Pod {
    /// The codes of values `32 i` to `32 i + 31`.
    fn codes(&self, i: usize) -> [i8; 32];

    /// The scales of sub-blocks of 16 values, at most 31, in units of [`SignedCodes::scale`].
    fn sub_scales(&self) -> [i8; 16];

    /// The scale of the block.
    fn scale(&self) -> f32;
}

/// Every product is exact: its factors have 11, 5 and 7 bits.
impl<B: SignedCodes> Block<256> for B {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, sub_scales) = (self.scale(), self.sub_scales());
        for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let codes = self.codes(i);
            for ((out, codes), sub_scale) in
                out.chunks_exact_mut(16).zip(codes.chunks_exact(16)).zip(&sub_scales[2 * i..])
            {
                let scale = scale * f32::from(*sub_scale);
                out.iter_mut().zip(codes).for_each(|(out, code)| *out = scale * f32::from(*code));
            }
        }
    }
}
