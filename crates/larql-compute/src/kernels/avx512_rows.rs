//! Integer dot products of weight rows with AVX-512.
//!
//! Sums are made in the order that [`avx512_code_panel`](super::avx512_code_panel) gives, so that a product has the same
//! bits whichever of them makes it.

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::QuantisedRow;
use super::avx512::load_64;
use super::avx512_blocks::{halves, iq4_codes, mxfp4_codes, nibbles, q5_codes, q8_0_codes};
use super::avx512_code_panel::{BLOCKS_ADDED_UP, SUMS_OF_BLOCKS};
use super::code_panel::zero_point;
use super::rows::{self, ROWS};
use super::x86_blocks::*;
use crate::Format;

/// Products of consecutive weight rows with each activation of `x`, which is the sum of its planes.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn dot_rows(format: Format, rows: &[u8], x: &[&[QuantisedRow]], out: &mut [&mut [f32]]) {
    match (x.len(), x[0].len()) {
        (1, 1) => dot_planes::<1, 1>(format, rows, x, out),
        (2, 1) => dot_planes::<1, 2>(format, rows, x, out),
        (_, 1) => dot_planes::<1, 4>(format, rows, x, out),
        (1, 2) => dot_planes::<2, 1>(format, rows, x, out),
        (_, 2) => in_turn::<2, 2>(format, rows, x, out),
        (_, 3) => in_turn::<3, 1>(format, rows, x, out),
        (_, planes) => unreachable!("{planes} planes"),
    }
}

/// The same, `N` activations at a time.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn in_turn<const PLANES: usize, const N: usize>(
    format: Format,
    rows: &[u8],
    x: &[&[QuantisedRow]],
    out: &mut [&mut [f32]],
) {
    for (x, out) in x.chunks(N).zip(out.chunks_mut(N)) {
        dot_planes::<PLANES, N>(format, rows, x, out);
    }
}

/// The same for up to `N` activations. In place of missing ones the last is multiplied again.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn dot_planes<const PLANES: usize, const N: usize>(
    format: Format,
    rows: &[u8],
    x: &[&[QuantisedRow]],
    out: &mut [&mut [f32]],
) {
    let x = rows::planes_of::<PLANES, N>(x);
    let zero_point = zero_point(format);
    for_format!(format, dot_blocks, dot_super_blocks, [PLANES, N], (rows, x, out, zero_point))
}

