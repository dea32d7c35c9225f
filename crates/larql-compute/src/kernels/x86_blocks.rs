//! Unpacking of blocks into vectors of codes, for AVX2 and AVX-512.

use std::arch::x86_64::*;

use bytemuck::Pod;

use crate::codec::{DOUBLED_E2M1_VALUES, IQ4_VALUES, SignedCodes};
// Also for `for_format`, where it is used.
pub(super) use crate::codec::{
    IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1,
    Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, TQ1_0, TQ2_0,
};

/// Codes of a row of activations in blocks of 32, and the factors of these.
pub(super) type Blocks<'a> = (&'a [[i8; 32]], &'a [[f32; 2]]);

/// Constants of the sub-blocks of a block of 256 values: each value is
/// `factor * scale * code - other_factor * minimum`.
pub(super) struct SubBlockScales {
    /// Values of 16 sub-blocks as 16-bit numbers, those of even index before those of odd.
    pub(super) scales: __m256i,
    /// As the scales.
    pub(super) minima: __m256i,
}

/// Calls `$block` or `$super_block` with what unpacks `$format`, after the arguments given.
///
/// * `$block::<B, WIDE>(.., codes, factors, minimum)` for blocks of 32: `codes` of two blocks are the first 16
///   unsigned bytes of both and the last 16 of both, `factors` of four blocks their scales in even lanes. The
///   minima are in odd lanes or, if `minimum` is given, that many times the scales.
/// * `$super_block::<B, WIDE>(.., codes, scales, factors)` for blocks of 256: `codes(block, i)` are the codes of
///   values `32 i` to `32 i + 31`, and `factors(block)` its scale and minimum in the lowest lanes.
///
/// `WIDE` codes use all 8 bits and are 128 more than the signed number they stand for; others have at most 7. Constants
/// in square brackets follow `WIDE`.
macro_rules! for_format {
    ($format:expr, $block:ident, $super_block:ident, [$($constant:ident),*], ($($argument:expr),*)) => {
        match $format {
            Format::Q4_0 => $block::<Q4_0, false $(, $constant)*>($($argument,)* |b| nibbles(b.map(|b| &b.codes)), |b| halves(b), Some(-8.0)),
            Format::Q4_1 => $block::<Q4_1, false $(, $constant)*>($($argument,)* |b| nibbles(b.map(|b| &b.codes)), |b| halves(b), None),
            Format::Q5_0 => $block::<Q5_0, false $(, $constant)*>($($argument,)* |b| q5_codes(b.map(|b| &b.codes), b.map(|b| b.high_bits)), |b| halves(b), Some(-16.0)),
            Format::Q5_1 => $block::<Q5_1, false $(, $constant)*>($($argument,)* |b| q5_codes(b.map(|b| &b.codes), b.map(|b| b.high_bits)), |b| halves(b), None),
            Format::Q8_0 => $block::<Q8_0, true $(, $constant)*>($($argument,)* |b| q8_0_codes(b), |b| halves(b), Some(-128.0)),
            Format::IQ4_NL => $block::<IQ4_NL, true $(, $constant)*>($($argument,)* |b| iq4_codes(b.map(|b| &b.codes)), |b| halves(b), Some(-128.0)),
            Format::MXFP4 => $block::<MXFP4, false $(, $constant)*>($($argument,)* |b| mxfp4_codes(b), |b| mxfp4_factors(b), Some(-12.0)),
            format => for_super_block_format!(format, $super_block, [$($constant),*], ($($argument),*)),
        }
    };
}
pub(super) use for_format;

