//! x86-64 with AVX-512 F, BW, VL, VBMI and VNNI (from Ice Lake and Zen 4 on).

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::QuantisedRow;
use super::attention_tile::{
    self, AttentionTile, Columns, KEYS_SIDE_BY_SIDE, PanelProducts, QUERIES, Query, Scores, ValueSums,
};
use super::avx2::{scaled, sum};
use super::group::Group;
use super::panel::{self, BATCH, Sums};
use super::rows::{self, ACTIVATIONS, ROWS};
use super::x86_blocks::*;
use super::x86_rows::row_loops;
use crate::Format;

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn load(values: &[f32; 16]) -> __m512 {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// See [`super::scalar::dot`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let (a_groups, a_rest) = a.as_chunks::<64>();
    let (b_groups, b_rest) = b.as_chunks::<64>();
    for (a, b) in a_groups.iter().zip(b_groups) {
        for ((a, b), sum) in a.as_chunks().0.iter().zip(b.as_chunks().0).zip(&mut sums) {
            *sum = _mm512_fmadd_ps(load(a), load(b), *sum);
        }
    }
    let total = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    let total = _mm512_reduce_add_ps(total);
    if a_rest.is_empty() { total } else { total + super::avx2::dot(a_rest, b_rest) }
}

/// See [`super::Isa::attend`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn attend(tile: &AttentionTile<'_>, queries: &mut [Query<'_>], scores: &mut Scores) {
    attention_tile::attend(
        tile,
        queries,
        scores,
        |keys, queries| multiply_keys(keys, queries),
        |columns, weights| sum_values(columns, weights),
    );
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_keys(keys: &[[f32; KEYS_SIDE_BY_SIDE]], [a, b, c, d]: [&[f32]; QUERIES]) -> PanelProducts {
    let mut sums = [_mm512_setzero_ps(); QUERIES];
    for ((((keys, a), b), c), d) in keys.iter().zip(a).zip(b).zip(c).zip(d) {
        let keys = load(keys);
        sums[0] = _mm512_fmadd_ps(_mm512_set1_ps(*a), keys, sums[0]);
        sums[1] = _mm512_fmadd_ps(_mm512_set1_ps(*b), keys, sums[1]);
        sums[2] = _mm512_fmadd_ps(_mm512_set1_ps(*c), keys, sums[2]);
        sums[3] = _mm512_fmadd_ps(_mm512_set1_ps(*d), keys, sums[3]);
    }
    let [a, b, c, d] = sums;
    [floats(a), floats(b), floats(c), floats(d)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn sum_values(columns: Columns<'_>, [a, b, c, d]: [&[f32]; QUERIES]) -> ValueSums {
    let mut sums = [[_mm512_setzero_ps(); 2]; QUERIES];
    for ((((values, a), b), c), d) in columns.zip(a).zip(b).zip(c).zip(d) {
        let [first, last]: &[[f32; 16]; 2] = bytemuck::cast_ref(values);
        let (first, last) = (load(first), load(last));
        for (sums, weight) in sums.iter_mut().zip([a, b, c, d]) {
            let weight = _mm512_set1_ps(*weight);
            sums[0] = _mm512_fmadd_ps(weight, first, sums[0]);
            sums[1] = _mm512_fmadd_ps(weight, last, sums[1]);
        }
    }
    let [a, b, c, d] = sums;
    [a, b, c, d].map(|[first, last]| bytemuck::cast([floats(first), floats(last)]))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn floats(v: __m512) -> [f32; 16] {
    bytemuck::cast(stored(_mm512_castps_si512(v)))
}

/// Products of consecutive weight rows with the rows of a group: `out` is `[group.rows, weight rows]`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn multiply_group(format: Format, weights: &[u8], group: &Group, out: &mut [f32]) {
    match group.rows {
        1 => multiply_rows::<1>(format, weights, group.vectors(), out),
        2 => multiply_rows::<2>(format, weights, group.vectors(), out),
        3 => multiply_rows::<3>(format, weights, group.vectors(), out),
        4 => multiply_rows::<4>(format, weights, group.vectors(), out),
        5 => multiply_rows::<5>(format, weights, group.vectors(), out),
        6 => multiply_rows::<6>(format, weights, group.vectors(), out),
        7 => multiply_rows::<7>(format, weights, group.vectors(), out),
        8 => multiply_rows::<8>(format, weights, group.vectors(), out),
        rows => unreachable!("{rows} rows in a group"),
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_rows<const N: usize>(format: Format, weights: &[u8], x: &[[f32; 16]], out: &mut [f32]) {
    match format {
        Format::F32 => {
            multiply_unpacked::<[u8; 64], 4, 1, N>(weights, x, out, |b| [_mm512_castsi512_ps(load_64(b))])
        }
        Format::F16 => {
            multiply_unpacked::<[u8; 32], 4, 1, N>(weights, x, out, |b| [_mm512_cvtph_ps(load_32(b))])
        }
        Format::BF16 => multiply_unpacked::<[u8; 32], 4, 1, N>(weights, x, out, |b| [from_bf16(b)]),
        Format::Q8_0 => multiply_unpacked::<Q8_0, 2, 2, N>(weights, x, out, |b| q8_0_values(b)),
        Format::Q4_0 => multiply_unpacked::<Q4_0, 2, 2, N>(weights, x, out, |b| q4_0_values(b)),
        Format::Q4_1 => multiply_unpacked::<Q4_1, 2, 2, N>(weights, x, out, |b| q4_1_values(b)),
        Format::Q5_0 => multiply_unpacked::<Q5_0, 2, 2, N>(weights, x, out, |b| q5_0_values(b)),
        Format::Q5_1 => multiply_unpacked::<Q5_1, 2, 2, N>(weights, x, out, |b| q5_1_values(b)),
        other => unreachable!("{other} is not unpacked in registers"),
    }
}

/// Products of `ROWS` weight rows at a time, so that what is loaded of `x`, `[vectors, N]`, serves all of them. A block of
/// weights fills `VECTORS`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_unpacked<B: Pod, const ROWS: usize, const VECTORS: usize, const N: usize>(
    weights: &[u8],
    x: &[[f32; 16]],
    out: &mut [f32],
    values: impl Fn(&B) -> [__m512; VECTORS],
) {
    let x = x.as_chunks::<N>().0.as_chunks::<VECTORS>().0;
    let count = out.len() / N;
    for (group, weights) in bytemuck::cast_slice::<_, B>(weights).chunks(ROWS * x.len()).enumerate() {
        let mut ahead = Prefetch::of(weights);
        // Where rows are missing the last one is there again.
        let last = weights.len() / x.len() - 1;
        let mut rows = [weights; ROWS];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &weights[r.min(last) * x.len()..][..x.len()];
        }
        let mut sums = [[_mm512_setzero_ps(); ROWS]; N];
        for (i, x) in x.iter().enumerate() {
            if size_of::<B>() < 64 {
                ahead.fetch(ROWS * size_of::<B>());
            }
            let mut weights = [[_mm512_setzero_ps(); VECTORS]; ROWS];
            for (weights, row) in weights.iter_mut().zip(&rows) {
                *weights = values(&row[i]);
            }
            for (v, x) in x.iter().enumerate() {
                for (sums, x) in sums.iter_mut().zip(x) {
                    let x = load(x);
                    for (sum, weights) in sums.iter_mut().zip(&weights) {
                        *sum = _mm512_fmadd_ps(weights[v], x, *sum);
                    }
                }
            }
        }
        let rows = ROWS * group..count.min(ROWS * (group + 1));
        let mut four = [_mm512_setzero_ps(); 4];
        for (n, sums) in sums.iter().enumerate() {
            four[..ROWS].copy_from_slice(sums);
            out[n * count..][rows.clone()].copy_from_slice(&sums_of_lanes(four)[..rows.len()]);
        }
    }
}

/// The sum of the lanes of each vector.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn sums_of_lanes([a, b, c, d]: [__m512; 4]) -> [f32; 4] {
    // Halves the number of terms of each sum while the four sums move into one vector.
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
    let all = _mm512_add_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(all)));
    let halves = _mm256_add_ps(_mm512_castps512_ps256(all), upper);
    let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
    let [a, b, c, d, ..] = lanes(_mm256_castps128_ps256(sums));
    [a, b, c, d]
}

