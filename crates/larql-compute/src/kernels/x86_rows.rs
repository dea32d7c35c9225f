//! Integer dot products of weight rows, the same for AVX2 and AVX-512 but for the features they are compiled
//! with and two instructions.

/// Defines `dot_rows` for the instruction set `$features`.
///
/// In scope have to be `dot_bytes::<WIDE>(codes, x)`, sums of products of unsigned and signed bytes in 32-bit
/// lanes of 4 bytes each, and `add_scaled(sums, pairs, scales)`, which adds products of 16-bit numbers to 32-bit
/// lanes of 2 numbers each. `WIDE_MINIMUM` is what [`for_format`](super::x86_blocks::for_format) calls minimum
/// for WIDE formats: zero if `dot_bytes` takes off the 128 itself.
macro_rules! row_loops {
    ($features:literal) => {
        /// Products of consecutive weight rows with `x`.
        #[target_feature(enable = $features)]
        pub(in crate::kernels) fn dot_rows(format: Format, rows: &[u8], x: &QuantisedRow, out: &mut [f32]) {
            for_format!(format, dot_blocks, dot_super_blocks, (rows, x, out))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_blocks<B: Pod, const WIDE: bool>(
            rows: &[u8],
            x: &QuantisedRow,
            out: &mut [f32],
            codes: impl Fn([&B; 2]) -> [__m256i; 2],
            factors: impl Fn([&B; ROWS]) -> __m256,
            minimum: Option<f32>,
        ) {
            let minimum = if WIDE { Some(WIDE_MINIMUM) } else { minimum };
            let x_blocks = x.codes.as_chunks::<32>().0;
            for (rows, out) in
                bytemuck::cast_slice(rows).chunks(ROWS * x_blocks.len()).zip(out.chunks_mut(ROWS))
            {
                // Of rows 0 and 2, and of rows 1 and 3.
                let mut sums = [_mm256_setzero_ps(); 2];
                let mut minima = _mm256_setzero_ps();
                for (([a, b, c, d], x_codes), x_factors) in
                    columns::<B>(rows, x_blocks.len()).zip(x_blocks).zip(&x.factors)
                {
                    let block_factors = factors([a, b, c, d]);
                    let factors = _mm256_mul_ps(block_factors, _mm256_set1_ps(x_factors[0]));
                    minima = _mm256_fmadd_ps(block_factors, _mm256_set1_ps(x_factors[1]), minima);
                    let x_codes = load_halves_twice(bytemuck::cast_ref(x_codes));
                    let products = _mm256_cvtepi32_ps(dot_bytes::<WIDE>(codes([a, c]), x_codes));
                    sums[0] = _mm256_fmadd_ps(products, _mm256_permute_ps(factors, 0b00_00_00_00), sums[0]);
                    let products = _mm256_cvtepi32_ps(dot_bytes::<WIDE>(codes([b, d]), x_codes));
                    sums[1] = _mm256_fmadd_ps(products, _mm256_permute_ps(factors, 0b10_10_10_10), sums[1]);
                }
                let minima = match minimum {
                    Some(scales) => _mm_mul_ps(even_lanes(minima), _mm_set1_ps(scales)),
                    None => even_lanes(_mm256_movehdup_ps(minima)),
                };
                let sums = _mm_add_ps(sums_of_halves(sums), minima);
                store_first(sums, out);
            }
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
            for (row, out) in bytemuck::cast_slice::<_, B>(rows).chunks_exact(x.factors.len()).zip(out) {
                let mut sums = _mm256_setzero_ps();
                let x_blocks =
                    x.codes.as_chunks::<256>().0.iter().zip(&x.factors).zip(x.sums.as_chunks::<16>().0);
                for (block, ((x_codes, x_factors), x_sums)) in row.iter().zip(x_blocks) {
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
