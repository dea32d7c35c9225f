//! Products of groups of activation rows with AVX2: weights become floats in registers, and each is multiplied with all
//! rows of a group there.

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::avx2::{load, scaled, widen_bf16, widen_f16, widen_f32};
use super::group::Group;
use super::x86_blocks::*;
use crate::Format;

/// Values of activations that are multiplied with all weight rows before the next: with the weights that come and go, they
/// stay in the first-level cache.
const VALUES_AT_ONCE: usize = 5 << 10;

/// Products of consecutive weight rows with the rows of a group: `out` is `[group.rows, weight rows]`.
///
/// Of every 32 columns of weights in blocks, vector `k` has columns `4 lane + k`: see [`values`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply_group(format: Format, weights: &[u8], group: &Group, out: &mut [f32]) {
    if format.is_float() {
        return match group.rows {
            1 => multiply_floats::<4, 1>(format, weights, group.vectors(), out),
            2 => multiply_floats::<4, 2>(format, weights, group.vectors(), out),
            3 => multiply_floats::<2, 3>(format, weights, group.vectors(), out),
            4 => multiply_floats::<2, 4>(format, weights, group.vectors(), out),
            5 => multiply_floats::<2, 5>(format, weights, group.vectors(), out),
            6 => multiply_floats::<2, 6>(format, weights, group.vectors(), out),
            rows => unreachable!("{rows} rows in a group"),
        };
    }
    // From five sums on a second weight row leaves no registers to unpack in.
    match group.rows {
        1 => multiply_codes::<2, 1>(format, weights, group.vectors(), out),
        2 => multiply_codes::<2, 2>(format, weights, group.vectors(), out),
        3 => multiply_codes::<2, 3>(format, weights, group.vectors(), out),
        4 => multiply_codes::<2, 4>(format, weights, group.vectors(), out),
        5 => multiply_codes::<1, 5>(format, weights, group.vectors(), out),
        6 => multiply_codes::<1, 6>(format, weights, group.vectors(), out),
        7 => multiply_codes::<1, 7>(format, weights, group.vectors(), out),
        8 => multiply_codes::<1, 8>(format, weights, group.vectors(), out),
        rows => unreachable!("{rows} rows in a group"),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_floats<const ROWS: usize, const N: usize>(
    format: Format,
    weights: &[u8],
    x: &[[f32; 8]],
    out: &mut [f32],
) {
    match format {
        Format::F32 => multiply_vectors::<[u8; 32], ROWS, N>(weights, x, out, |b| widen_f32(b)),
        Format::F16 => multiply_vectors::<[u8; 16], ROWS, N>(weights, x, out, |b| widen_f16(b)),
        Format::BF16 => multiply_vectors::<[u8; 16], ROWS, N>(weights, x, out, |b| widen_bf16(b)),
        other => unreachable!("{other} is no float format"),
    }
}

/// Unpacks floats: `widen` makes a vector of a `B`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_vectors<B: Pod, const ROWS: usize, const N: usize>(
    weights: &[u8],
    x: &[[f32; 8]],
    out: &mut [f32],
    widen: impl Fn(&B) -> __m256,
) {
    multiply_tiles::<B, ROWS, N>(weights, 8, x, out, |mut rows, x, ahead| {
        let mut sums = [[_mm256_setzero_ps(); ROWS]; N];
        rows.iter_mut().for_each(|row| *row = &row[..x.len()]);
        for (i, x) in x.iter().enumerate() {
            if size_of::<B>() < 32 {
                ahead.fetch(ROWS * size_of::<B>());
            }
            let mut weights = [_mm256_setzero_ps(); ROWS];
            for (weights, row) in weights.iter_mut().zip(&rows) {
                *weights = widen(&row[i]);
            }
            add_products(weights, x, &mut sums);
        }
        sums
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_codes<const ROWS: usize, const N: usize>(
    format: Format,
    weights: &[u8],
    x: &[[f32; 8]],
    out: &mut [f32],
) {
    for_format!(format, multiply_blocks, multiply_super_blocks, [ROWS, N], (weights, x, out))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_blocks<B: Pod, const WIDE: bool, const ROWS: usize, const N: usize>(
    weights: &[u8],
    x: &[[f32; 8]],
    out: &mut [f32],
    codes: impl Fn([&B; 2]) -> [__m256i; 2],
    factors: impl Fn([&B; 4]) -> __m256,
    minimum: Option<f32>,
) {
    multiply_tiles::<B, ROWS, N>(weights, 32, x, out, |mut rows, x, ahead| {
        let mut sums = [[_mm256_setzero_ps(); ROWS]; N];
        let x = x.as_chunks::<4>().0;
        rows.iter_mut().for_each(|row| *row = &row[..x.len()]);
        for (i, x) in x.iter().enumerate() {
            ahead.fetch(ROWS * size_of::<B>());
            let mut blocks = [Codes::none(); ROWS];
            for (block, row) in blocks.iter_mut().zip(&rows) {
                let [low, high] = codes([&row[i]; 2]);
                let factors = factors([&row[i]; 4]);
                let scales = _mm256_moveldup_ps(factors);
                let minima = match minimum {
                    Some(minimum) => _mm256_mul_ps(scales, _mm256_set1_ps(minimum)),
                    None => _mm256_movehdup_ps(factors),
                };
                *block = Codes { codes: _mm256_blend_epi32(low, high, 0xf0), scales, minima };
            }
            add_blocks(blocks, x, &mut sums);
        }
        sums
    });
}

/// See [`multiply_blocks`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_super_blocks<B: Pod, const WIDE: bool, const ROWS: usize, const N: usize>(
    weights: &[u8],
    x: &[[f32; 8]],
    out: &mut [f32],
    codes: impl Fn(&B, usize) -> __m256i,
    scales: impl Fn(&B) -> SubBlockScales,
    factors: impl Fn(&B) -> __m128,
) {
    multiply_tiles::<B, ROWS, N>(weights, 256, x, out, |rows, x, ahead| {
        let mut sums = [[_mm256_setzero_ps(); ROWS]; N];
        let mut all_scales = [([[0.0; 8]; 2], [[0.0; 8]; 2]); ROWS];
        for (part, x) in x.as_chunks::<4>().0.iter().enumerate() {
            let (at, i) = (part / 8, part % 8);
            if i == 0 {
                ahead.fetch(ROWS * size_of::<B>());
                for (all_scales, row) in all_scales.iter_mut().zip(&rows) {
                    let SubBlockScales { scales, minima } = scales(&row[at]);
                    let factors = factors(&row[at]);
                    let minus = _mm_xor_ps(_mm_movehdup_ps(factors), _mm_set1_ps(-0.0));
                    *all_scales = (
                        scaled(scales, _mm256_broadcastss_ps(factors)),
                        scaled(minima, _mm256_broadcastss_ps(minus)),
                    );
                }
            }
            let mut blocks = [Codes::none(); ROWS];
            for ((block, row), (scales, minima)) in blocks.iter_mut().zip(&rows).zip(&all_scales) {
                let codes = codes(&row[at], i);
                *block = Codes { codes, scales: of_halves(scales, i), minima: of_halves(minima, i) };
            }
            add_blocks(blocks, x, &mut sums);
        }
        sums
    });
}

/// Value `i` of the first for the lanes of the lower half, and of the last for the others.
#[inline]
#[target_feature(enable = "avx2")]
fn of_halves(values: &[[f32; 8]; 2], i: usize) -> __m256 {
    _mm256_blend_ps(_mm256_set1_ps(values[0][i]), _mm256_set1_ps(values[1][i]), 0xf0)
}

/// 32 weights: unsigned bytes in the order of columns, and what goes with each half of them.
#[derive(Clone, Copy)]
struct Codes {
    codes: __m256i,
    scales: __m256,
    minima: __m256,
}

impl Codes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn none() -> Codes {
        Codes { codes: _mm256_setzero_si256(), scales: _mm256_setzero_ps(), minima: _mm256_setzero_ps() }
    }
}

/// Adds the products of 32 columns.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_blocks<const ROWS: usize, const N: usize>(
    blocks: [Codes; ROWS],
    x: &[[[f32; 8]; N]; 4],
    sums: &mut [[__m256; ROWS]; N],
) {
    // Written out, since in a loop the vectors would go through memory.
    add_products(values::<0, ROWS>(blocks), &x[0], sums);
    add_products(values::<1, ROWS>(blocks), &x[1], sums);
    add_products(values::<2, ROWS>(blocks), &x[2], sums);
    add_products(values::<3, ROWS>(blocks), &x[3], sums);
}

/// `scale * code + minimum` of byte `K` of every four: to take one byte out of a lane is cheaper than
/// to spread bytes over lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn values<const K: usize, const ROWS: usize>(blocks: [Codes; ROWS]) -> [__m256; ROWS] {
    let mut values = [_mm256_setzero_ps(); ROWS];
    for (values, Codes { codes, scales, minima }) in values.iter_mut().zip(blocks) {
        let byte = _mm256_set1_epi32(255);
        let codes = match K {
            0 => _mm256_and_si256(codes, byte),
            1 => _mm256_and_si256(_mm256_srli_epi32(codes, 8), byte),
            2 => _mm256_and_si256(_mm256_srli_epi32(codes, 16), byte),
            _ => _mm256_srli_epi32(codes, 24),
        };
        *values = _mm256_fmadd_ps(_mm256_cvtepi32_ps(codes), scales, minima);
    }
    values
}

