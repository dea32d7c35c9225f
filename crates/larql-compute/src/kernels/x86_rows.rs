//! Integer dot products of weight rows, the same for AVX2 and AVX-512 but for the features they are compiled
//! with, the loop over blocks of 32, and an instruction.

/// Defines `dot_rows` for the instruction set `$features`.
///
/// In scope have to be `dot_blocks`, for blocks of 32 what [`for_format`](super::x86_blocks::for_format) calls, and
/// `add_scaled(sums, pairs, scales)`, which adds products of 16-bit numbers to 32-bit lanes of 2 numbers each.
macro_rules! row_loops {
    ($features:literal) => {
        /// Products of consecutive weight rows with `x`.
        #[target_feature(enable = $features)]
        pub(in crate::kernels) fn dot_rows(format: Format, rows: &[u8], x: &QuantisedRow, out: &mut [f32]) {
            for_format!(format, dot_blocks, dot_super_blocks, (rows, x, out))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_super_blocks<B: Pod, const WIDE: bool>(
            rows: &[u8],
            x: &QuantisedRow,
            out: &mut [f32],
            codes: impl Fn(&B, usize) -> __m256i,
            scales: impl Fn(&B) -> SubBlockScales,
            factors: impl Fn(&B) -> __m128,
        ) {
            let broadcasts = broadcasts();
            let mut ahead = Ahead::of(&rows[..0]);
            for (row, out) in bytemuck::cast_slice::<_, B>(rows).chunks_exact(x.factors.len()).zip(out) {
                let mut sums = _mm256_setzero_ps();
                let x_blocks =
                    x.codes.as_chunks::<256>().0.iter().zip(&x.factors).zip(x.sums.as_chunks::<16>().0);
                for (block, ((x_codes, x_factors), x_sums)) in row.iter().zip(x_blocks) {
                    ahead.fetch(size_of::<B>());
                    let scales = scales(block);
                    let mut products = [_mm256_setzero_si256(); 2];
                    for (i, x_codes) in x_codes.as_chunks::<32>().0.iter().enumerate() {
                        let pairs = pairs::<WIDE>(codes(block, i), load_32(bytemuck::cast_ref(x_codes)));
                        let scales = _mm256_shuffle_epi8(scales.scales, load_32(&broadcasts[i]));
                        products[i % 2] = add_scaled(products[i % 2], pairs, scales);
                    }
                    let products = _mm256_cvtepi32_ps(_mm256_add_epi32(products[0], products[1]));
                    let factors = _mm_mul_ps(factors(block), _mm_set1_ps(x_factors[0]));
                    sums = _mm256_fmadd_ps(products, _mm256_broadcastss_ps(factors), sums);
                    if !WIDE {
                        let x_sums = load_32(bytemuck::cast_ref(x_sums));
                        let minima = _mm256_cvtepi32_ps(_mm256_madd_epi16(scales.minima, x_sums));
                        sums =
                            _mm256_fnmadd_ps(minima, _mm256_broadcastss_ps(_mm_movehdup_ps(factors)), sums);
                    }
                }
                *out = sum(sums);
            }
        }
    };
}
pub(super) use row_loops;