/// Products of up to [`ROWS`] rows at a time: a vector of codes holds a block of each, a vector of products four.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn dot_blocks<B: Pod, const WIDE: bool, const PLANES: usize, const N: usize>(
    rows: &[u8],
    x: [[&QuantisedRow; PLANES]; N],
    out: &mut [&mut [f32]],
    zero_point: Option<i32>,
    codes: impl Fn([&B; ROWS]) -> [__m512i; 2],
    factors: impl Fn([&B; ROWS]) -> __m256,
    _minimum: Option<f32>,
) {
    let row_len = x[0][0].factors.len();
    let x = x.map(|planes| {
        planes.map(|x| {
            let codes: &[[[u8; 16]; 2]] = bytemuck::cast_slice(x.codes.as_chunks::<32>().0);
            (&codes[..row_len], &x.fours[..row_len.div_ceil(SUMS_OF_BLOCKS)])
        })
    });
    let zero_points = _mm512_set1_epi32(zero_point.unwrap_or(0));
    for (group, rows) in bytemuck::cast_slice(rows).chunks(ROWS * row_len).enumerate() {
        let mut ahead = Prefetch::of(rows);
        let [a, b, c, d] = rows::split::<B>(rows, row_len);
        // Lane `4 r + i` of products, factors and sums belongs to row `r` and to block `i` of four.
        let mut totals = [[_mm512_setzero_ps(); PLANES]; N];
        for start in (0..row_len).step_by(BLOCKS_ADDED_UP) {
            let end = (start + BLOCKS_ADDED_UP).min(row_len);
            let mut sums = [[_mm512_setzero_ps(); PLANES]; N];
            for first in (start..end).step_by(SUMS_OF_BLOCKS) {
                let mut by_pair = [[[_mm512_setzero_si512(); 2]; PLANES]; N];
                let mut block_factors = [_mm256_setzero_ps(); SUMS_OF_BLOCKS];
                ahead.fetch(SUMS_OF_BLOCKS * ROWS * size_of::<B>());
                // Missing blocks have factors of zero.
                for pair in 0..2 {
                    let mut products = [[[_mm512_setzero_si512(); 2]; PLANES]; N];
                    for i in 0..2 {
                        let at = first + 2 * pair + i;
                        if at >= end {
                            break;
                        }
                        let blocks = [&a[at], &b[at], &c[at], &d[at]];
                        block_factors[2 * pair + i] = factors(blocks);
                        let [low_codes, high_codes] = codes(blocks);
                        for (products, planes) in products.iter_mut().zip(&x) {
                            for (products, (x_codes, _)) in products.iter_mut().zip(planes) {
                                let [low, high] = &x_codes[at];
                                let low = _mm512_broadcast_i32x4(load_16(low));
                                let high = _mm512_broadcast_i32x4(load_16(high));
                                let sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low_codes, low);
                                products[i] = _mm512_dpbusd_epi32(sums, high_codes, high);
                            }
                        }
                    }
                    for (by_pair, products) in by_pair.iter_mut().zip(products) {
                        for (by_pair, products) in by_pair.iter_mut().zip(products) {
                            by_pair[pair] = sums_of_halves_of_quarters(products);
                        }
                    }
                }
                let [scales, minima] = scales_and_minima(block_factors);
                for ((sums, by_pair), planes) in sums.iter_mut().zip(by_pair).zip(&x) {
                    for ((sums, by_pair), (_, fours)) in sums.iter_mut().zip(by_pair).zip(planes) {
                        let four = &fours[first / SUMS_OF_BLOCKS];
                        let mut products = sums_of_quarters(by_pair);
                        if zero_point.is_some() {
                            let x_sums = _mm512_broadcast_i32x4(load_16(bytemuck::cast_ref(&four.sums)));
                            products = _mm512_sub_epi32(products, _mm512_mullo_epi32(x_sums, zero_points));
                        }
                        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(products), scales);
                        *sums = _mm512_fmadd_ps(scaled, in_quarters(&four.scales), *sums);
                        if zero_point.is_none() {
                            *sums = _mm512_fmadd_ps(minima, in_quarters(&four.scaled_sums), *sums);
                        }
                    }
                }
            }
            for (totals, sums) in totals.iter_mut().zip(sums) {
                for (total, sums) in totals.iter_mut().zip(sums) {
                    let pairs = _mm512_add_ps(sums, _mm512_permute_ps::<0b10_11_00_01>(sums));
                    let all = _mm512_add_ps(pairs, _mm512_permute_ps::<0b01_00_11_10>(pairs));
                    *total = _mm512_add_ps(*total, all);
                }
            }
        }
        for (out, totals) in out.iter_mut().zip(totals) {
            let mut total = totals[0];
            for plane in &totals[1..] {
                total = _mm512_add_ps(total, *plane);
            }
            let first_of_each = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            let total = _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_each, total));
            store_rows(total, &mut out[ROWS * group..]);
        }
    }
}

/// Writes the lowest lanes, at most [`ROWS`], as many as there is room for.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn store_rows(v: __m128, out: &mut [f32]) {
    let present = (1u32 << out.len().min(ROWS)) - 1;
    // SAFETY: no lane is stored that the slice does not have.
    unsafe { _mm_mask_storeu_ps(out.as_mut_ptr(), present as u8, v) };
}

/// Scales and minima of four blocks of each row, from vectors that hold both for one block of each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn scales_and_minima([a, b, c, d]: [__m256; SUMS_OF_BLOCKS]) -> [__m512; 2] {
    let [a, b, c, d] = [a, b, c, d].map(|v| _mm256_castps_si256(v));
    let (ab, cd) = (_mm512_castsi512_ps(joined(a, b)), _mm512_castsi512_ps(joined(c, d)));
    let scales = _mm512_setr_epi32(0, 8, 16, 24, 2, 10, 18, 26, 4, 12, 20, 28, 6, 14, 22, 30);
    let minima = _mm512_add_epi32(scales, _mm512_set1_epi32(1));
    [_mm512_permutex2var_ps(ab, scales, cd), _mm512_permutex2var_ps(ab, minima, cd)]
}

/// Four numbers in each quarter of a vector.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn in_quarters(numbers: &[f32; 4]) -> __m512 {
    _mm512_castsi512_ps(_mm512_broadcast_i32x4(load_16(bytemuck::cast_ref(numbers))))
}

