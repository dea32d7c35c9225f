//! Weights with one code to a byte, the form between any block and f32.

use crate::Format;

/// Consecutive weights, each `scale * code + minimum`; every so many, a group, share scale and minimum.
pub(crate) struct Unpacked<'a> {
    /// One for each weight.
    pub(crate) codes: &'a mut [u8],
    /// One for each group.
    pub(crate) scales: &'a mut [f32],
    /// One for each group.
    pub(crate) minima: &'a mut [f32],
}

/// Values in a group: the sub-blocks of the format, but not more than 32.
pub(crate) fn group_len(format: Format) -> usize {
    match format {
        Format::Q2_K | Format::Q3_K | Format::Q6_K => 16,
        _ => 32,
    }
}

impl Unpacked<'_> {
    /// The weights. All products here are exact in f32, so that the result is what the format's decoder gives.
    ///
    /// Plain code in which the compiler finds the vectors, so each instruction set calls it from a function of
    /// its own.
    #[inline(always)]
    pub(super) fn expand(&self, out: &mut [f32]) {
        if self.codes.len() == self.scales.len() * 16 {
            self.expand_groups::<16>(out);
        } else {
            self.expand_groups::<32>(out);
        }
    }

    #[inline(always)]
    fn expand_groups<const LEN: usize>(&self, out: &mut [f32]) {
        let groups = self.codes.as_chunks::<LEN>().0.iter().zip(&*self.scales).zip(&*self.minima);
        for (((codes, scale), minimum), out) in groups.zip(out.as_chunks_mut::<LEN>().0) {
            for (code, out) in codes.iter().zip(out) {
                *out = scale.mul_add(f32::from(*code), *minimum);
            }
        }
    }
}