/// Product of a weight row in a float format with `x`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn dot_floats(format: Format, row: &[u8], x: &[f32]) -> f32 {
    match format {
        Format::F32 => dot_of(format, row, x, |bytes| _mm512_castsi512_ps(load_64(bytes))),
        Format::F16 => dot_of(format, row, x, |bytes| _mm512_cvtph_ps(load_32(bytes))),
        Format::BF16 => dot_of(format, row, x, |bytes| from_bf16(bytes)),
        other => unreachable!("{other} is no float format"),
    }
}

/// `BYTES` is the size of 16 values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn dot_of<const BYTES: usize>(
    format: Format,
    row: &[u8],
    x: &[f32],
    widen: impl Fn(&[u8; BYTES]) -> __m512,
) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let ((row, row_rest), (x, x_rest)) = (row.as_chunks::<BYTES>(), x.as_chunks::<16>());
    let ((fours, last), (x_fours, x_last)) = (row.as_chunks::<4>(), x.as_chunks::<4>());
    for (four, x) in fours.iter().zip(x_fours) {
        for ((bytes, x), sum) in four.iter().zip(x).zip(&mut sums) {
            *sum = _mm512_fmadd_ps(widen(bytes), load(x), *sum);
        }
    }
    for ((bytes, x), sum) in last.iter().zip(x_last).zip(&mut sums) {
        *sum = _mm512_fmadd_ps(widen(bytes), load(x), *sum);
    }
    let total = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    let total = _mm512_reduce_add_ps(total);
    if x_rest.is_empty() { total } else { total + super::scalar::dot_decoded(format, row_rest, x_rest) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn load_64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// 16 numbers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn from_bf16(bytes: &[u8; 32]) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load_32(bytes))))
}