/// [`for_format`] for formats with blocks of 256.
macro_rules! for_super_block_format {
    ($format:expr, $super_block:ident, [$($constant:ident),*], ($($argument:expr),*)) => {
        match $format {
            Format::Q2_K => $super_block::<Q2_K, false $(, $constant)*>($($argument,)* |b, i| q2_k_codes(b, i), |b| q2_k_scales(b), |b| pair(b.scale, b.minimum)),
            Format::Q3_K => $super_block::<Q3_K, false $(, $constant)*>($($argument,)* |b, i| q3_k_codes(b, i), |b| q3_k_scales(b), |b| pair(b.scale, b.scale)),
            Format::Q4_K => $super_block::<Q4_K, false $(, $constant)*>($($argument,)* |b, i| q4_k_codes(b, i), |b| six_bit_scales(b), |b| pair(b.scale, b.minimum)),
            Format::Q5_K => $super_block::<Q5_K, false $(, $constant)*>($($argument,)* |b, i| q5_k_codes(b, i), |b| six_bit_scales(b), |b| pair(b.scale, b.minimum)),
            Format::Q6_K => $super_block::<Q6_K, false $(, $constant)*>($($argument,)* |b, i| q6_k_codes(b, i), |b| q6_k_scales(b), |b| pair(b.scale, b.scale)),
            Format::IQ4_XS => $super_block::<IQ4_XS, true $(, $constant)*>($($argument,)* |b, i| iq4_xs_codes(b, i), |b| iq4_xs_scales(b), |b| pair(b.scale, b.scale)),
            Format::IQ2_XXS => $super_block::<IQ2_XXS, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            Format::IQ2_XS => $super_block::<IQ2_XS, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            Format::IQ2_S => $super_block::<IQ2_S, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            Format::IQ3_XXS => $super_block::<IQ3_XXS, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            Format::IQ3_S => $super_block::<IQ3_S, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            Format::IQ1_S => $super_block::<IQ1_S, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            Format::IQ1_M => $super_block::<IQ1_M, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            Format::TQ1_0 => $super_block::<TQ1_0, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            Format::TQ2_0 => $super_block::<TQ2_0, true $(, $constant)*>($($argument,)* |b, i| signed_codes(b, i), |b| signed_scales(b), |b| signed_factors(b)),
            other => unreachable!("{other} has no blocks of 256 codes"),
        }
    };
}
pub(super) use for_super_block_format;

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Asks for memory ahead of a loop, in the order of addresses: reading several rows at once, it follows no sequence
/// that a processor foresees.
pub(super) struct Prefetch(*const i8);

impl Prefetch {
    /// Bytes that arrive in the time that memory takes to answer, and some more.
    const DISTANCE: usize = 4096;

    /// For a loop that begins with `group`, rows that it reads at the same time.
    pub(super) fn of<B>(group: &[B]) -> Prefetch {
        Prefetch(group.as_ptr().cast::<i8>().wrapping_add(size_of_val(group) + Prefetch::DISTANCE))
    }

    /// Asks for as many bytes as the loop reads next.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn fetch(&mut self, bytes: usize) {
        for line in (0..bytes).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(self.0.wrapping_add(line));
        }
        self.0 = self.0.wrapping_add(bytes);
    }
}

/// 16 bytes of each.
#[inline]
#[target_feature(enable = "avx2")]
fn load_pair(bytes: [&[u8; 16]; 2]) -> __m256i {
    _mm256_set_m128i(load_16(bytes[1]), load_16(bytes[0]))
}

/// The first 16 bytes in both halves, and the last 16.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_halves_twice(bytes: &[[u8; 16]; 2]) -> [__m256i; 2] {
    [table(&bytes[0]), table(&bytes[1])]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_16(v: __m128i, bytes: &mut [u8; 16]) {
    // SAFETY: the array is as long as the vector; the store needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), v) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_32(v: __m256i, bytes: &mut [u8; 32]) {
    // SAFETY: the array is as long as the vector; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn words(v: __m256i) -> [i16; 16] {
    let mut bytes = [0; 32];
    store_32(v, &mut bytes);
    bytemuck::cast(bytes)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn lanes(v: __m256) -> [f32; 8] {
    let mut lanes = [0.0; 8];
    // SAFETY: the array is as long as the vector; the store needs no alignment.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), v) };
    lanes
}

/// Shuffles that put the 16-bit number `i` of each half in all its lanes, for `i` from 0 to 7.
///
/// They are hidden from the compiler, which otherwise makes two instructions of each that it recognises.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn broadcasts() -> &'static [[u8; 32]; 8] {
    const TABLE: [[u8; 32]; 8] = {
        let mut table = [[0; 32]; 8];
        let mut i = 0;
        while i < 256 {
            table[i / 32][i % 32] = (i / 32 * 2 + i % 2) as u8;
            i += 1;
        }
        table
    };
    std::hint::black_box(&TABLE)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn even_lanes(v: __m256) -> __m128 {
    _mm256_castps256_ps128(_mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)))
}

