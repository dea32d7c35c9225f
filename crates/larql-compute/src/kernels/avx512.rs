//! x86-64 with AVX-512 F, BW, VL, VBMI and VNNI (from Ice Lake and Zen 4 on).

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::avx2::sum;
use super::quantised::QuantisedRow;
use super::x86_blocks::*;
use super::x86_rows::{ROWS, columns, row_loops};
use crate::Format;

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn load(values: &[f32; 16]) -> __m512 {
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
    _mm512_reduce_add_ps(total) + super::scalar::dot(a_rest, b_rest)
}

/// As in [`x86_blocks`](super::x86_blocks), with an instruction that takes bytes from any bit of a word.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn q5_codes(codes: [&[u8; 16]; 2], high_bits: [[u8; 4]; 2]) -> [__m256i; 2] {
    let [low, high] = nibbles(codes);
    let [first, second] = high_bits.map(|bits| _mm256_set1_epi32(i32::from_le_bytes(bits)));
    let bits = _mm256_blend_epi32(first, second, 0xf0);
    // Value `j` has bit `j`; the byte that begins 4 bits below has it where the fifth bit belongs.
    let begin = |from: i64| {
        let eight = 0x0706_0504_0302_0100 + 0x0101_0101_0101_0101 * from;
        let next = eight + 0x0808_0808_0808_0808;
        _mm256_setr_epi64x(eight, next, eight, next)
    };
    let fifth = _mm256_set1_epi8(16);
    let low_bits = _mm256_and_si256(_mm256_multishift_epi64_epi8(begin(60), bits), fifth);
    let high_bits = _mm256_and_si256(_mm256_multishift_epi64_epi8(begin(12), bits), fifth);
    [_mm256_or_si256(low, low_bits), _mm256_or_si256(high, high_bits)]
}

/// What makes WIDE codes unsigned is taken off with the minima.
const WIDE_MINIMUM: f32 = -128.0;

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn dot_bytes<const WIDE: bool>(codes: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
    let low = _mm256_dpbusd_epi32(_mm256_setzero_si256(), codes[0], x[0]);
    _mm256_dpbusd_epi32(low, codes[1], x[1])
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn add_scaled(sums: __m256i, pairs: __m256i, scales: __m256i) -> __m256i {
    _mm256_dpwssd_epi32(sums, pairs, scales)
}

row_loops!("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni");