/// Writes the values of consecutive blocks.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn decode(format: Format, blocks: &[u8], out: &mut [f32]) {
    match format {
        Format::F16 => {
            let (groups, rest) = blocks.as_chunks::<32>();
            let (out, out_rest) = out.as_chunks_mut::<16>();
            for (group, out) in groups.iter().zip(out) {
                store(_mm512_cvtph_ps(load_32(group)), out);
            }
            super::avx2::decode(format, rest, out_rest);
        }
        Format::Q8_0 => decode_values::<Q8_0>(blocks, out, |b| q8_0_values(b)),
        Format::Q4_0 => decode_values::<Q4_0>(blocks, out, |b| q4_0_values(b)),
        Format::Q4_1 => decode_values::<Q4_1>(blocks, out, |b| q4_1_values(b)),
        Format::Q5_0 => decode_values::<Q5_0>(blocks, out, |b| q5_0_values(b)),
        Format::Q5_1 => decode_values::<Q5_1>(blocks, out, |b| q5_1_values(b)),
        Format::F32 | Format::BF16 | Format::Q8_K | Format::AFFINE8 => {
            super::avx2::decode(format, blocks, out)
        }
        _ => for_format!(format, decode_blocks, decode_super_blocks, [], (blocks, out)),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn decode_values<B: Pod>(blocks: &[u8], out: &mut [f32], values: impl Fn(&B) -> [__m512; 2]) {
    let mut ahead = Prefetch::of(&blocks[..0]);
    for (block, out) in bytemuck::cast_slice::<_, B>(blocks).iter().zip(out.as_chunks_mut::<32>().0) {
        ahead.fetch(size_of::<B>());
        let values = values(block);
        let [first, last]: &mut [[f32; 16]; 2] = bytemuck::cast_mut(out);
        store(values[0], first);
        store(values[1], last);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn q8_0_values(block: &Q8_0) -> [__m512; 2] {
    let scale = _mm512_broadcastss_ps(pair(block.scale, block.scale));
    let [first, last]: &[[u8; 16]; 2] = bytemuck::cast_ref(&block.codes);
    let first = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(first)));
    let last = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(last)));
    [_mm512_mul_ps(first, scale), _mm512_mul_ps(last, scale)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn q4_0_values(block: &Q4_0) -> [__m512; 2] {
    four_bit_values(scale_times(block.scale, -8.0), &block.codes, None)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn q4_1_values(block: &Q4_1) -> [__m512; 2] {
    four_bit_values(scale_and_minimum(block.scale, block.minimum), &block.codes, None)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn q5_0_values(block: &Q5_0) -> [__m512; 2] {
    four_bit_values(scale_times(block.scale, -16.0), &block.codes, Some(block.high_bits))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn q5_1_values(block: &Q5_1) -> [__m512; 2] {
    four_bit_values(scale_and_minimum(block.scale, block.minimum), &block.codes, Some(block.high_bits))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn scale_and_minimum(scale: [u8; 2], minimum: [u8; 2]) -> [__m512; 2] {
    let both = pair(scale, minimum);
    [_mm512_broadcastss_ps(both), _mm512_broadcastss_ps(_mm_movehdup_ps(both))]
}

/// The same of a block whose minimum is so many times its scale.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn scale_times(scale: [u8; 2], factor: f32) -> [__m512; 2] {
    let scale = _mm512_broadcastss_ps(pair(scale, scale));
    [scale, _mm512_mul_ps(scale, _mm512_set1_ps(factor))]
}

/// Unpacks codes of 4 bits, or of 5 bits whose fifth is stored apart.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn four_bit_values(
    [scale, minimum]: [__m512; 2],
    codes: &[u8; 16],
    fifth_bits: Option<[u8; 4]>,
) -> [__m512; 2] {
    let codes = _mm512_cvtepu8_epi32(load_16(codes));
    let mut low = _mm512_and_si512(codes, _mm512_set1_epi32(15));
    let mut high = _mm512_srli_epi32::<4>(codes);
    if let Some([a, b, c, d]) = fifth_bits {
        let fifth = _mm512_set1_epi32(16);
        low = _mm512_mask_or_epi32(low, u16::from_le_bytes([a, b]), low, fifth);
        high = _mm512_mask_or_epi32(high, u16::from_le_bytes([c, d]), high, fifth);
    }
    // All products are exact in f32, so that a value is what the codec gives.
    [
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), scale, minimum),
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), scale, minimum),
    ]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn decode_blocks<B: Pod, const WIDE: bool>(
    blocks: &[u8],
    out: &mut [f32],
    codes: impl Fn([&B; ROWS]) -> [__m512i; 2],
    factors: impl Fn([&B; ROWS]) -> __m256,
    minimum: Option<f32>,
) {
    let mut ahead = Prefetch::of(&blocks[..0]);
    let blocks = bytemuck::cast_slice::<_, B>(blocks).chunks(ROWS);
    for (blocks, out) in blocks.zip(out.chunks_mut(32 * ROWS)) {
        ahead.fetch(ROWS * size_of::<B>());
        let four = std::array::from_fn(|i| &blocks[i.min(blocks.len() - 1)]);
        let [low, high] = codes(four);
        let factors = _mm512_castps256_ps512(factors(four));
        let minima = match minimum {
            Some(minimum) => _mm512_mul_ps(factors, _mm512_set1_ps(minimum)),
            // The minimum of each scale in the lane of the scale.
            None => _mm512_movehdup_ps(factors),
        };
        let mut out = out.as_chunks_mut::<32>().0.iter_mut();
        let mut write = |block: i32, low, high| {
            let Some(out) = out.next() else { return };
            let lane = _mm512_set1_epi32(2 * block);
            let scale = _mm512_permutexvar_ps(lane, factors);
            let minimum = _mm512_permutexvar_ps(lane, minima);
            // All products are exact in f32, so that a value is what the codec gives.
            let [first, last]: &mut [[f32; 16]; 2] = bytemuck::cast_mut(out);
            store(_mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(low)), scale, minimum), first);
            store(_mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(high)), scale, minimum), last);
        };
        // Written out, since in a loop the vectors would go through memory.
        write(0, _mm512_castsi512_si128(low), _mm512_castsi512_si128(high));
        write(1, _mm512_extracti32x4_epi32::<1>(low), _mm512_extracti32x4_epi32::<1>(high));
        write(2, _mm512_extracti32x4_epi32::<2>(low), _mm512_extracti32x4_epi32::<2>(high));
        write(3, _mm512_extracti32x4_epi32::<3>(low), _mm512_extracti32x4_epi32::<3>(high));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn decode_super_blocks<B: Pod, const WIDE: bool>(
    blocks: &[u8],
    out: &mut [f32],
    codes: impl Fn(&B, usize) -> __m256i,
    scales: impl Fn(&B) -> SubBlockScales,
    factors: impl Fn(&B) -> __m128,
) {
    let blocks = bytemuck::cast_slice::<_, B>(blocks).iter();
    for (block, out) in blocks.zip(out.as_chunks_mut::<256>().0) {
        let SubBlockScales { scales, minima } = scales(block);
        let factors = factors(block);
        let scales = scaled(scales, _mm256_broadcastss_ps(factors));
        let minus = _mm_xor_ps(_mm_movehdup_ps(factors), _mm_set1_ps(-0.0));
        let minima = scaled(minima, _mm256_broadcastss_ps(minus));
        for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let codes = codes(block, i);
            let [first, last]: &mut [[f32; 16]; 2] = bytemuck::cast_mut(out);
            let low = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(codes)));
            store(_mm512_fmadd_ps(low, _mm512_set1_ps(scales[0][i]), _mm512_set1_ps(minima[0][i])), first);
            let high = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_extracti128_si256(codes, 1)));
            store(_mm512_fmadd_ps(high, _mm512_set1_ps(scales[1][i]), _mm512_set1_ps(minima[1][i])), last);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn store(v: __m512, values: &mut [f32; 16]) {
    // SAFETY: the array is as long as the vector; the store needs no alignment.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), v) };
}

