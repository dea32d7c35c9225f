//! Activations in 8 bits, the form that integer dot products with block weights take.

/// A row of activations in blocks as long as the weights' blocks: 32 or 256 values that share a scale, each
/// `scale * code` with a code in -127..=127.
///
/// Unlike ggml's `Q8_0` and `Q8_K`, scales are f32 and apart from the codes, so that vectors load without gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QuantisedRow {
    pub(super) codes: Vec<i8>,
    /// Scale of each block, and the scale times the sum of its codes.
    pub(super) factors: Vec<[f32; 2]>,
    /// Sums of 16 codes each, in every 256 those of even index before those of odd. Empty for blocks of 32.
    pub(super) sums: Vec<i16>,
    /// Each four blocks of 32; zero in place of missing ones at the end. Empty for blocks of 256.
    pub(super) fours: Vec<FourBlocks>,
}

/// Factors and sums of the codes of four blocks of 32, in the order of vector lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct FourBlocks {
    /// Scale of each block.
    pub(super) scales: [f32; 4],
    /// Scale times the sum of the codes.
    pub(super) scaled_sums: [f32; 4],
    /// Sum of the codes.
    pub(super) sums: [i32; 4],
}

impl QuantisedRow {
    /// `values` in blocks of `block_len`. Plain code in which the compiler finds the vectors, so each instruction
    /// set calls it from a function of its own.
    #[inline(always)]
    pub(super) fn new(values: &[f32], block_len: usize) -> QuantisedRow {
        match block_len {
            32 => QuantisedRow::in_blocks_of::<32>(values),
            256 => QuantisedRow::in_blocks_of::<256>(values),
            other => unreachable!("no format has blocks of {other}"),
        }
    }

    #[inline(always)]
    fn in_blocks_of<const LEN: usize>(values: &[f32]) -> QuantisedRow {
        let (values, rest) = values.as_chunks::<LEN>();
        assert!(rest.is_empty());
        let mut codes = vec![0; values.len() * LEN];
        let mut factors = Vec::with_capacity(values.len());
        let (mut sums, mut fours) = (Vec::new(), Vec::new());
        if LEN == 32 {
            fours.resize(values.len().div_ceil(4), FourBlocks::default());
        }
        for (i, (values, codes)) in values.iter().zip(codes.as_chunks_mut().0).enumerate() {
            let (scale, sum) = quantise::<LEN>(values, codes);
            let scaled_sum = scale * sum as f32;
            factors.push([scale, scaled_sum]);
            if LEN == 32 {
                let four: &mut FourBlocks = &mut fours[i / 4];
                (four.scales[i % 4], four.scaled_sums[i % 4]) = (scale, scaled_sum);
                four.sums[i % 4] = sum;
            }
        }
        if LEN != 32 {
            sums.resize(codes.len() / 16, 0);
            for (codes, sums) in codes.as_chunks::<256>().0.iter().zip(sums.as_chunks_mut::<16>().0) {
                for (i, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
                    sums[i / 2 + 8 * (i % 2)] = codes.iter().map(|code| i16::from(*code)).sum();
                }
            }
        }
        QuantisedRow { codes, factors, sums, fours }
    }

    /// `values` as the sum of `count` rows: each takes up what rounding took from those before it.
    #[inline(always)]
    pub(super) fn planes(values: &[f32], block_len: usize, count: usize) -> Vec<QuantisedRow> {
        let mut planes = vec![QuantisedRow::new(values, block_len)];
        let mut rest = Vec::new();
        while planes.len() < count {
            if rest.is_empty() {
                rest.extend_from_slice(values);
            }
            planes[planes.len() - 1].subtract_from(&mut rest, block_len);
            planes.push(QuantisedRow::new(&rest, block_len));
        }
        planes
    }

    #[inline(always)]
    fn subtract_from(&self, values: &mut [f32], block_len: usize) {
        let blocks = values.chunks_exact_mut(block_len).zip(self.codes.chunks_exact(block_len));
        for ((values, codes), [scale, _]) in blocks.zip(&self.factors) {
            // With one rounding, which there is nearly never anything for: the kernels multiply exactly too.
            values
                .iter_mut()
                .zip(codes)
                .for_each(|(value, code)| *value = (-f32::from(*code)).mul_add(*scale, *value));
        }
    }

    /// The squared length of the difference between `values` and what the row stands for.
    pub(crate) fn squared_distance(&self, values: &[f32]) -> f32 {
        let block_len = values.len() / self.factors.len();
        let blocks = values.chunks_exact(block_len).zip(self.codes.chunks_exact(block_len));
        let squares = blocks.zip(&self.factors).map(|((values, codes), [scale, _])| {
            let differences = values.iter().zip(codes).map(|(value, code)| value - f32::from(*code) * scale);
            differences.map(|difference| difference * difference).sum::<f32>()
        });
        squares.sum()
    }

    /// The values that the sum of `planes` stands for.
    pub(super) fn sum_to_f32(planes: &[QuantisedRow]) -> Vec<f32> {
        let mut values = vec![0.0; planes[0].codes.len()];
        for QuantisedRow { codes, factors, .. } in planes {
            let block_len = codes.len() / factors.len();
            let blocks = values.chunks_mut(block_len).zip(codes.chunks(block_len)).zip(factors);
            for ((values, codes), [scale, _]) in blocks {
                values.iter_mut().zip(codes).for_each(|(value, code)| *value += f32::from(*code) * *scale);
            }
        }
        values
    }

    /// For each `group_len` codes, 16 or 32 but at most a block, the sum of the codes.
    pub(super) fn group_sums(&self, group_len: usize) -> Vec<i32> {
        if !self.fours.is_empty() {
            assert_eq!(group_len, 32);
            return self.fours.iter().flat_map(|four| four.sums).take(self.factors.len()).collect();
        }
        let mut group_sums = vec![0; self.codes.len() / group_len];
        let group_sums_of_blocks = group_sums.chunks_exact_mut(256 / group_len);
        for (sums, group_sums) in self.sums.as_chunks::<16>().0.iter().zip(group_sums_of_blocks) {
            let (even, odd) = sums.split_at(8);
            let pairs = even.iter().zip(odd).map(|(even, odd)| [i32::from(*even), i32::from(*odd)]);
            match group_len {
                16 => {
                    group_sums.as_chunks_mut().0.iter_mut().zip(pairs).for_each(|(sums, pair)| *sums = pair)
                }
                _ => group_sums.iter_mut().zip(pairs).for_each(|(sum, [even, odd])| *sum = even + odd),
            }
        }
        group_sums
    }

    /// For each group, of which `sums` are the [sums of codes](QuantisedRow::group_sums), the scale and the scale times the sum.
    pub(super) fn group_factors(&self, sums: &[i32]) -> Vec<[f32; 2]> {
        let groups = sums.len() / self.factors.len();
        let blocks = sums.chunks_exact(groups).zip(&self.factors);
        blocks.flat_map(|(sums, [scale, _])| sums.iter().map(|sum| [*scale, *scale * *sum as f32])).collect()
    }
}

/// Writes the codes of one block and returns its scale and the sum of the codes. A block with NaN or infinity in it gets
/// a scale that makes every product with it NaN.
#[inline(always)]
fn quantise<const LEN: usize>(values: &[f32; LEN], codes: &mut [i8; LEN]) -> (f32, i32) {
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
    (scale, sum)
}
