//! Activations in 8 bits, the form that integer dot products with block weights take.

/// Rows of activations in blocks as long as the weights' blocks: 32 or 256 values that share a scale, each
/// `scale * code` with a code in -127..=127.
///
/// Unlike ggml's `Q8_0` and `Q8_K`, scales are f32 and apart from the codes, so that vectors load without gaps.
#[derive(Debug, PartialEq)]
pub(crate) struct Quantised {
    width: usize,
    block_len: usize,
    /// `[batch, width]`
    codes: Vec<i8>,
    /// Of each block its scale, and the scale times the sum of the codes: `[batch, width / block_len]`
    factors: Vec<[f32; 2]>,
    /// Sums of 16 codes each, in every 256 those of even index before those of odd: `[batch, width / 16]`.
    /// Empty for blocks of 32.
    sums: Vec<i16>,
}

/// One row of [`Quantised`].
#[derive(Clone, Copy)]
pub(crate) struct QuantisedRow<'a> {
    pub(crate) codes: &'a [i8],
    pub(crate) factors: &'a [[f32; 2]],
    pub(crate) sums: &'a [i16],
}

impl Quantised {
    /// Zeros, to be filled by [`Quantised::fill`].
    pub(crate) fn new(batch: usize, width: usize, block_len: usize) -> Quantised {
        assert!(matches!(block_len, 32 | 256) && width.is_multiple_of(block_len));
        Quantised {
            width,
            block_len,
            codes: vec![0; batch * width],
            factors: vec![[0.0; 2]; batch * width / block_len],
            sums: vec![0; if block_len == 256 { batch * width / 16 } else { 0 }],
        }
    }

    pub(crate) fn row(&self, row: usize) -> QuantisedRow<'_> {
        let blocks = self.width / self.block_len;
        let sums = if self.block_len == 256 { self.width / 16 } else { 0 };
        QuantisedRow {
            codes: &self.codes[row * self.width..][..self.width],
            factors: &self.factors[row * blocks..][..blocks],
            sums: &self.sums[row * sums..][..sums],
        }
    }

    /// The codes of `values`. Plain code in which the compiler finds the vectors, so each instruction set calls
    /// it from a function of its own.
    #[inline(always)]
    pub(super) fn fill(&mut self, values: &[f32]) {
        assert_eq!(values.len(), self.codes.len());
        if self.block_len == 32 {
            let blocks = values.as_chunks().0.iter().zip(self.codes.as_chunks_mut().0);
            for ((values, codes), factors) in blocks.zip(&mut self.factors) {
                *factors = quantise::<32>(values, codes);
            }
        } else {
            let blocks = values.as_chunks().0.iter().zip(self.codes.as_chunks_mut().0);
            for (((values, codes), factors), sums) in
                blocks.zip(&mut self.factors).zip(self.sums.as_chunks_mut::<16>().0)
            {
                *factors = quantise::<256>(values, codes);
                for (i, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
                    sums[i / 2 + 8 * (i % 2)] = codes.iter().map(|code| i16::from(*code)).sum();
                }
            }
        }
    }
}

impl QuantisedRow<'_> {
    /// The values that the codes stand for.
    pub(crate) fn to_f32(self) -> Vec<f32> {
        let block_len = self.codes.len() / self.factors.len();
        let blocks = self.codes.chunks(block_len).zip(self.factors);
        blocks.flat_map(|(codes, [scale, _])| codes.iter().map(|code| f32::from(*code) * *scale)).collect()
    }
}

/// Writes the codes of one block and returns its factors. A block with NaN or infinity in it gets a scale that
/// makes every product with it NaN.
#[inline(always)]
fn quantise<const LEN: usize>(values: &[f32; LEN], codes: &mut [i8; LEN]) -> [f32; 2] {
    // Of floats without their sign the bits sort as the numbers do, with NaN on top.
    let largest = f32::from_bits(values.iter().map(|value| value.abs().to_bits()).max().unwrap_or(0));
    let scale = largest / 127.0;
    let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let mut sum = 0;
    for (code, value) in codes.iter_mut().zip(values) {
        *code = (value * inverse + ROUND).to_bits() as i8;
        sum += i32::from(*code);
    }
    [scale, scale * sum as f32]
}
