//! AArch64 with NEON, which all of its processors have.

use std::arch::aarch64::*;

use bytemuck::Pod;

use super::QuantisedRow;
use super::neon_blocks::*;
use super::neon_rows::*;
use super::panel::{self, BATCH, Sums};
use super::rows::{ROWS, columns};
use crate::Format;

/// Sum of all lanes.
#[inline]
#[target_feature(enable = "neon")]
fn total(sums: [float32x4_t; 8]) -> f32 {
    let [a, b, c, d, e, f, g, h] = sums;
    let (ab, cd, ef, gh) = (vaddq_f32(a, b), vaddq_f32(c, d), vaddq_f32(e, f), vaddq_f32(g, h));
    vaddvq_f32(vaddq_f32(vaddq_f32(ab, cd), vaddq_f32(ef, gh)))
}

/// See [`super::scalar::dot`].
#[target_feature(enable = "neon")]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [vdupq_n_f32(0.0); 8];
    let (a_groups, a_rest) = a.as_chunks::<32>();
    let (b_groups, b_rest) = b.as_chunks::<32>();
    for (a, b) in a_groups.iter().zip(b_groups) {
        for ((a, b), sum) in a.as_chunks().0.iter().zip(b.as_chunks().0).zip(&mut sums) {
            *sum = vfmaq_f32(*sum, load(a), load(b));
        }
    }
    total(sums) + super::scalar::dot(a_rest, b_rest)
}

/// Writes the values of consecutive blocks.
#[target_feature(enable = "neon")]
pub(super) fn decode(format: Format, blocks: &[u8], out: &mut [f32]) {
    if format == Format::Q8_K {
        return format.decode(blocks, out);
    }
    let (out, out_rest) = out.as_chunks_mut::<4>();
    let rest = each_of_4(format, blocks, |at, values| store(values, &mut out[at / 4]));
    format.decode(rest, out_rest);
}

/// Product of a weight row with `x`.
#[target_feature(enable = "neon")]
pub(super) fn dot_decoded(format: Format, row: &[u8], x: &[f32]) -> f32 {
    if format == Format::Q8_K {
        return super::scalar::dot_decoded(format, row, x);
    }
    let mut sums = [vdupq_n_f32(0.0); 8];
    let (x, x_rest) = x.as_chunks::<4>();
    let rest = each_of_4(format, row, |at, values| {
        sums[at / 4 % 8] = vfmaq_f32(sums[at / 4 % 8], values, load(&x[at / 4]));
    });
    let total = total(sums);
    if x_rest.is_empty() { total } else { total + super::scalar::dot_decoded(format, rest, x_rest) }
}

/// Calls `take` with 4 values at a time and the index of the first, and returns the bytes of the last few.
#[inline]
#[target_feature(enable = "neon")]
fn each_of_4(format: Format, bytes: &[u8], mut take: impl FnMut(usize, float32x4_t)) -> &[u8] {
    let take_16 = |at: usize, codes: int8x16_t, scale: f32, minimum: f32| {
        for (i, codes) in widened(codes).into_iter().enumerate() {
            // The product is exact in f32, so that a value is what the codec gives.
            take(at + 4 * i, vfmaq_n_f32(vdupq_n_f32(minimum), vcvtq_f32_s32(codes), scale));
        }
    };
    match format {
        Format::F32 => each_of_floats(bytes, take, |bytes: &[u8; 16]| load(&bytemuck::cast(*bytes))),
        Format::F16 => each_of_floats(bytes, take, |bytes: &[u8; 8]| halves(bytemuck::cast(*bytes))),
        Format::BF16 => each_of_floats(bytes, take, |bytes: &[u8; 8]| {
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vcreate_u16(u64::from_le_bytes(*bytes))))
        }),
        _ => {
            for_format!(format, each_of_blocks, each_of_super_blocks, (bytes, take_16));
            &[]
        }
    }
}

/// See [`each_of_4`]. `BYTES` is the size of 4 values.
#[inline]
#[target_feature(enable = "neon")]
fn each_of_floats<const BYTES: usize>(
    bytes: &[u8],
    mut take: impl FnMut(usize, float32x4_t),
    widen: impl Fn(&[u8; BYTES]) -> float32x4_t,
) -> &[u8] {
    let (groups, rest) = bytes.as_chunks::<BYTES>();
    let (eights, last) = groups.as_chunks::<8>();
    for (i, eight) in eights.iter().enumerate() {
        for (j, group) in eight.iter().enumerate() {
            take(32 * i + 4 * j, widen(group));
        }
    }
    for (j, group) in last.iter().enumerate() {
        take(32 * eights.len() + 4 * j, widen(group));
    }
    rest
}

