//! Unpacking of blocks into vectors of codes, for NEON with and without the dot product extension.

use std::arch::aarch64::*;

use bytemuck::Pod;

pub(super) use crate::codec::{
    DOUBLED_E2M1_VALUES, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_VALUES, IQ4_XS,
    MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, SignedCodes, TQ1_0, TQ2_0,
};

/// Constants of the sub-blocks of a block of 256 values: each value is
/// `factor * scale * code - other_factor * minimum`. There are 16; a sub-block of 32 values counts as two.
#[derive(Clone, Copy)]
pub(super) struct SubBlockScales {
    pub(super) scales: int8x16_t,
    pub(super) minima: int8x16_t,
}

/// Calls `$block` or `$super_block` with what unpacks `$format`, after the arguments given. Codes are the signed
/// numbers that they stand for.
///
/// * `$block::<B>(.., codes, lines)` for blocks of 32: `codes` of a block are those of the first 16 and of the last 16
///   values, `lines` of four blocks their scales and their minima.
/// * `$super_block::<B>(.., codes, scales, factors)` for blocks of 256: `codes(block, i)` are those of sub-blocks
///   `4 i` to `4 i + 3`, and `factors(block)` its scale and minimum.
macro_rules! for_format {
    ($format:expr, $block:ident, $super_block:ident, ($($argument:expr),*)) => {
        match $format {
            Format::Q4_0 => $block::<Q4_0>($($argument,)* |b| signed(nibbles(&b.codes), 8), |b| scales(b)),
            Format::Q4_1 => $block::<Q4_1>($($argument,)* |b| signed(nibbles(&b.codes), 0), |b| lines(b)),
            Format::Q5_0 => $block::<Q5_0>($($argument,)* |b| signed(q5_codes(&b.codes, b.high_bits), 16), |b| scales(b)),
            Format::Q5_1 => $block::<Q5_1>($($argument,)* |b| signed(q5_codes(&b.codes, b.high_bits), 0), |b| lines(b)),
            Format::Q8_0 => $block::<Q8_0>($($argument,)* |b| load_codes(&b.codes), |b| scales(b)),
            Format::IQ4_NL => $block::<IQ4_NL>($($argument,)* |b| looked_up(&IQ4_VALUES, nibbles(&b.codes)), |b| scales(b)),
            Format::MXFP4 => $block::<MXFP4>($($argument,)* |b| looked_up(&DOUBLED_E2M1_VALUES, nibbles(&b.codes)), |b| mxfp4_scales(b)),
            Format::Q2_K => $super_block::<Q2_K>($($argument,)* |b, i| signed(two_bits(&b.codes, i), 0), |b| q2_k_scales(b), |b| pair(b.scale, b.minimum)),
            Format::Q3_K => $super_block::<Q3_K>($($argument,)* |b, i| signed(or(two_bits(&b.codes, i), single_bits(&b.high_bits, i, 2)), 4), |b| only_scales(load_16(&b.sub_scales())), |b| pair(b.scale, b.scale)),
            Format::Q4_K => $super_block::<Q4_K>($($argument,)* |b, i| signed(four_bits(&b.codes[i]), 0), |b| six_bit_scales(b.sub_scales.unpack()), |b| pair(b.scale, b.minimum)),
            Format::Q5_K => $super_block::<Q5_K>($($argument,)* |b, i| signed(or(four_bits(&b.codes[i]), single_bits(&b.high_bits, i, 4)), 0), |b| six_bit_scales(b.sub_scales.unpack()), |b| pair(b.scale, b.minimum)),
            Format::Q6_K => $super_block::<Q6_K>($($argument,)* |b, i| signed(q6_k_codes(b, i), 32), |b| only_scales(load_16(&b.sub_scales)), |b| pair(b.scale, b.scale)),
            Format::IQ4_XS => $super_block::<IQ4_XS>($($argument,)* |b, i| iq4_xs_codes(b, i), |b| only_scales(twice(b.sub_scales())), |b| pair(b.scale, b.scale)),
            Format::IQ2_XXS => $super_block::<IQ2_XXS>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::IQ2_XS => $super_block::<IQ2_XS>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::IQ2_S => $super_block::<IQ2_S>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::IQ3_XXS => $super_block::<IQ3_XXS>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::IQ3_S => $super_block::<IQ3_S>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::IQ1_S => $super_block::<IQ1_S>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::IQ1_M => $super_block::<IQ1_M>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::TQ1_0 => $super_block::<TQ1_0>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::TQ2_0 => $super_block::<TQ2_0>($($argument,)* |b, i| signed_block_codes(b, i), |b| only_scales(load_16(&b.sub_scales())), |b| [b.scale(); 2]),
            Format::F32 | Format::F16 | Format::BF16 | Format::Q8_K | Format::AFFINE8 => unreachable!("{} has no 8-bit partner", $format),
        }
    };
}
pub(super) use for_format;

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(values: &[f32; 4]) -> float32x4_t {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { vld1q_f32(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store(v: float32x4_t, values: &mut [f32; 4]) {
    // SAFETY: the array is as long as the vector; the store needs no alignment.
    unsafe { vst1q_f32(values.as_mut_ptr(), v) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_4(values: &[f32; 16]) -> [float32x4_t; 4] {
    let [a, b, c, d]: &[[f32; 4]; 4] = bytemuck::cast_ref(values);
    [load(a), load(b), load(c), load(d)]
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_4(vectors: [float32x4_t; 4], values: &mut [f32; 16]) {
    let values: &mut [[f32; 4]; 4] = bytemuck::cast_mut(values);
    for (vector, values) in vectors.into_iter().zip(values) {
        store(vector, values);
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn lanes(v: float32x4_t) -> [f32; 4] {
    let mut lanes = [0.0; 4];
    store(v, &mut lanes);
    lanes
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_16(codes: &[i8; 16]) -> int8x16_t {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { vld1q_s8(codes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_16_bytes(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_16(v: uint8x16_t, bytes: &mut [u8; 16]) {
    // SAFETY: the array is as long as the vector; the store needs no alignment.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), v) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_codes(codes: &[i8; 32]) -> [int8x16_t; 2] {
    let [first, last]: &[[i8; 16]; 2] = bytemuck::cast_ref(codes);
    [load_16(first), load_16(last)]
}

/// Sums of groups of four of 16 numbers, with 32 bits.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widened(v: int8x16_t) -> [int32x4_t; 4] {
    let (low, high) = (vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v));
    [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)]
}

/// Half-precision numbers.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn halves(numbers: [[u8; 2]; 4]) -> float32x4_t {
    let numbers: [u16; 4] = bytemuck::cast(numbers);
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    vcvt_f32_f16(vreinterpret_f16_u16(unsafe { vld1_u16(numbers.as_ptr()) }))
}

/// The half-precision number that begins at byte `at` of each block.
#[inline]
#[target_feature(enable = "neon")]
fn halves_at<B: Pod>(blocks: [&B; 4], at: usize) -> float32x4_t {
    let [a, b, c, d] = blocks;
    let half = |block| [bytemuck::bytes_of::<B>(block)[at], bytemuck::bytes_of::<B>(block)[at + 1]];
    halves([half(a), half(b), half(c), half(d)])
}

/// Scales and minima of blocks that begin with them.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn lines<B: Pod>(blocks: [&B; 4]) -> [float32x4_t; 2] {
    [halves_at(blocks, 0), halves_at(blocks, 2)]
}

/// [`lines`] where there are no minima.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn scales<B: Pod>(blocks: [&B; 4]) -> [float32x4_t; 2] {
    [halves_at(blocks, 0), vdupq_n_f32(0.0)]
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn mxfp4_scales([a, b, c, d]: [&MXFP4; 4]) -> [float32x4_t; 2] {
    let scales = [a.half_scale(), b.half_scale(), c.half_scale(), d.half_scale()];
    [load(&scales), vdupq_n_f32(0.0)]
}

/// Two half-precision numbers.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn pair(a: [u8; 2], b: [u8; 2]) -> [f32; 2] {
    let [a, b, ..] = lanes(halves([a, b, [0; 2], [0; 2]]));
    [a, b]
}

/// Codes that stand for numbers `zero` less.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn signed<const COUNT: usize>(codes: [uint8x16_t; COUNT], zero: i8) -> [int8x16_t; COUNT] {
    codes.map(|codes| vsubq_s8(vreinterpretq_s8_u8(codes), vdupq_n_s8(zero)))
}

/// The low 4 bits of all bytes, then the high 4 bits.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn nibbles(codes: &[u8; 16]) -> [uint8x16_t; 2] {
    let codes = load_16_bytes(codes);
    [vandq_u8(codes, vdupq_n_u8(15)), vshrq_n_u8::<4>(codes)]
}

/// Values of the codes, as a table.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn looked_up(values: &[i8; 16], codes: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    let values = load_16(values);
    codes.map(|codes| vqtbl1q_s8(values, codes))
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q5_codes(codes: &[u8; 16], high_bits: [u8; 4]) -> [uint8x16_t; 2] {
    const OWN_BYTE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
    const OWN_BIT: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    let high_bits = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(high_bits)));
    let fifth = |bytes| {
        let set = vtstq_u8(vqtbl1q_u8(high_bits, bytes), load_16_bytes(&OWN_BIT));
        vandq_u8(set, vdupq_n_u8(16))
    };
    let [low, high] = nibbles(codes);
    let first = load_16_bytes(&OWN_BYTE);
    [vorrq_u8(low, fifth(first)), vorrq_u8(high, fifth(vaddq_u8(first, vdupq_n_u8(2))))]
}

/// The same bits of each byte for 64 values: those of the first 32 begin at `starts[0]`, those of the others at
/// `starts[1]`. They are moved to bit `to` and masked.
#[inline]
#[target_feature(enable = "neon")]
fn fields(bytes: &[u8; 32], starts: [usize; 2], to: usize, mask: u8) -> [uint8x16_t; 4] {
    let [first, last]: &[[u8; 16]; 2] = bytemuck::cast_ref(bytes);
    let (first, last) = (load_16_bytes(first), load_16_bytes(last));
    let bits = |v: uint8x16_t, start: usize| {
        vandq_u8(vshlq_u8(v, vdupq_n_s8(to as i8 - start as i8)), vdupq_n_u8(mask))
    };
    [bits(first, starts[0]), bits(last, starts[0]), bits(first, starts[1]), bits(last, starts[1])]
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn four_bits(codes: &[u8; 32]) -> [uint8x16_t; 4] {
    fields(codes, [0, 4], 0, 15)
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn two_bits(codes: &[[u8; 32]; 2], i: usize) -> [uint8x16_t; 4] {
    fields(&codes[i / 2], [i % 2 * 4, i % 2 * 4 + 2], 0, 3)
}

/// Single bits of codes, as bit `to`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn single_bits(bytes: &[u8; 32], i: usize, to: usize) -> [uint8x16_t; 4] {
    fields(bytes, [2 * i, 2 * i + 1], to, 1 << to)
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn or(a: [uint8x16_t; 4], b: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    [vorrq_u8(a[0], b[0]), vorrq_u8(a[1], b[1]), vorrq_u8(a[2], b[2]), vorrq_u8(a[3], b[3])]
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q6_k_codes(block: &Q6_K, i: usize) -> [uint8x16_t; 4] {
    let [first, last]: &[[u8; 32]; 2] = bytemuck::cast_ref(&block.codes[i / 2]);
    let start = i % 2 * 4;
    let [a, b, ..] = fields(first, [start; 2], 0, 15);
    let [c, d, ..] = fields(last, [start; 2], 0, 15);
    or([a, b, c, d], fields(&block.high_bits[i / 2], [start, start + 2], 4, 48))
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn iq4_xs_codes(block: &IQ4_XS, i: usize) -> [int8x16_t; 4] {
    let [a, b] = looked_up(&IQ4_VALUES, nibbles(&block.codes[2 * i]));
    let [c, d] = looked_up(&IQ4_VALUES, nibbles(&block.codes[2 * i + 1]));
    [a, b, c, d]
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn signed_block_codes(block: &impl SignedCodes, i: usize) -> [int8x16_t; 4] {
    let [first, last] = [2 * i, 2 * i + 1].map(|i| bytemuck::cast::<[i8; 32], [[i8; 16]; 2]>(block.codes(i)));
    [load_16(&first[0]), load_16(&first[1]), load_16(&last[0]), load_16(&last[1])]
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q2_k_scales(block: &Q2_K) -> SubBlockScales {
    let [scales, minima] = signed(nibbles(&block.scales), 0);
    SubBlockScales { scales, minima }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn six_bit_scales((scales, minima): ([u8; 8], [u8; 8])) -> SubBlockScales {
    SubBlockScales { scales: twice(bytemuck::cast(scales)), minima: twice(bytemuck::cast(minima)) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn only_scales(scales: int8x16_t) -> SubBlockScales {
    SubBlockScales { scales, minima: vdupq_n_s8(0) }
}

/// The scales of sub-blocks of 32 values, for each half of theirs.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn twice(scales: [i8; 8]) -> int8x16_t {
    let scales = vcreate_s8(u64::from_le_bytes(bytemuck::cast(scales)));
    vcombine_s8(vzip1_s8(scales, scales), vzip2_s8(scales, scales))
}
