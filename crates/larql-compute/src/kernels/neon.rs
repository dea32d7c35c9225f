//! AArch64 with NEON, which all of its processors have.

use std::arch::aarch64::*;

use bytemuck::Pod;

use super::attention_tile::{
    self, AttentionTile, Columns, KeyPanel, PanelProducts, QUERIES, Query, Scores, VALUES_AT_ONCE, ValueSums,
};
use super::neon_blocks::*;
use super::neon_rows::*;
use super::panel::{self, BATCH, Sums};
use super::rows::{self, ROWS};
use super::{QuantisedRow, has_kernels};
use crate::Format;

/// Adds the products of 16 numbers, each fourth to another sum.
#[inline]
#[target_feature(enable = "neon")]
fn add_to(sums: &mut [float32x4_t; 4], a: [float32x4_t; 4], b: [float32x4_t; 4]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum = vfmaq_f32(*sum, a, b);
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn total([a, b, c, d]: [float32x4_t; 4]) -> f32 {
    vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)))
}

/// See [`super::scalar::dot`].
#[target_feature(enable = "neon")]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [[vdupq_n_f32(0.0); 4]; 2];
    let (a_groups, a_rest) = a.as_chunks::<32>();
    let (b_groups, b_rest) = b.as_chunks::<32>();
    for (a, b) in a_groups.iter().zip(b_groups) {
        for ((a, b), sums) in a.as_chunks().0.iter().zip(b.as_chunks().0).zip(&mut sums) {
            add_to(sums, load_4(a), load_4(b));
        }
    }
    total(sums[0]) + total(sums[1]) + super::scalar::dot(a_rest, b_rest)
}

/// See [`super::Isa::attend`].
#[target_feature(enable = "neon")]
pub(super) fn attend(tile: &AttentionTile<'_>, queries: &mut [Query<'_>], scores: &mut Scores) {
    attention_tile::attend(
        tile,
        queries,
        scores,
        |panels, queries| panels.map(|keys| multiply_keys(keys, queries)),
        |columns, weights| sum_values(columns, weights),
    );
}

#[inline]
#[target_feature(enable = "neon")]
fn multiply_keys(keys: &KeyPanel, [a, b, c, d]: [&[f32]; QUERIES]) -> PanelProducts {
    let mut sums = [[vdupq_n_f32(0.0); 4]; QUERIES];
    for ((((keys, a), b), c), d) in keys.iter().zip(a).zip(b).zip(c).zip(d) {
        for (sums, query) in sums.iter_mut().zip([a, b, c, d]) {
            for (sum, keys) in sums.iter_mut().zip(keys.as_chunks::<4>().0) {
                *sum = vfmaq_n_f32(*sum, load(keys), *query);
            }
        }
    }
    let mut products = PanelProducts::default();
    for (products, sums) in products.iter_mut().zip(&sums) {
        products.as_chunks_mut::<4>().0.iter_mut().zip(sums).for_each(|(out, sum)| store(*sum, out));
    }
    products
}

#[inline]
#[target_feature(enable = "neon")]
fn sum_values(columns: Columns<'_>, [a, b, c, d]: [&[f32]; QUERIES]) -> ValueSums {
    let mut sums = [[vdupq_n_f32(0.0); VALUES_AT_ONCE / 4]; QUERIES];
    for ((((values, a), b), c), d) in columns.zip(a).zip(b).zip(c).zip(d) {
        for (sums, weight) in sums.iter_mut().zip([a, b, c, d]) {
            for (sum, values) in sums.iter_mut().zip(values.as_chunks::<4>().0) {
                *sum = vfmaq_n_f32(*sum, load(values), *weight);
            }
        }
    }
    let mut out = [[0.0; VALUES_AT_ONCE]; QUERIES];
    for (out, sums) in out.iter_mut().zip(&sums) {
        out.as_chunks_mut::<4>().0.iter_mut().zip(sums).for_each(|(out, sum)| store(*sum, out));
    }
    out
}

/// Writes the values of consecutive blocks.
#[target_feature(enable = "neon")]
pub(super) fn decode(format: Format, blocks: &[u8], out: &mut [f32]) {
    if !has_kernels(format) {
        return format.decode(blocks, out);
    }
    let (out, out_rest) = out.as_chunks_mut();
    let rest = each_of_16(format, blocks, |i, values| store_4(values, &mut out[i]));
    format.decode(rest, out_rest);
}

