//! x86-64 with AVX2, FMA and F16C.

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::QuantisedRow;
use super::attention_tile::{
    self, AttentionTile, Columns, KEYS_SIDE_BY_SIDE, KeyPanel, PanelProducts, QUERIES, Query, Scores,
    VALUES_AT_ONCE, ValueSums,
};
use super::key_panel::{self, KeyGroup};
use super::panel::{self, BATCH, Sums};
use super::rows::ROWS;
use super::x86_blocks::*;
use crate::Format;

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn load(values: &[f32; 8]) -> __m256 {
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

/// See [`super::Isa::decode_keys`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn decode_keys(groups: &[KeyGroup], out: &mut [[f32; KEYS_SIDE_BY_SIDE]]) {
    key_panel::decode(groups, out);
}

/// See [`super::Isa::attend`].
#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_keys(keys: &KeyPanel, [a, b, c, d]: [&[f32]; QUERIES]) -> PanelProducts {
    let mut sums = [[_mm256_setzero_ps(); 2]; QUERIES];
    for ((((keys, a), b), c), d) in keys.iter().zip(a).zip(b).zip(c).zip(d) {
        let keys = keys.as_chunks::<8>().0;
        let keys = [load(&keys[0]), load(&keys[1])];
        for (sums, query) in sums.iter_mut().zip([a, b, c, d]) {
            let query = _mm256_set1_ps(*query);
            sums[0] = _mm256_fmadd_ps(query, keys[0], sums[0]);
            sums[1] = _mm256_fmadd_ps(query, keys[1], sums[1]);
        }
    }
    sums.map(|[first, last]| bytemuck::cast([lanes(first), lanes(last)]))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_values(columns: Columns<'_>, [a, b, c, d]: [&[f32]; QUERIES]) -> ValueSums {
    let mut sums = [[_mm256_setzero_ps(); VALUES_AT_ONCE / 8]; QUERIES];
    for ((((values, a), b), c), d) in columns.zip(a).zip(b).zip(c).zip(d) {
        let values = values.as_chunks::<8>().0;
        for (sums, weight) in sums.iter_mut().zip([a, b, c, d]) {
            let weight = _mm256_set1_ps(*weight);
            for (sum, values) in sums.iter_mut().zip(values) {
                *sum = _mm256_fmadd_ps(weight, load(values), *sum);
            }
        }
    }
    sums.map(|[a, b, c, d]| bytemuck::cast([lanes(a), lanes(b), lanes(c), lanes(d)]))
}

/// See [`QuantisedRow::planes`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantise(values: &[f32], block_len: usize, planes: usize) -> Vec<QuantisedRow> {
    QuantisedRow::planes(values, block_len, planes)
}

/// Writes the values of consecutive blocks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn decode(format: Format, blocks: &[u8], out: &mut [f32]) {
    let mut store = |at: usize, values: __m256| {
        let out: &mut [f32; 8] = &mut out.as_chunks_mut().0[at / 8];
        // SAFETY: the array is as long as the vector; the store needs no alignment.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) }
    };
    let rest = match format {
        Format::F32 => each_of_floats(blocks, &mut store, |bytes| widen_f32(bytes)),
        Format::F16 => each_of_floats(blocks, &mut store, |bytes| widen_f16(bytes)),
        Format::BF16 => each_of_floats(blocks, &mut store, |bytes| widen_bf16(bytes)),
        Format::Q8_K | Format::AFFINE8 => return format.decode(blocks, out),
        _ => {
            let take = |i: usize, codes, scale, minimum| {
                each_of_16(codes, scale, minimum, |at, values| store(16 * i + at, values));
            };
            for_format!(format, each_of_blocks, each_of_super_blocks, [], (blocks, take));
            &[]
        }
    };
    format.decode(rest, out.as_chunks_mut::<8>().1);
}

/// Product of a weight row with `x`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_decoded(format: Format, row: &[u8], x: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let (x, x_rest) = x.as_chunks::<8>();
    let mut add = |at: usize, values: __m256| {
        sums[at / 8 % 4] = _mm256_fmadd_ps(values, load(&x[at / 8]), sums[at / 8 % 4]);
    };
    let rest = match format {
        Format::F32 => each_of_floats(row, &mut add, |bytes| widen_f32(bytes)),
        Format::F16 => each_of_floats(row, &mut add, |bytes| widen_f16(bytes)),
        Format::BF16 => each_of_floats(row, &mut add, |bytes| widen_bf16(bytes)),
        Format::Q8_K | Format::AFFINE8 => {
            return super::scalar::dot_decoded(format, row, x.as_flattened());
        }
        _ => {
            let take = |i: usize, codes, scale, minimum| {
                each_of_16(codes, scale, minimum, |at, values| add(16 * i + at, values));
            };
            for_format!(format, each_of_blocks, each_of_super_blocks, [], (row, take));
            &[]
        }
    };
    let total = sum(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
    if x_rest.is_empty() { total } else { total + super::scalar::dot_decoded(format, rest, x_rest) }
}

/// Calls `take` with 8 values at a time and the index of the first, and returns the bytes of the last few.
/// `BYTES` is the size of 8 values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn each_of_floats<const BYTES: usize>(
    bytes: &[u8],
    mut take: impl FnMut(usize, __m256),
    widen: impl Fn(&[u8; BYTES]) -> __m256,
) -> &[u8] {
    let (groups, rest) = bytes.as_chunks::<BYTES>();
    let (fours, last) = groups.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        for (j, group) in four.iter().enumerate() {
            take(32 * i + 8 * j, widen(group));
        }
    }
    for (j, group) in last.iter().enumerate() {
        take(32 * fours.len() + 8 * j, widen(group));
    }
    rest
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn widen_f32(bytes: &[u8; 32]) -> __m256 {
    _mm256_castsi256_ps(load_32(bytes))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn widen_f16(bytes: &[u8; 16]) -> __m256 {
    _mm256_cvtph_ps(load_16(bytes))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn widen_bf16(bytes: &[u8; 16]) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16(bytes)), 16))
}