/// Sums of two lanes each: those of quarter `q` of vector `i` add up to the sum of lanes `4 q + i` and `4 q + i + 2`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn sums_of_halves_of_quarters([a, b]: [__m512i; 2]) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// The sums of the quarters of four vectors, from [`sums_of_halves_of_quarters`] of two each: lane `4 q + i` is that of quarter
/// `q` of vector `i`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn sums_of_quarters([ab, cd]: [__m512i; 2]) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// Products of one row at a time: a vector of codes holds a quarter of a block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn dot_super_blocks<B: Pod, const WIDE: bool, const PLANES: usize, const N: usize>(
    rows: &[u8],
    x: [[&QuantisedRow; PLANES]; N],
    out: &mut [&mut [f32]],
    zero_point: Option<i32>,
    codes: impl Fn(&B, usize) -> __m256i,
    scales: impl Fn(&B) -> SubBlockScales,
    factors: impl Fn(&B) -> __m128,
) {
    let broadcasts = broadcasts();
    let mut ahead = Prefetch::of(&rows[..0]);
    let row_len = x[0][0].factors.len();
    let x = x.map(|planes| {
        planes.map(|x| {
            let codes: &[[[u8; 64]; 4]] = bytemuck::cast_slice(x.codes.as_chunks::<256>().0);
            (&codes[..row_len], &x.factors[..row_len], &x.sums.as_chunks::<16>().0[..row_len])
        })
    });
    for (r, row) in bytemuck::cast_slice::<_, B>(rows).chunks_exact(row_len).enumerate() {
        // A lane for each plane of each activation, at most four.
        let mut totals = _mm_setzero_ps();
        for (at, block) in row.iter().enumerate() {
            ahead.fetch(size_of::<B>());
            let SubBlockScales { scales, minima } = scales(block);
            let scales = _mm512_broadcast_i64x4(scales);
            let mut products = [[_mm512_setzero_si512(); PLANES]; N];
            for i in 0..4 {
                let codes = joined(codes(block, 2 * i), codes(block, 2 * i + 1));
                let pair: &[u8; 64] = bytemuck::cast_ref(&broadcasts.as_chunks::<2>().0[i]);
                let scales = _mm512_shuffle_epi8(scales, load_64(pair));
                for (products, planes) in products.iter_mut().zip(&x) {
                    for (products, (x_codes, ..)) in products.iter_mut().zip(planes) {
                        let x_codes = load_64(&x_codes[at][i]);
                        *products = if WIDE {
                            let four = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, x_codes);
                            let scales = _mm512_srai_epi32::<16>(scales);
                            _mm512_add_epi32(*products, _mm512_mullo_epi32(four, scales))
                        } else {
                            _mm512_dpwssd_epi32(*products, _mm512_maddubs_epi16(codes, x_codes), scales)
                        };
                    }
                }
            }
            let (mut all, mut all_minima) = ([_mm256_setzero_si256(); 4], [_mm256_setzero_si256(); 4]);
            let mut x_scales = [0.0; 4];
            for n in 0..N {
                for plane in 0..PLANES {
                    let (_, x_factors, x_sums) = &x[n][plane];
                    let (products, lane) = (products[n][plane], n * PLANES + plane);
                    let upper = _mm512_extracti64x4_epi64::<1>(products);
                    let products = _mm256_add_epi32(_mm512_castsi512_si256(products), upper);
                    let minima = _mm256_madd_epi16(minima, load_32(bytemuck::cast_ref(&x_sums[at])));
                    x_scales[lane] = x_factors[at][0];
                    match zero_point {
                        Some(_) => all[lane] = _mm256_sub_epi32(products, minima),
                        None => (all[lane], all_minima[lane]) = (products, minima),
                    }
                }
            }
            let factors = factors(block);
            let (sums, sums_of_minima) = if N * PLANES == 1 {
                let both = _mm_cvtepi32_ps(sums_of_lanes_of_two([all[0], all_minima[0]]));
                (both, _mm_movehdup_ps(both))
            } else {
                let sums = |all| _mm_cvtepi32_ps(sums_of_lanes_of_four(all));
                (sums(all), sums(all_minima))
            };
            let mut scaled = _mm_mul_ps(sums, _mm_broadcastss_ps(factors));
            if zero_point.is_none() {
                scaled = _mm_fnmadd_ps(sums_of_minima, _mm_broadcastss_ps(_mm_movehdup_ps(factors)), scaled);
            }
            let [a, b, c, d] = x_scales;
            totals = _mm_fmadd_ps(scaled, _mm_setr_ps(a, b, c, d), totals);
        }
        let [totals, _]: [[f32; 4]; 2] = bytemuck::cast(lanes(_mm256_castps128_ps256(totals)));
        for (out, planes) in out.iter_mut().zip(totals.chunks_exact(PLANES)) {
            out[r] = planes[1..].iter().fold(planes[0], |sum, plane| sum + plane);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn joined(first: __m256i, last: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), last)
}

/// The sum of the lanes of each vector, the first's in even lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn sums_of_lanes_of_two([a, b]: [__m256i; 2]) -> __m128i {
    let both = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let both = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
    _mm_add_epi32(both, _mm_shuffle_epi32::<0b01_00_11_10>(both))
}

/// The sum of the lanes of each vector.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn sums_of_lanes_of_four([a, b, c, d]: [__m256i; 4]) -> __m128i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    let all = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all))
}
