//! x86-64 with AVX-512 F, BW, VL, VBMI and VNNI (from Ice Lake and Zen 4 on).

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::attention_tile::{
    self, AttentionTile, Columns, KEYS_SIDE_BY_SIDE, KeyPanel, PanelProducts, QUERIES, Query, Scores,
    ValueSums,
};
use super::avx2::scaled;
use super::avx512_blocks::{halves, iq4_codes, mxfp4_codes, nibbles, q5_codes, q8_0_codes};
use super::group::Group;
use super::key_panel::{self, KeyGroup};
use super::panel::{self, BATCH, Sums};
use super::rows::ROWS;
use super::x86_blocks::*;
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

/// See [`super::Isa::decode_keys`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn decode_keys(groups: &[KeyGroup], out: &mut [[f32; KEYS_SIDE_BY_SIDE]]) {
    key_panel::decode(groups, out);
}

/// See [`super::Isa::attend`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn attend(tile: &AttentionTile<'_>, queries: &mut [Query<'_>], scores: &mut Scores) {
    attention_tile::attend(
        tile,
        queries,
        scores,
        |panels, queries| multiply_keys(panels, queries),
        |columns, weights| sum_values(columns, weights),
    );
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_keys([first, second]: [&KeyPanel; 2], [a, b, c, d]: [&[f32]; QUERIES]) -> [PanelProducts; 2] {
    let mut sums = [[_mm512_setzero_ps(); 2]; QUERIES];
    for (((((first, second), a), b), c), d) in first.iter().zip(second).zip(a).zip(b).zip(c).zip(d) {
        let (first, second) = (load(first), load(second));
        for (sums, query) in sums.iter_mut().zip([a, b, c, d]) {
            let query = _mm512_set1_ps(*query);
            sums[0] = _mm512_fmadd_ps(query, first, sums[0]);
            sums[1] = _mm512_fmadd_ps(query, second, sums[1]);
        }
    }
    [0, 1].map(|panel| sums.map(|sums| floats(sums[panel])))
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
pub(super) fn load_64(bytes: &[u8; 64]) -> __m512i {
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
            let (groups, rest) = blocks.as_chunks::<64>();
            let (out, out_rest) = out.as_chunks_mut::<32>();
            let mut ahead = Prefetch::of(&blocks[..0]);
            for (group, out) in groups.iter().zip(out) {
                ahead.fetch(size_of_val(group));
                let [first, last]: &[[u8; 32]; 2] = bytemuck::cast_ref(group);
                let [out_first, out_last]: &mut [[f32; 16]; 2] = bytemuck::cast_mut(out);
                store(_mm512_cvtph_ps(load_32(first)), out_first);
                store(_mm512_cvtph_ps(load_32(last)), out_last);
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
