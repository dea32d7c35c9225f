//! Integer dot products of weight rows, the same for AVX2 and AVX-512 but for the features they are compiled
//! with, the loop over blocks of 32, and an instruction.

/// Defines `dot_rows` for the instruction set `$features`.
///
/// In scope have to be `dot_blocks`, for blocks of 32 what [`for_format`](super::x86_blocks::for_format) calls,
/// `add_scaled(sums, pairs, scales)`, which adds products of 16-bit numbers to 32-bit lanes of 2 numbers each, and
/// `ACTIVATIONS`, the number of activations that share the unpacked weights.
macro_rules! row_loops {
    ($features:literal) => {
        /// Products of consecutive weight rows with each activation of `x`, which is the sum of its planes.
        #[target_feature(enable = $features)]
        pub(in crate::kernels) fn dot_rows(
            format: Format,
            rows: &[u8],
            x: &[&[QuantisedRow]],
            out: &mut [&mut [f32]],
        ) {
            match (x.len(), x[0].len()) {
                (1, 1) => dot_planes::<1, 1>(format, rows, x, out),
                (1, 2) => dot_planes::<2, 1>(format, rows, x, out),
                (_, 1) => dot_planes::<1, ACTIVATIONS>(format, rows, x, out),
                (_, 2) => dot_planes::<2, ACTIVATIONS>(format, rows, x, out),
                (_, 3) => {
                    for (x, out) in x.chunks(1).zip(out.chunks_mut(1)) {
                        dot_planes::<3, 1>(format, rows, x, out);
                    }
                }
                (_, planes) => unreachable!("{planes} planes"),
            }
        }

        /// The same for up to `N` activations. In place of missing ones the last is multiplied again.
        #[target_feature(enable = $features)]
        fn dot_planes<const PLANES: usize, const N: usize>(
            format: Format,
            rows: &[u8],
            x: &[&[QuantisedRow]],
            out: &mut [&mut [f32]],
        ) {
            assert!(x.len() <= N);
            let x: [[&QuantisedRow; PLANES]; N] =
                std::array::from_fn(|n| std::array::from_fn(|plane| &x[n.min(x.len() - 1)][plane]));
            for_format!(format, dot_blocks, dot_super_blocks, [PLANES, N], (rows, x, out))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_super_blocks<B: Pod, const WIDE: bool, const PLANES: usize, const N: usize>(
            rows: &[u8],
            x: [[&QuantisedRow; PLANES]; N],
            out: &mut [&mut [f32]],
            codes: impl Fn(&B, usize) -> __m256i,
            scales: impl Fn(&B) -> SubBlockScales,
            factors: impl Fn(&B) -> __m128,
        ) {
            let broadcasts = broadcasts();
            let mut ahead = Prefetch::of(&rows[..0]);
            let row_len = x[0][0].factors.len();
            let x = x.map(|planes| {
                planes.map(|x| {
                    let x_codes = &x.codes.as_chunks::<256>().0[..row_len];
                    (x_codes, &x.factors[..row_len], &x.sums.as_chunks::<16>().0[..row_len])
                })
            });
            for (r, row) in bytemuck::cast_slice::<_, B>(rows).chunks_exact(row_len).enumerate() {
                let mut sums = [_mm256_setzero_ps(); N];
                for (at, block) in row.iter().enumerate() {
                    ahead.fetch(size_of::<B>());
                    let scales = scales(block);
                    let mut products = [[_mm256_setzero_si256(); PLANES]; N];
                    for i in 0..8 {
                        let codes = codes(block, i);
                        let scales = _mm256_shuffle_epi8(scales.scales, load_32(&broadcasts[i]));
                        for (products, x) in products.iter_mut().zip(&x) {
                            for (products, (x_codes, ..)) in products.iter_mut().zip(x) {
                                let x_codes: &[[u8; 32]; 8] = bytemuck::cast_ref(&x_codes[at]);
                                *products =
                                    add_scaled(*products, pairs::<WIDE>(codes, load_32(&x_codes[i])), scales);
                            }
                        }
                    }
                    let factors = factors(block);
                    let (scale, minimum) =
                        (_mm256_broadcastss_ps(factors), _mm256_broadcastss_ps(_mm_movehdup_ps(factors)));
                    for ((sums, products), x) in sums.iter_mut().zip(products).zip(&x) {
                        let (mut all, mut minima) = (_mm256_setzero_ps(), _mm256_setzero_ps());
                        for (products, (_, x_factors, x_sums)) in products.into_iter().zip(x) {
                            let scale = _mm256_set1_ps(x_factors[at][0]);
                            all = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, all);
                            if !WIDE {
                                let x_sums = load_32(bytemuck::cast_ref(&x_sums[at]));
                                let products = _mm256_madd_epi16(scales.minima, x_sums);
                                minima = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, minima);
                            }
                        }
                        *sums = _mm256_fmadd_ps(all, scale, *sums);
                        *sums = _mm256_fnmadd_ps(minima, minimum, *sums);
                    }
                }
                for (out, sums) in out.iter_mut().zip(sums) {
                    out[r] = sum(sums);
                }
            }
        }
    };
}
pub(super) use row_loops;