/// As in [`x86_blocks`](super::x86_blocks), without shuffles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn halves<B: Pod>(blocks: [&B; 4]) -> __m256 {
    let [a, b, c, d] = blocks.map(|block| i32::from_le_bytes(*first(block)));
    let bits = _mm_set1_epi32(a);
    let bits = _mm_mask_set1_epi32(bits, 0b0010, b);
    let bits = _mm_mask_set1_epi32(bits, 0b0100, c);
    _mm256_cvtph_ps(_mm_mask_set1_epi32(bits, 0b1000, d))
}

/// As in [`x86_blocks`](super::x86_blocks), of four blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn nibbles(bytes: [&[u8; 16]; 4]) -> [__m512i; 2] {
    let (bytes, low) = (load_four(bytes), _mm512_set1_epi8(15));
    [_mm512_and_si512(bytes, low), _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low)]
}

/// 16 bytes of each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn load_four(bytes: [&[u8; 16]; 4]) -> __m512i {
    let [a, b, c, d] = bytes.map(|bytes| load_16(bytes));
    let v = _mm512_castsi128_si512(a);
    let v = _mm512_mask_broadcast_i32x4(v, 0x00f0, b);
    let v = _mm512_mask_broadcast_i32x4(v, 0x0f00, c);
    _mm512_mask_broadcast_i32x4(v, 0xf000, d)
}