/// Sums of the lanes of each half: of the lower halves of both, then of the upper halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sums_of_halves(v: [__m256; 2]) -> __m128 {
    let pairs = _mm256_hadd_ps(v[0], v[1]);
    let sums = _mm256_hadd_ps(pairs, pairs);
    _mm_movelh_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1))
}

/// Writes as many lanes as `out` is long, at most 4.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_first(v: __m128, out: &mut [f32]) {
    let lanes = lanes(_mm256_castps128_ps256(v));
    match out.first_chunk_mut::<4>() {
        // Nearly always, and far quicker than copying a number of them that is known only now.
        Some(out) => out.copy_from_slice(&lanes[..4]),
        None => out.copy_from_slice(&lanes[..out.len()]),
    }
}

/// Products of unsigned with signed bytes, added in pairs.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn pairs<const WIDE: bool>(codes: __m256i, x: __m256i) -> __m256i {
    if WIDE {
        // Two such products could exceed 16 bits, so the codes become signed again and give their sign to `x`.
        let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
        _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
    } else {
        _mm256_maddubs_epi16(codes, x)
    }
}

/// A table of 16 bytes in both halves, for `_mm256_shuffle_epi8`.
#[inline]
#[target_feature(enable = "avx2")]
fn table(bytes: &[u8; 16]) -> __m256i {
    _mm256_broadcastsi128_si256(load_16(bytes))
}

/// Bits of four numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn join(parts: [[u8; 4]; 4]) -> __m128i {
    let [a, b, c, d] = parts.map(i32::from_le_bytes);
    _mm_setr_epi32(a, b, c, d)
}

/// The two half-precision numbers that each block begins with; in formats with one, what follows is nonsense.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn halves<B: Pod>(blocks: [&B; 4]) -> __m256 {
    _mm256_cvtph_ps(join(blocks.map(|block| *first(block))))
}

/// The bytes that a block begins with.
pub(super) fn first<B: Pod, const LEN: usize>(block: &B) -> &[u8; LEN] {
    bytemuck::bytes_of(block).first_chunk().expect("blocks are longer")
}

/// Two half-precision numbers in the lowest lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pair(a: [u8; 2], b: [u8; 2]) -> __m128 {
    _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from_le_bytes([a[0], a[1], b[0], b[1]])))
}

/// The low 4 bits of each byte, and the high 4 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn nibbles(bytes: [&[u8; 16]; 2]) -> [__m256i; 2] {
    let (bytes, low) = (load_pair(bytes), _mm256_set1_epi8(15));
    [_mm256_and_si256(bytes, low), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low)]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q5_codes(codes: [&[u8; 16]; 2], high_bits: [[u8; 4]; 2]) -> [__m256i; 2] {
    let [low, high] = nibbles(codes);
    let [first, second] = high_bits.map(|bits| _mm256_set1_epi32(i32::from_le_bytes(bits)));
    let bits = _mm256_blend_epi32(first, second, 0xf0);
    // Byte 0 for the first 8 values, byte 1 for the next, and so on.
    let bytes = _mm256_set_epi64x(0x0101_0101_0101_0101, 0, 0x0101_0101_0101_0101, 0);
    let low = _mm256_or_si256(low, fifth_bits(_mm256_shuffle_epi8(bits, bytes)));
    let bytes = _mm256_add_epi8(bytes, _mm256_set1_epi8(2));
    [low, _mm256_or_si256(high, fifth_bits(_mm256_shuffle_epi8(bits, bytes)))]
}

