//! Unpacking of four blocks of 32 at a time, a quarter of a vector for each.

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::x86_blocks::{IQ4_UNSIGNED, MXFP4, MXFP4_UNSIGNED, Q8_0, first, load_16};

/// As in [`x86_blocks`](super::x86_blocks), without shuffles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn halves<B: Pod>(blocks: [&B; 4]) -> __m256 {
    let [a, b, c, d] = blocks.map(|block| i32::from_le_bytes(*first(block)));
    let bits = _mm_set1_epi32(a);
    let bits = _mm_mask_set1_epi32(bits, 0b0010, b);
    let bits = _mm_mask_set1_epi32(bits, 0b0100, c);
    _mm256_cvtph_ps(_mm_mask_set1_epi32(bits, 0b1000, d))
}

/// As in [`x86_blocks`](super::x86_blocks), of four blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn nibbles(bytes: [&[u8; 16]; 4]) -> [__m512i; 2] {
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
pub(super) fn q5_codes(codes: [&[u8; 16]; 4], high_bits: [[u8; 4]; 4]) -> [__m512i; 2] {
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
pub(super) fn q8_0_codes(blocks: [&Q8_0; 4]) -> [__m512i; 2] {
    let [a, b, c, d]: [&[[u8; 16]; 2]; 4] = blocks.map(|block| bytemuck::cast_ref(&block.codes));
    let sign = _mm512_set1_epi8(-128);
    let low = load_four([&a[0], &b[0], &c[0], &d[0]]);
    let high = load_four([&a[1], &b[1], &c[1], &d[1]]);
    [_mm512_xor_si512(low, sign), _mm512_xor_si512(high, sign)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn iq4_codes(codes: [&[u8; 16]; 4]) -> [__m512i; 2] {
    let values = _mm512_broadcast_i32x4(load_16(&IQ4_UNSIGNED));
    let [low, high] = nibbles(codes);
    [_mm512_shuffle_epi8(values, low), _mm512_shuffle_epi8(values, high)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn mxfp4_codes(blocks: [&MXFP4; 4]) -> [__m512i; 2] {
    let values = _mm512_broadcast_i32x4(load_16(&MXFP4_UNSIGNED));
    let [low, high] = nibbles(blocks.map(|block| &block.codes));
    [_mm512_shuffle_epi8(values, low), _mm512_shuffle_epi8(values, high)]
}