/// Product of a weight row with `x`.
#[target_feature(enable = "neon")]
pub(super) fn dot_decoded(format: Format, row: &[u8], x: &[f32]) -> f32 {
    if !has_kernels(format) {
        return super::scalar::dot_decoded(format, row, x);
    }
    let mut sums = [vdupq_n_f32(0.0); 4];
    let (x, x_rest) = x.as_chunks();
    let rest = each_of_16(format, row, |i, values| add_to(&mut sums, values, load_4(&x[i])));
    let total = total(sums);
    if x_rest.is_empty() { total } else { total + super::scalar::dot_decoded(format, rest, x_rest) }
}

/// Calls `take` with 16 values at a time and how many it had before, in sixteens. Returns the bytes of the last few.
#[inline]
#[target_feature(enable = "neon")]
fn each_of_16(format: Format, bytes: &[u8], mut take: impl FnMut(usize, [float32x4_t; 4])) -> &[u8] {
    let line = |i: usize, codes: int8x16_t, scale: f32, minimum: f32| {
        let (minimum, [a, b, c, d]) = (vdupq_n_f32(minimum), widened(codes));
        // The product is exact in f32, so that a value is what the codec gives.
        let value = |codes| vfmaq_n_f32(minimum, vcvtq_f32_s32(codes), scale);
        take(i, [value(a), value(b), value(c), value(d)]);
    };
    match format {
        Format::F32 => each_of_floats(bytes, take, |bytes: &[u8; 16]| load(&bytemuck::cast(*bytes))),
        Format::F16 => each_of_floats(bytes, take, |bytes: &[u8; 8]| halves(bytemuck::cast(*bytes))),
        Format::BF16 => each_of_floats(bytes, take, |bytes: &[u8; 8]| {
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vcreate_u16(u64::from_le_bytes(*bytes))))
        }),
        _ => {
            for_format!(format, each_of_blocks, each_of_super_blocks, (bytes, line));
            &[]
        }
    }
}

/// See [`each_of_16`]. `BYTES` is the size of 4 values.
#[inline]
#[target_feature(enable = "neon")]
fn each_of_floats<const BYTES: usize>(
    bytes: &[u8],
    mut take: impl FnMut(usize, [float32x4_t; 4]),
    widen: impl Fn(&[u8; BYTES]) -> float32x4_t,
) -> &[u8] {
    let (fours, _) = bytes.as_chunks::<BYTES>();
    let (sixteens, _) = fours.as_chunks::<4>();
    for (i, [a, b, c, d]) in sixteens.iter().enumerate() {
        take(i, [widen(a), widen(b), widen(c), widen(d)]);
    }
    &bytes[sixteens.as_flattened().as_flattened().len()..]
}

/// Calls `take` with 16 codes at a time, how many it had before in sixteens, and their scale and minimum.
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
        for (j, codes) in codes(block).into_iter().enumerate() {
            take(2 * i + j, codes, vgetq_lane_f32::<0>(scales), vgetq_lane_f32::<0>(minima));
        }
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
                take(16 * block_at + 4 * i + j, codes, scales[j], minima[j]);
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
        let mut totals = load_sums::<4>(sums, half);
        let columns = panel.iter().zip(x[0]).zip(x[1]).zip(x[2]).zip(x[3]);
        for ((((column, a), b), c), d) in columns {
            let weights = load_rows::<4>(column, half);
            for (totals, x) in totals.iter_mut().zip([a, b, c, d]) {
                for (total, weights) in totals.iter_mut().zip(weights) {
                    *total = vfmaq_n_f32(*total, weights, *x);
                }
            }
        }
        store_sums(totals, sums, half);
    }
}

/// `COUNT` vectors of what belongs to the rows of a panel, beginning with vector `COUNT * at`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_rows<const COUNT: usize>(values: &[f32; panel::ROWS], at: usize) -> [float32x4_t; COUNT] {
    let mut vectors = [vdupq_n_f32(0.0); COUNT];
    for (vector, values) in vectors.iter_mut().zip(&values.as_chunks().0[COUNT * at..]) {
        *vector = load(values);
    }
    vectors
}

/// See [`load_rows`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_sums<const COUNT: usize>(sums: &Sums, at: usize) -> [[float32x4_t; COUNT]; BATCH] {
    let mut totals = [[vdupq_n_f32(0.0); COUNT]; BATCH];
    for (totals, sums) in totals.iter_mut().zip(sums) {
        *totals = load_rows(sums, at);
    }
    totals
}

/// The reverse of [`load_sums`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_sums<const COUNT: usize>(
    totals: [[float32x4_t; COUNT]; BATCH],
    sums: &mut Sums,
    at: usize,
) {
    for (totals, sums) in totals.iter().zip(sums) {
        for (total, sum) in totals.iter().zip(&mut sums.as_chunks_mut().0[COUNT * at..]) {
            store(*total, sum);
        }
    }
}