/// 16 where bit `i % 8` of byte `i` is set, else 0.
#[inline]
#[target_feature(enable = "avx2")]
fn fifth_bits(bytes: __m256i) -> __m256i {
    let own_bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, own_bit), own_bit);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q8_0_codes(blocks: [&Q8_0; 2]) -> [__m256i; 2] {
    let [first, second]: [&[[u8; 16]; 2]; 2] = blocks.map(|block| bytemuck::cast_ref(&block.codes));
    let sign = _mm256_set1_epi8(-128);
    [
        _mm256_xor_si256(load_pair([&first[0], &second[0]]), sign),
        _mm256_xor_si256(load_pair([&first[1], &second[1]]), sign),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn iq4_codes(codes: [&[u8; 16]; 2]) -> [__m256i; 2] {
    nibbles(codes).map(|codes| _mm256_shuffle_epi8(table(&IQ4_UNSIGNED), codes))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn mxfp4_codes(blocks: [&MXFP4; 2]) -> [__m256i; 2] {
    nibbles(blocks.map(|block| &block.codes)).map(|codes| _mm256_shuffle_epi8(table(&MXFP4_UNSIGNED), codes))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn mxfp4_factors(blocks: [&MXFP4; 4]) -> __m256 {
    // As `MXFP4::half_scale`.
    let exponents = join(blocks.map(|block| [block.exponent, 0, 0, 0]));
    let normal = _mm_slli_epi32(_mm_sub_epi32(exponents, _mm_set1_epi32(1)), 23);
    let subnormal = _mm_sllv_epi32(_mm_set1_epi32(0x0020_0000), exponents);
    let scales = _mm_blendv_epi8(normal, subnormal, _mm_cmpgt_epi32(_mm_set1_epi32(2), exponents));
    _mm256_castsi256_ps(_mm256_cvtepu32_epi64(scales))
}

/// Values of the 4-bit codes of IQ4 formats, plus 128.
pub(super) const IQ4_UNSIGNED: [u8; 16] = raised(IQ4_VALUES, 128);
/// Twice what the 4 bits of MXFP4 stand for, and 12.
pub(super) const MXFP4_UNSIGNED: [u8; 16] = raised(DOUBLED_E2M1_VALUES, 12);

const fn raised(values: [i8; 16], by: i16) -> [u8; 16] {
    let mut raised = [0; 16];
    let mut i = 0;
    while i < 16 {
        raised[i] = (values[i] as i16 + by) as u8;
        i += 1;
    }
    raised
}

/// Bytes moved by a number of bits, up if it is negative. What crosses into a neighbouring byte is for the
/// caller to mask.
#[inline]
#[target_feature(enable = "avx2")]
fn shift_right(v: __m256i, bits: i32) -> __m256i {
    if bits >= 0 {
        _mm256_srl_epi16(v, _mm_cvtsi32_si128(bits))
    } else {
        _mm256_sll_epi16(v, _mm_cvtsi32_si128(-bits))
    }
}

/// Bits of each byte from `bit` on, moved to `to` and masked.
#[inline]
#[target_feature(enable = "avx2")]
fn bits(v: __m256i, bit: usize, to: usize, mask: i8) -> __m256i {
    _mm256_and_si256(shift_right(v, bit as i32 - to as i32), _mm256_set1_epi8(mask))
}

/// 16 bytes, those of even index before those of odd.
#[inline]
#[target_feature(enable = "avx2")]
fn even_then_odd(bytes: __m128i) -> __m128i {
    _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q2_k_scales(block: &Q2_K) -> SubBlockScales {
    let both = even_then_odd(load_16(&block.scales));
    let low = _mm_set1_epi8(15);
    SubBlockScales {
        scales: _mm256_cvtepu8_epi16(_mm_and_si128(both, low)),
        minima: _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(both, 4), low)),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q2_k_codes(block: &Q2_K, i: usize) -> __m256i {
    bits(load_32(&block.codes[i / 4]), i % 4 * 2, 0, 3)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q3_k_scales(block: &Q3_K) -> SubBlockScales {
    let scales = _mm256_cvtepi8_epi16(even_then_odd(load_16(&bytemuck::cast(block.sub_scales()))));
    SubBlockScales { scales, minima: _mm256_slli_epi16(scales, 2) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q3_k_codes(block: &Q3_K, i: usize) -> __m256i {
    let low = bits(load_32(&block.codes[i / 4]), i % 4 * 2, 0, 3);
    _mm256_or_si256(low, bits(load_32(&block.high_bits), i, 2, 4))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn six_bit_scales<B: Pod>(block: &B) -> SubBlockScales {
    // After two half-precision numbers, three words as in `SubScales::unpack`, of which come scales 0 to 3 and 4
    // to 7, minima 0 to 3 and 4 to 7.
    let packed = load_16(first(block));
    let low = _mm_srlv_epi32(_mm_shuffle_epi32(packed, 0b11_10_11_01), _mm_setr_epi32(0, 0, 0, 4));
    let low = _mm_and_si128(low, _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f));
    let high = _mm_srli_epi32(_mm_shuffle_epi32(packed, 0b10_10_01_01), 2);
    let high = _mm_and_si128(high, _mm_setr_epi32(0, 0x3030_3030, 0, 0x3030_3030));
    let both = _mm256_cvtepu8_epi16(_mm_or_si128(low, high));
    SubBlockScales {
        scales: _mm256_permute4x64_epi64(both, 0b01_00_01_00),
        minima: _mm256_permute4x64_epi64(both, 0b11_10_11_10),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q4_k_codes(block: &Q4_K, i: usize) -> __m256i {
    bits(load_32(&block.codes[i / 2]), i % 2 * 4, 0, 15)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q5_k_codes(block: &Q5_K, i: usize) -> __m256i {
    let low = bits(load_32(&block.codes[i / 2]), i % 2 * 4, 0, 15);
    _mm256_or_si256(low, bits(load_32(&block.high_bits), i, 4, 16))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q6_k_scales(block: &Q6_K) -> SubBlockScales {
    let scales = _mm256_cvtepi8_epi16(even_then_odd(load_16(bytemuck::cast_ref(&block.sub_scales))));
    SubBlockScales { scales, minima: _mm256_slli_epi16(scales, 5) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q6_k_codes(block: &Q6_K, i: usize) -> __m256i {
    let halves = block.codes[i / 4].as_chunks().0;
    let low = bits(load_32(&halves[i % 2]), i % 4 / 2 * 4, 0, 15);
    _mm256_or_si256(low, bits(load_32(&block.high_bits[i / 4]), i % 4 * 2, 4, 48))
}

/// Signed codes, 128 more.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn signed_codes(block: &impl SignedCodes, i: usize) -> __m256i {
    _mm256_xor_si256(load_32(&bytemuck::cast(block.codes(i))), _mm256_set1_epi8(-128))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn signed_scales(block: &impl SignedCodes) -> SubBlockScales {
    let scales = _mm256_cvtepi8_epi16(even_then_odd(load_16(&bytemuck::cast(block.sub_scales()))));
    SubBlockScales { scales, minima: _mm256_slli_epi16(scales, 7) }
}

/// The scale of a block with signed codes, also as that of its minima.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn signed_factors(block: &impl SignedCodes) -> __m128 {
    _mm_setr_ps(block.scale(), block.scale(), 0.0, 0.0)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq4_xs_scales(block: &IQ4_XS) -> SubBlockScales {
    // As `IQ4_XS::sub_scales`, in lanes of 32 bits.
    let low = _mm256_set1_epi32(i32::from_le_bytes(block.scales_low));
    let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    let high = _mm256_set1_epi32(i32::from(u16::from_le_bytes(block.scales_high)) << 4);
    let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
    let scales = _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi32(48)));
    let scales = _mm256_sub_epi32(scales, _mm256_set1_epi32(32));
    let scales = _mm256_permute4x64_epi64(_mm256_packs_epi32(scales, scales), 0b10_00_10_00);
    SubBlockScales { scales, minima: _mm256_slli_epi16(scales, 7) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn iq4_xs_codes(block: &IQ4_XS, i: usize) -> __m256i {
    let [low, high] = iq4_codes([&block.codes[i]; 2]);
    _mm256_blend_epi32(low, high, 0xf0)
}
