//! Products of many activation rows in 8 bits with AVX2: products of bytes are added up in 16 bits for as long as they fit.

use std::arch::x86_64::*;

use super::avx2::{each_of_blocks, each_of_super_blocks, load};
use super::code_panel::{Activation, Panel, Unpacked, group_len};
use super::panel::{BATCH, ROWS, Sums};
use super::x86_blocks::*;
use crate::Format;

/// Writes consecutive blocks as codes, scales and minima.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn unpack(format: Format, blocks: &[u8], out: &mut Unpacked) {
    // A group is 16 or 32 codes.
    let two_in_group = usize::from(out.codes.len() == 32 * out.scales.len());
    let out_codes = out.codes.as_chunks_mut::<16>().0;
    let take = |i: usize, codes, scale, minimum| {
        store_16(codes, &mut out_codes[i]);
        out.scales[i >> two_in_group] = _mm256_cvtss_f32(scale);
        out.minima[i >> two_in_group] = _mm256_cvtss_f32(minimum);
    };
    for_format!(format, each_of_blocks, each_of_super_blocks, [], (blocks, take))
}

/// Adds the products of the panel's rows, which are in `format`, with those of `x`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply_code_panel(
    format: Format,
    panel: &Panel,
    x: [Activation<'_>; BATCH],
    sums: &mut Sums,
) {
    // Of codes up to 15, eight sums of two products with an activation's code of at most 127 fit in 16 bits:
    // 8 * 2 * 15 * 127 is 30,480. Of larger codes as many fewer.
    match (largest_code(format), group_len(format)) {
        (Some(..=15), 32) => multiply_groups::<8, 8, false>(panel, x, sums),
        (Some(..=15), _) => multiply_groups::<4, 4, false>(panel, x, sums),
        (Some(..=31), _) => multiply_groups::<8, 4, false>(panel, x, sums),
        (Some(..=63), _) => multiply_groups::<4, 2, false>(panel, x, sums),
        (None, 16) => multiply_groups::<4, 1, true>(panel, x, sums),
        _ => multiply_groups::<8, 1, true>(panel, x, sums),
    }
}

/// The largest code that weights have, or none if they use all 8 bits.
fn largest_code(format: Format) -> Option<u8> {
    match format {
        Format::Q2_K => Some(3),
        Format::Q3_K => Some(7),
        Format::Q4_0 | Format::Q4_1 | Format::Q4_K => Some(15),
        Format::MXFP4 => Some(24),
        Format::Q5_0 | Format::Q5_1 | Format::Q5_K => Some(31),
        Format::Q6_K => Some(63),
        _ => None,
    }
}

/// Rows of a panel in a vector: their products with all rows of `x` are made at a time.
const ROWS_AT_ONCE: usize = 8;

/// `QUADS`: a quarter of the length of a group. `FITTING`: how many of them are added up in 16 bits. `WIDE`: as in
/// [`for_format`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_groups<const QUADS: usize, const FITTING: usize, const WIDE: bool>(
    panel: &Panel,
    x: [Activation<'_>; BATCH],
    sums: &mut Sums,
) {
    let x_codes = x.map(|x| x.codes.as_chunks::<QUADS>().0);
    let ones = _mm256_set1_epi16(1);
    for part in 0..ROWS / ROWS_AT_ONCE {
        let mut totals = [_mm256_setzero_ps(); BATCH];
        for (total, sums) in totals.iter_mut().zip(&*sums) {
            *total = load(&sums.as_chunks().0[part]);
        }
        let groups = panel.codes.as_chunks::<QUADS>().0.iter().zip(&*panel.scales).zip(&*panel.minima);
        for (group, ((quads, scales), minima)) in groups.enumerate() {
            let mut products = [_mm256_setzero_si256(); BATCH];
            for (at, quads) in quads.as_chunks::<FITTING>().0.iter().enumerate() {
                let mut fitting = [_mm256_setzero_si256(); BATCH];
                for (q, quad) in quads.iter().enumerate() {
                    let weights: &[[u8; 4 * ROWS_AT_ONCE]; ROWS / ROWS_AT_ONCE] = bytemuck::cast_ref(quad);
                    let weights = load_32(&weights[part]);
                    for (sum, x) in fitting.iter_mut().zip(&x_codes) {
                        let x = _mm256_set1_epi32(bytemuck::cast(x[group][at * FITTING + q]));
                        *sum = _mm256_add_epi16(*sum, pairs::<WIDE>(weights, x));
                    }
                }
                for (products, sum) in products.iter_mut().zip(fitting) {
                    *products = _mm256_add_epi32(*products, _mm256_madd_epi16(sum, ones));
                }
            }
            let (scales, minima) = (load(&scales.as_chunks().0[part]), load(&minima.as_chunks().0[part]));
            for ((total, products), x) in totals.iter_mut().zip(products).zip(&x) {
                let [scale, scaled_sum] = x.factors[group];
                let factor = _mm256_mul_ps(scales, _mm256_set1_ps(scale));
                *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), factor, *total);
                // `pairs` takes off itself what makes WIDE codes unsigned.
                if !WIDE {
                    *total = _mm256_fmadd_ps(minima, _mm256_set1_ps(scaled_sum), *total);
                }
            }
        }
        for (total, sums) in totals.into_iter().zip(sums.iter_mut()) {
            sums.as_chunks_mut().0[part] = lanes(total);
        }
    }
}
