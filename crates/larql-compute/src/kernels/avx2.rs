//! x86-64 with AVX2, FMA and F16C.

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::quantised::{Quantised, QuantisedRow};
use super::unpacked::Unpacked;
use super::x86_blocks::*;
use super::x86_rows::{ROWS, columns, row_loops};
use crate::Format;

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(values: &[f32; 8]) -> __m256 {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum(v: __m256) -> f32 {
    let halves = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// See [`super::scalar::dot`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let (a_groups, a_rest) = a.as_chunks::<32>();
    let (b_groups, b_rest) = b.as_chunks::<32>();
    for (a, b) in a_groups.iter().zip(b_groups) {
        for ((a, b), sum) in a.as_chunks().0.iter().zip(b.as_chunks().0).zip(&mut sums) {
            *sum = _mm256_fmadd_ps(load(a), load(b), *sum);
        }
    }
    let total = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    sum(total) + super::scalar::dot(a_rest, b_rest)
}

/// See [`Quantised::fill`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantise(values: &[f32], out: &mut Quantised) {
    out.fill(values);
}

/// Zero, because [`dot_bytes`] takes off what makes WIDE codes unsigned.
const WIDE_MINIMUM: f32 = 0.0;

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_bytes<const WIDE: bool>(codes: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let [low, high] = [pairs::<WIDE>(codes[0], x[0]), pairs::<WIDE>(codes[1], x[1])];
    if WIDE {
        _mm256_add_epi32(_mm256_madd_epi16(low, ones), _mm256_madd_epi16(high, ones))
    } else {
        // Codes of blocks of 32 have at most 5 bits: the sums of four products fit in 16.
        _mm256_madd_epi16(_mm256_add_epi16(low, high), ones)
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_scaled(sums: __m256i, pairs: __m256i, scales: __m256i) -> __m256i {
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, scales))
}

row_loops!("avx2,fma,f16c");

/// Writes consecutive blocks as codes, scales and minima.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn unpack(format: Format, blocks: &[u8], out: &mut Unpacked<'_>) {
    for_format!(format, unpack_blocks, unpack_super_blocks, (blocks, out))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_blocks<B: Pod, const WIDE: bool>(
    blocks: &[u8],
    out: &mut Unpacked<'_>,
    codes: impl Fn([&B; 2]) -> [__m256i; 2],
    factors: impl Fn([&B; ROWS]) -> __m256,
    minimum: Option<f32>,
) {
    let blocks: &[B] = bytemuck::cast_slice(blocks);
    let out_factors = out.scales.iter_mut().zip(out.minima.iter_mut());
    for ((block, out), (out_scale, out_minimum)) in
        blocks.iter().zip(out.codes.as_chunks_mut().0).zip(out_factors)
    {
        let [low, high] = codes([block; 2]);
        store_32(_mm256_blend_epi32(low, high, 0xf0), out);
        let [scale, next, ..] = lanes(_mm256_castps256_ps128(factors([block; ROWS])));
        (*out_scale, *out_minimum) = (scale, minimum.map_or(next, |minimum| minimum * scale));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_super_blocks<B: Pod, const WIDE: bool>(
    blocks: &[u8],
    out: &mut Unpacked<'_>,
    codes: impl Fn(&B, usize) -> __m256i,
    scales: impl Fn(&B) -> SubBlockScales,
    factors: impl Fn(&B) -> __m128,
) {
    let blocks: &[B] = bytemuck::cast_slice(blocks);
    let group_len = out.codes.len() / out.scales.len();
    let groups = 256 / group_len;
    let out_groups = out.scales.chunks_exact_mut(groups).zip(out.minima.chunks_exact_mut(groups));
    let out_codes = out.codes.as_chunks_mut::<256>().0;
    for ((block, out_codes), (out_scales, out_minima)) in blocks.iter().zip(out_codes).zip(out_groups) {
        for (i, out) in out_codes.as_chunks_mut().0.iter_mut().enumerate() {
            store_32(codes(block, i), out);
        }
        let SubBlockScales { scales, minima } = scales(block);
        let (scales, minima) = (words(scales), words(minima));
        let [scale, minimum, ..] = lanes(factors(block));
        for (group, (out_scale, out_minimum)) in out_scales.iter_mut().zip(out_minima).enumerate() {
            let sub_block = group * group_len / 16;
            let i = sub_block / 2 + sub_block % 2 * 8;
            *out_scale = scale * f32::from(scales[i]);
            *out_minimum = -minimum * f32::from(minima[i]);
        }
    }
}

/// See [`Unpacked::expand`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn expand(unpacked: &Unpacked<'_>, out: &mut [f32]) {
    unpacked.expand(out);
}