/// As in [`x86_blocks`](super::x86_blocks), of four blocks and with an instruction that takes bytes from any bit of a
/// word.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn q5_codes(codes: [&[u8; 16]; 4], high_bits: [[u8; 4]; 4]) -> [__m512i; 2] {
    let [low, high] = nibbles(codes);
    let [a, b, c, d] = high_bits.map(i32::from_le_bytes);
    let bits = _mm512_set1_epi32(a);
    let bits = _mm512_mask_set1_epi32(bits, 0x00f0, b);
    let bits = _mm512_mask_set1_epi32(bits, 0x0f00, c);
    let bits = _mm512_mask_set1_epi32(bits, 0xf000, d);
    // Value `j` has bit `j`; the byte that begins 4 bits below has it where the fifth bit belongs.
    let begin = |from: i64| {
        let eight = 0x0706_0504_0302_0100 + 0x0101_0101_0101_0101 * from;
        let next = eight + 0x0808_0808_0808_0808;
        _mm512_setr_epi64(eight, next, eight, next, eight, next, eight, next)
    };
    let fifth = _mm512_set1_epi8(16);
    let low_bits = _mm512_and_si512(_mm512_multishift_epi64_epi8(begin(60), bits), fifth);
    let high_bits = _mm512_and_si512(_mm512_multishift_epi64_epi8(begin(12), bits), fifth);
    [_mm512_or_si512(low, low_bits), _mm512_or_si512(high, high_bits)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn q8_0_codes(blocks: [&Q8_0; 4]) -> [__m512i; 2] {
    let [a, b, c, d]: [&[[u8; 16]; 2]; 4] = blocks.map(|block| bytemuck::cast_ref(&block.codes));
    let sign = _mm512_set1_epi8(-128);
    let low = load_four([&a[0], &b[0], &c[0], &d[0]]);
    let high = load_four([&a[1], &b[1], &c[1], &d[1]]);
    [_mm512_xor_si512(low, sign), _mm512_xor_si512(high, sign)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn iq4_codes(codes: [&[u8; 16]; 4]) -> [__m512i; 2] {
    let values = _mm512_broadcast_i32x4(load_16(&IQ4_UNSIGNED));
    let [low, high] = nibbles(codes);
    [_mm512_shuffle_epi8(values, low), _mm512_shuffle_epi8(values, high)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn mxfp4_codes(blocks: [&MXFP4; 4]) -> [__m512i; 2] {
    let values = _mm512_broadcast_i32x4(load_16(&MXFP4_UNSIGNED));
    let [low, high] = nibbles(blocks.map(|block| &block.codes));
    [_mm512_shuffle_epi8(values, low), _mm512_shuffle_epi8(values, high)]
}

/// Products of up to [`ROWS`] rows at a time: a vector holds a block of each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn dot_blocks<B: Pod, const WIDE: bool, const PLANES: usize, const N: usize>(
    rows: &[u8],
    x: [[&QuantisedRow; PLANES]; N],
    out: &mut [&mut [f32]],
    codes: impl Fn([&B; ROWS]) -> [__m512i; 2],
    factors: impl Fn([&B; ROWS]) -> __m256,
    minimum: Option<f32>,
) {
    let row_len = x[0][0].factors.len();
    let x: [[Blocks<'_>; PLANES]; N] =
        x.map(|planes| planes.map(|x| (&x.codes.as_chunks::<32>().0[..row_len], &x.factors[..row_len])));
    // Of each block its scale, four times.
    let scale_of_lane = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
    for (group, rows) in bytemuck::cast_slice(rows).chunks(ROWS * row_len).enumerate() {
        let mut sums = [_mm512_setzero_ps(); N];
        let mut minima = [_mm256_setzero_ps(); N];
        let mut ahead = Prefetch::of(rows);
        let [a, b, c, d] = rows::split::<B>(rows, row_len);
        for i in 0..row_len {
            ahead.fetch(ROWS * size_of::<B>());
            let blocks = [&a[i], &b[i], &c[i], &d[i]];
            let block_factors = factors(blocks);
            let [low_codes, high_codes] = codes(blocks);
            for ((sums, minima), planes) in sums.iter_mut().zip(&mut minima).zip(&x) {
                // What all planes have in common is multiplied last; of a single one also its scale, in a shorter vector.
                let mut common = block_factors;
                let mut products = _mm512_setzero_ps();
                for (x_codes, x_factors) in planes {
                    let [scale, scaled_sum] = x_factors[i];
                    *minima = _mm256_fmadd_ps(block_factors, _mm256_set1_ps(scaled_sum), *minima);
                    let [low, high]: &[[u8; 16]; 2] = bytemuck::cast_ref(&x_codes[i]);
                    let (low, high) =
                        (_mm512_broadcast_i32x4(load_16(low)), _mm512_broadcast_i32x4(load_16(high)));
                    let plane = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low_codes, low);
                    let plane = _mm512_dpbusd_epi32(plane, high_codes, high);
                    let plane = _mm512_cvtepi32_ps(plane);
                    if PLANES == 1 {
                        (products, common) = (plane, _mm256_mul_ps(common, _mm256_set1_ps(scale)));
                    } else {
                        products = _mm512_fmadd_ps(plane, _mm512_set1_ps(scale), products);
                    }
                }
                let factors = _mm512_permutexvar_ps(scale_of_lane, _mm512_castps256_ps512(common));
                *sums = _mm512_fmadd_ps(products, factors, *sums);
            }
        }
        for ((out, sums), minima) in out.iter_mut().zip(sums).zip(minima) {
            let minima = match minimum {
                Some(scales) => _mm_mul_ps(even_lanes(minima), _mm_set1_ps(scales)),
                None => even_lanes(_mm256_movehdup_ps(minima)),
            };
            // The four lanes of each row.
            let pairs = _mm512_add_ps(sums, _mm512_permute_ps(sums, 0b10_11_00_01));
            let all = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0b01_00_11_10));
            let first_of_each = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            let sums = _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_each, all));
            store_first(_mm_add_ps(sums, minima), &mut out[ROWS * group..]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn add_scaled(sums: __m256i, pairs: __m256i, scales: __m256i) -> __m256i {
    _mm256_dpwssd_epi32(sums, pairs, scales)
}

row_loops!("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni");

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn stored(v: __m512i) -> [u8; 64] {
    let mut bytes = [0; 64];
    // SAFETY: the array is as long as the vector; the store needs no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), v) };
    bytes
}

/// See [`super::scalar::multiply_panel`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn multiply_panel(panel: &[[f32; panel::ROWS]], x: [&[f32]; BATCH], sums: &mut Sums) {
    let mut totals = load_sums(sums);
    let columns = panel.iter().zip(x[0]).zip(x[1]).zip(x[2]).zip(x[3]);
    for ((((column, a), b), c), d) in columns {
        let weights = load_both(column);
        for (totals, x) in totals.iter_mut().zip([a, b, c, d]) {
            let x = _mm512_set1_ps(*x);
            totals[0] = _mm512_fmadd_ps(weights[0], x, totals[0]);
            totals[1] = _mm512_fmadd_ps(weights[1], x, totals[1]);
        }
    }
    store_sums(totals, sums);
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn load_both(values: &[f32; panel::ROWS]) -> [__m512; 2] {
    let [first, last]: &[[f32; 16]; 2] = bytemuck::cast_ref(values);
    [load(first), load(last)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn load_sums(sums: &Sums) -> [[__m512; 2]; BATCH] {
    let mut totals = [[_mm512_setzero_ps(); 2]; BATCH];
    for (totals, sums) in totals.iter_mut().zip(sums) {
        *totals = load_both(sums);
    }
    totals
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn store_sums(totals: [[__m512; 2]; BATCH], sums: &mut Sums) {
    for (totals, sums) in totals.iter().zip(sums) {
        let [first, last]: &mut [[f32; 16]; 2] = bytemuck::cast_mut(sums);
        // SAFETY: each array is as long as a vector; the stores need no alignment.
        unsafe {
            _mm512_storeu_ps(first.as_mut_ptr(), totals[0]);
            _mm512_storeu_ps(last.as_mut_ptr(), totals[1]);
        }
    }
}
