//! Integer dot products of weight rows, the same with and without the dot product extension but for the features
//! they are compiled with and one instruction.

use std::arch::aarch64::*;

/// Defines `dot_rows` for the instruction set `$features`.
///
/// In scope has to be `add_products(sums, codes, x)`, which adds the products of signed bytes to 32-bit lanes, no
/// matter which.
macro_rules! row_loops {
    ($features:literal) => {
        /// Products of consecutive weight rows with `x`.
        #[target_feature(enable = $features)]
        pub(in crate::kernels) fn dot_rows(format: Format, rows: &[u8], x: &QuantisedRow, out: &mut [f32]) {
            for_format!(format, dot_blocks, dot_super_blocks, (rows, x, out))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_blocks<B: Pod>(
            rows: &[u8],
            x: &QuantisedRow,
            out: &mut [f32],
            codes: impl Fn(&B) -> [int8x16_t; 2],
            lines: impl Fn([&B; ROWS]) -> [float32x4_t; 2],
        ) {
            let x_blocks = x.codes.as_chunks::<32>().0;
            for (rows, out) in
                bytemuck::cast_slice(rows).chunks(ROWS * x_blocks.len()).zip(out.chunks_mut(ROWS))
            {
                let mut sums = vdupq_n_f32(0.0);
                let [a, b, c, d] = rows::split::<B>(rows, x_blocks.len());
                for (i, (x_codes, [x_scale, x_sum])) in x_blocks.iter().zip(&x.factors).enumerate() {
                    let blocks = [&a[i], &b[i], &c[i], &d[i]];
                    let x_codes = load_codes(x_codes);
                    let mut products = [vdupq_n_s32(0); ROWS];
                    for (products, block) in products.iter_mut().zip(blocks) {
                        for (codes, x_codes) in codes(block).into_iter().zip(x_codes) {
                            *products = add_products(*products, codes, x_codes);
                        }
                    }
                    let products = vcvtq_f32_s32(sums_of_lanes(products));
                    let [scales, minima] = lines(blocks);
                    sums = vfmaq_f32(sums, products, vmulq_n_f32(scales, *x_scale));
                    sums = vfmaq_n_f32(sums, minima, *x_sum);
                }
                out.copy_from_slice(&lanes(sums)[..out.len()]);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn dot_super_blocks<B: Pod>(
            rows: &[u8],
            x: &QuantisedRow,
            out: &mut [f32],
            codes: impl Fn(&B, usize) -> [int8x16_t; 4],
            scales: impl Fn(&B) -> SubBlockScales,
            factors: impl Fn(&B) -> [f32; 2],
        ) {
            for (row, out) in bytemuck::cast_slice::<_, B>(rows).chunks_exact(x.factors.len()).zip(out) {
                let mut sums = vdupq_n_f32(0.0);
                let x_blocks =
                    x.codes.as_chunks::<256>().0.iter().zip(&x.factors).zip(x.sums.as_chunks::<16>().0);
                for (block, ((x_codes, [x_scale, _]), x_sums)) in row.iter().zip(x_blocks) {
                    let SubBlockScales { scales, minima } = scales(block);
                    let mut products = vdupq_n_s32(0);
                    for (i, (x_codes, scales)) in
                        x_codes.as_chunks::<64>().0.iter().zip(widened(scales)).enumerate()
                    {
                        let mut of_sub_blocks = [vdupq_n_s32(0); 4];
                        let x_codes = x_codes.as_chunks().0;
                        for ((products, codes), x_codes) in
                            of_sub_blocks.iter_mut().zip(codes(block, i)).zip(x_codes)
                        {
                            *products = add_products(*products, codes, load_16(x_codes));
                        }
                        products = vmlaq_s32(products, sums_of_lanes(of_sub_blocks), scales);
                    }
                    let [scale, minimum] = factors(block);
                    sums = vfmaq_n_f32(sums, vcvtq_f32_s32(products), scale * x_scale);
                    let minima = vcvtq_f32_s32(products_with_sums(minima, x_sums));
                    sums = vfmsq_n_f32(sums, minima, minimum * x_scale);
                }
                *out = vaddvq_f32(sums);
            }
        }
    };
}
pub(super) use row_loops;

/// The sum of the lanes of each vector.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn sums_of_lanes([a, b, c, d]: [int32x4_t; 4]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))
}

/// Products of the minima of 16 sub-blocks with the sums of a [`QuantisedRow`](super::QuantisedRow), added to four
/// lanes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn products_with_sums(minima: int8x16_t, sums: &[i16; 16]) -> int32x4_t {
    let [even, odd]: &[[i16; 8]; 2] = bytemuck::cast_ref(sums);
    // SAFETY: the arrays are as long as the vectors; the loads need no alignment.
    let (even, odd) = unsafe { (vld1q_s16(even.as_ptr()), vld1q_s16(odd.as_ptr())) };
    let (low_sums, high_sums) = (vzip1q_s16(even, odd), vzip2q_s16(even, odd));
    let (low, high) = (vmovl_s8(vget_low_s8(minima)), vmovl_high_s8(minima));
    let products = vmull_s16(vget_low_s16(low), vget_low_s16(low_sums));
    let products = vmlal_high_s16(products, low, low_sums);
    let products = vmlal_s16(products, vget_low_s16(high), vget_low_s16(high_sums));
    vmlal_high_s16(products, high, high_sums)
}
