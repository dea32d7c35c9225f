//! Integer dot products of weight rows with AVX2.

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::QuantisedRow;
use super::avx2::sum;
use super::rows::{self, ROWS};
use super::x86_blocks::*;
use crate::Format;

/// Products of consecutive weight rows with each activation of `x`, which is the sum of its planes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_rows(format: Format, rows: &[u8], x: &[&[QuantisedRow]], out: &mut [&mut [f32]]) {
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
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_planes<const PLANES: usize, const N: usize>(
    format: Format,
    rows: &[u8],
    x: &[&[QuantisedRow]],
    out: &mut [&mut [f32]],
) {
    let x = rows::planes_of::<PLANES, N>(x);
    for_format!(format, dot_blocks, dot_super_blocks, [PLANES, N], (rows, x, out))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
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
                        *products = add_scaled(*products, pairs::<WIDE>(codes, load_32(&x_codes[i])), scales);
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

/// Activations that are multiplied with weights as soon as these are unpacked: more of them would not leave their sums in
/// registers.
pub(super) const ACTIVATIONS: usize = 2;

/// Products of up to [`ROWS`] rows at a time: a vector holds the block of two of them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_blocks<B: Pod, const WIDE: bool, const PLANES: usize, const N: usize>(
    rows: &[u8],
    x: [[&QuantisedRow; PLANES]; N],
    out: &mut [&mut [f32]],
    codes: impl Fn([&B; 2]) -> [__m256i; 2],
    factors: impl Fn([&B; ROWS]) -> __m256,
    minimum: Option<f32>,
) {
    // Of WIDE codes `dot_bytes` takes off itself what makes them unsigned.
    let minimum = if WIDE { Some(0.0) } else { minimum };
    let row_len = x[0][0].factors.len();
    let x: [[Blocks<'_>; PLANES]; N] =
        x.map(|planes| planes.map(|x| (&x.codes.as_chunks::<32>().0[..row_len], &x.factors[..row_len])));
    for (group, rows) in bytemuck::cast_slice(rows).chunks(ROWS * row_len).enumerate() {
        // Of rows 0 and 2, and of rows 1 and 3.
        let mut sums = [[_mm256_setzero_ps(); 2]; N];
        let mut minima = [_mm256_setzero_ps(); N];
        let mut ahead = Prefetch::of(rows);
        let [a, b, c, d] = rows::split::<B>(rows, row_len);
        for i in 0..row_len {
            ahead.fetch(ROWS * size_of::<B>());
            let [a, b, c, d] = [&a[i], &b[i], &c[i], &d[i]];
            let block_factors = factors([a, b, c, d]);
            let block_codes = [codes([a, c]), codes([b, d])];
            for ((sums, minima), planes) in sums.iter_mut().zip(&mut minima).zip(&x) {
                for (x_codes, x_factors) in planes {
                    let [scale, scaled_sum] = x_factors[i];
                    let factors = _mm256_mul_ps(block_factors, _mm256_set1_ps(scale));
                    *minima = _mm256_fmadd_ps(block_factors, _mm256_set1_ps(scaled_sum), *minima);
                    let x_codes = load_halves_twice(bytemuck::cast_ref(&x_codes[i]));
                    let products = _mm256_cvtepi32_ps(dot_bytes::<WIDE>(block_codes[0], x_codes));
                    sums[0] = _mm256_fmadd_ps(products, _mm256_permute_ps(factors, 0b00_00_00_00), sums[0]);
                    let products = _mm256_cvtepi32_ps(dot_bytes::<WIDE>(block_codes[1], x_codes));
                    sums[1] = _mm256_fmadd_ps(products, _mm256_permute_ps(factors, 0b10_10_10_10), sums[1]);
                }
            }
        }
        for ((out, sums), minima) in out.iter_mut().zip(sums).zip(minima) {
            let minima = match minimum {
                Some(scales) => _mm_mul_ps(even_lanes(minima), _mm_set1_ps(scales)),
                None => even_lanes(_mm256_movehdup_ps(minima)),
            };
            let sums = _mm_add_ps(sums_of_halves(sums), minima);
            store_first(sums, &mut out[ROWS * group..]);
        }
    }
}

/// Sums of products of unsigned and signed bytes in 32-bit lanes of 4 bytes each.
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