/// Calls `take` with 16 codes at a time, the index of the first, and their scale and minimum.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn each_of_blocks<B: Pod>(
    blocks: &[u8],
    mut take: impl FnMut(usize, int8x16_t, f32, f32),
    codes: impl Fn(&B) -> [int8x16_t; 2],
    lines: impl Fn([&B; ROWS]) -> [float32x4_t; 2],
) {
    for (i, block) in bytemuck::cast_slice::<_, B>(blocks).iter().enumerate() {
        let [scales, minima] = lines([block; ROWS]);
        let (scale, minimum) = (vgetq_lane_f32::<0>(scales), vgetq_lane_f32::<0>(minima));
        let [first, last] = codes(block);
        take(32 * i, first, scale, minimum);
        take(32 * i + 16, last, scale, minimum);
    }
}

/// See [`each_of_blocks`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn each_of_super_blocks<B: Pod>(
    blocks: &[u8],
    mut take: impl FnMut(usize, int8x16_t, f32, f32),
    codes: impl Fn(&B, usize) -> [int8x16_t; 4],
    scales: impl Fn(&B) -> SubBlockScales,
    factors: impl Fn(&B) -> [f32; 2],
) {
    for (block_at, block) in bytemuck::cast_slice::<_, B>(blocks).iter().enumerate() {
        let ([scale, minimum], SubBlockScales { scales, minima }) = (factors(block), scales(block));
        for (i, (scales, minima)) in widened(scales).into_iter().zip(widened(minima)).enumerate() {
            let scales = lanes(vmulq_n_f32(vcvtq_f32_s32(scales), scale));
            let minima = lanes(vmulq_n_f32(vcvtq_f32_s32(minima), -minimum));
            for (j, codes) in codes(block, i).into_iter().enumerate() {
                take(256 * block_at + 64 * i + 16 * j, codes, scales[j], minima[j]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn add_products(sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    let products = vmull_s8(vget_low_s8(codes), vget_low_s8(x));
    // A product is at most 128 * 127, so two of them fit in 16 bits.
    vpadalq_s16(sums, vmlal_high_s8(products, codes, x))
}

row_loops!("neon");

/// See [`super::scalar::multiply_panel`].
#[target_feature(enable = "neon")]
pub(super) fn multiply_panel(panel: &[[f32; panel::ROWS]], x: [&[f32]; BATCH], sums: &mut Sums) {
    // Half of the panel's rows at a time, so that the sums stay in registers.
    for half in 0..2 {
        let mut totals = sums.map(|sums| part::<4>(&sums, half));
        let columns = panel.iter().zip(x[0]).zip(x[1]).zip(x[2]).zip(x[3]);
        for ((((column, a), b), c), d) in columns {
            let weights = part::<4>(column, half);
            for (totals, x) in totals.iter_mut().zip([a, b, c, d]) {
                for (total, weights) in totals.iter_mut().zip(weights) {
                    *total = vfmaq_n_f32(*total, weights, *x);
                }
            }
        }
        set_part(sums, half, totals);
    }
}

/// `COUNT` vectors of what belongs to the rows of a panel, from vector `COUNT * at` on.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn part<const COUNT: usize>(of_rows: &[f32; panel::ROWS], at: usize) -> [float32x4_t; COUNT] {
    let vectors = of_rows.as_chunks::<4>().0.as_chunks::<COUNT>().0;
    vectors[at].each_ref().map(|values| load(values))
}

/// The reverse of [`part`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn set_part<const COUNT: usize>(
    sums: &mut Sums,
    at: usize,
    totals: [[float32x4_t; COUNT]; BATCH],
) {
    for (sums, totals) in sums.iter_mut().zip(totals) {
        let vectors = sums.as_chunks_mut::<4>().0.as_chunks_mut::<COUNT>().0;
        for (sums, total) in vectors[at].iter_mut().zip(totals) {
            store(total, sums);
        }
    }
}