/// Calls `take` with 16 codes at a time, how many times 16 came before them, their scale and their minimum.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn each_of_blocks<B: Pod, const WIDE: bool>(
    blocks: &[u8],
    mut take: impl FnMut(usize, __m128i, __m256, __m256),
    codes: impl Fn([&B; 2]) -> [__m256i; 2],
    factors: impl Fn([&B; ROWS]) -> __m256,
    minimum: Option<f32>,
) {
    for (i, pair) in bytemuck::cast_slice::<_, B>(blocks).chunks(2).enumerate() {
        let (a, b) = (&pair[0], &pair[pair.len() - 1]);
        let [low, high] = codes([a, b]);
        let factors = factors([a, b, a, b]);
        let (scales, minima) = match minimum {
            Some(scales) => (factors, _mm256_mul_ps(factors, _mm256_set1_ps(scales))),
            None => (factors, _mm256_movehdup_ps(factors)),
        };
        let scale = _mm256_permutevar8x32_ps(scales, _mm256_set1_epi32(0));
        let minimum = _mm256_permutevar8x32_ps(minima, _mm256_set1_epi32(0));
        take(4 * i, _mm256_castsi256_si128(low), scale, minimum);
        take(4 * i + 1, _mm256_castsi256_si128(high), scale, minimum);
        if pair.len() == 2 {
            let scale = _mm256_permutevar8x32_ps(scales, _mm256_set1_epi32(2));
            let minimum = _mm256_permutevar8x32_ps(minima, _mm256_set1_epi32(2));
            take(4 * i + 2, _mm256_extracti128_si256(low, 1), scale, minimum);
            take(4 * i + 3, _mm256_extracti128_si256(high, 1), scale, minimum);
        }
    }
}

/// See [`each_of_blocks`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn each_of_super_blocks<B: Pod, const WIDE: bool>(
    blocks: &[u8],
    mut take: impl FnMut(usize, __m128i, __m256, __m256),
    codes: impl Fn(&B, usize) -> __m256i,
    scales: impl Fn(&B) -> SubBlockScales,
    factors: impl Fn(&B) -> __m128,
) {
    for (block_at, block) in bytemuck::cast_slice::<_, B>(blocks).iter().enumerate() {
        let SubBlockScales { scales, minima } = scales(block);
        let factors = factors(block);
        let scales = scaled(scales, _mm256_broadcastss_ps(factors));
        let minus = _mm_xor_ps(_mm_movehdup_ps(factors), _mm_set1_ps(-0.0));
        let minima = scaled(minima, _mm256_broadcastss_ps(minus));
        for i in 0..8 {
            let codes = codes(block, i);
            for (half, codes) in
                [_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1)].into_iter().enumerate()
            {
                let scale = _mm256_set1_ps(scales[half][i]);
                let minimum = _mm256_set1_ps(minima[half][i]);
                take(16 * block_at + 2 * i + half, codes, scale, minimum);
            }
        }
    }
}

/// 16-bit numbers times `factor`: first those of the lower half, then the others.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scaled(words: __m256i, factor: __m256) -> [[f32; 8]; 2] {
    let [low, high] = [_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)];
    let low = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(low)), factor);
    let high = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(high)), factor);
    [lanes(low), lanes(high)]
}

/// `scale * code + minimum` of 16 codes. All products are exact in f32, so that a value is what the codec gives.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn each_of_16(codes: __m128i, scale: __m256, minimum: __m256, mut take: impl FnMut(usize, __m256)) {
    let first = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes));
    take(0, _mm256_fmadd_ps(first, scale, minimum));
    let last = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(codes, 8)));
    take(8, _mm256_fmadd_ps(last, scale, minimum));
}

/// See [`super::scalar::multiply_panel`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply_panel(panel: &[[f32; panel::ROWS]], x: [&[f32]; BATCH], sums: &mut Sums) {
    // Half of the panel's rows at a time, so that the sums stay in registers.
    for half in 0..2 {
        let mut totals = [[_mm256_setzero_ps(); 2]; BATCH];
        for (totals, sums) in totals.iter_mut().zip(sums.iter()) {
            let sums = &sums.as_chunks::<16>().0[half].as_chunks::<8>().0;
            *totals = [load(&sums[0]), load(&sums[1])];
        }
        let columns = panel.iter().zip(x[0]).zip(x[1]).zip(x[2]).zip(x[3]);
        for ((((column, a), b), c), d) in columns {
            let weights = column.as_chunks::<16>().0[half].as_chunks::<8>().0;
            let weights = [load(&weights[0]), load(&weights[1])];
            for (totals, x) in totals.iter_mut().zip([a, b, c, d]) {
                let x = _mm256_set1_ps(*x);
                totals[0] = _mm256_fmadd_ps(weights[0], x, totals[0]);
                totals[1] = _mm256_fmadd_ps(weights[1], x, totals[1]);
            }
        }
        for (totals, sums) in totals.iter().zip(sums.iter_mut()) {
            let sums = &mut sums.as_chunks_mut::<16>().0[half];
            *sums = bytemuck::cast([lanes(totals[0]), lanes(totals[1])]);
        }
    }
}