/// Adds the products of 8 columns of the weights' rows with `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_products<const ROWS: usize, const N: usize>(
    weights: [__m256; ROWS],
    x: &[[f32; 8]; N],
    sums: &mut [[__m256; ROWS]; N],
) {
    for (sums, x) in sums.iter_mut().zip(x) {
        let x = load(x);
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum = _mm256_fmadd_ps(weights, x, *sum);
        }
    }
}

/// Products of `ROWS` weight rows at a time with as many columns as the first-level cache holds of the activations. A `B`
/// has `block_len` weights; `multiply` returns sums of 8 lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_tiles<B: Pod, const ROWS: usize, const N: usize>(
    weights: &[u8],
    block_len: usize,
    x: &[[f32; 8]],
    out: &mut [f32],
    multiply: impl Fn([&[B]; ROWS], &[[[f32; 8]; N]], &mut Prefetch) -> [[__m256; ROWS]; N],
) {
    let x = x.as_chunks::<N>().0;
    let (row_len, count) = (x.len() * 8 / block_len, out.len() / N);
    let weights: &[B] = bytemuck::cast_slice(weights);
    let mut ahead = Prefetch::of(weights);
    out.fill(0.0);
    // As many blocks in each tile.
    let tiles = (8 * N * x.len()).div_ceil(VALUES_AT_ONCE);
    let tile_len = row_len.div_ceil(tiles);
    for (tile, x) in x.chunks(tile_len * block_len / 8).enumerate() {
        let blocks = tile * tile_len..row_len.min((tile + 1) * tile_len);
        for (group, weights) in weights.chunks(ROWS * row_len).enumerate() {
            // Where rows are missing the last one is there again.
            let last = weights.len() / row_len - 1;
            let mut rows = [weights; ROWS];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = &weights[r.min(last) * row_len..][blocks.clone()];
            }
            let sums = multiply(rows, x, &mut ahead);
            let mut totals = [[0.0; ROWS]; N];
            for (sums, totals) in sums.as_flattened().chunks(4).zip(totals.as_flattened_mut().chunks_mut(4)) {
                let mut four = [_mm256_setzero_ps(); 4];
                four[..sums.len()].copy_from_slice(sums);
                store_first(sums_of_lanes(four), totals);
            }
            let rows = ROWS * group..count.min(ROWS * (group + 1));
            for (n, totals) in totals.iter().enumerate() {
                let out = out[n * count..][rows.clone()].iter_mut();
                out.zip(totals).for_each(|(out, total)| *out += total);
            }
        }
    }
}

/// The sum of the lanes of each vector.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_lanes([a, b, c, d]: [__m256; 4]) -> __m128 {
    let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1))
}
