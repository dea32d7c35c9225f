//! Blocks of 16 weight rows, transposed so that a vector holds what belongs to the same columns of all of them.

#![expect(clippy::needless_range_loop, reason = "iterators over arrays of vectors go through memory")]

use std::arch::x86_64::*;

use bytemuck::Pod;

use super::avx512::{load, store};
use super::avx512_blocks::load_four;
use super::code_panel::{Panel, group_len, zero_point};
use super::x86_blocks::*;
use crate::Format;

/// Rows that are transposed at a time, one for each lane.
pub(super) const LANES: usize = 16;

/// Writes the blocks of [`LANES`] rows in `format`, equally many of each, to a half of a panel.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn put_rows(format: Format, rows: [&[u8]; LANES], panel: &mut Panel, half: usize) {
    let has_minima = zero_point(format).is_none();
    match format {
        Format::Q4_0 => put_blocks::<Q4_0>(
            rows,
            Half { panel, half, has_minima },
            |rows, at| rows.nibbles(at, |b| &b.codes),
            |rows, at| rows.halves(at),
        ),
        Format::Q4_1 => put_blocks::<Q4_1>(
            rows,
            Half { panel, half, has_minima },
            |rows, at| rows.nibbles(at, |b| &b.codes),
            |rows, at| rows.halves(at),
        ),
        Format::Q5_0 => put_blocks::<Q5_0>(
            rows,
            Half { panel, half, has_minima },
            |rows, at| with_fifth_bits(rows.nibbles(at, |b| &b.codes), rows.word(at, |b| b.high_bits)),
            |rows, at| rows.halves(at),
        ),
        Format::Q5_1 => put_blocks::<Q5_1>(
            rows,
            Half { panel, half, has_minima },
            |rows, at| with_fifth_bits(rows.nibbles(at, |b| &b.codes), rows.word(at, |b| b.high_bits)),
            |rows, at| rows.halves(at),
        ),
        Format::Q8_0 => put_blocks::<Q8_0>(
            rows,
            Half { panel, half, has_minima },
            |rows, at| {
                let half =
                    |half: usize| rows.words(at, |b| &bytemuck::cast_ref::<_, [[u8; 16]; 2]>(&b.codes)[half]);
                [raised(half(0)), raised(half(1))]
            },
            |rows, at| rows.halves(at),
        ),
        Format::IQ4_NL => put_blocks::<IQ4_NL>(
            rows,
            Half { panel, half, has_minima },
            |rows, at| {
                let [low, high] = rows.nibbles(at, |b| &b.codes);
                [looked_up(&IQ4_UNSIGNED, low), looked_up(&IQ4_UNSIGNED, high)]
            },
            |rows, at| rows.halves(at),
        ),
        Format::MXFP4 => put_blocks::<MXFP4>(
            rows,
            Half { panel, half, has_minima },
            |rows, at| {
                let [low, high] = rows.nibbles(at, |b| &b.codes);
                [looked_up(&MXFP4_UNSIGNED, low), looked_up(&MXFP4_UNSIGNED, high)]
            },
            |rows, at| [mxfp4_scales(rows.word(at, |b| [b.exponent, 0, 0, 0])), _mm512_setzero_ps()],
        ),
        Format::Q4_K => put_q4_k(rows, Half::<8, 8> { panel, half, has_minima }),
        Format::Q5_K => put_q5_k(rows, Half::<8, 8> { panel, half, has_minima }),
        Format::Q6_K => put_q6_k(rows, Half::<16, 4> { panel, half, has_minima }),
        format if group_len(format) == 16 => {
            const SIXTEEN: usize = 16;
            const FOUR: usize = 4;
            let out = Half::<16, 4> { panel, half, has_minima };
            for_super_block_format!(format, put_super_blocks, [SIXTEEN, FOUR], (rows, out))
        }
        format => {
            const EIGHT: usize = 8;
            let out = Half::<8, 8> { panel, half, has_minima };
            for_super_block_format!(format, put_super_blocks, [EIGHT, EIGHT], (rows, out))
        }
    }
}

/// Half of a panel, which takes codes, scales and minima of [`LANES`] rows, block after block.
///
/// `GROUPS`: groups of a block. `QUADS`: a quarter of the length of a group.
struct Half<'a, const GROUPS: usize, const QUADS: usize> {
    panel: &'a mut Panel,
    half: usize,
    /// False if the minima are those of a [`zero_point`].
    has_minima: bool,
}

impl<const GROUPS: usize, const QUADS: usize> Half<'_, GROUPS, QUADS> {
    /// Four columns of each row in block `at`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn put_codes(&mut self, at: usize, group: usize, quad: usize, codes: __m512i) {
        let column = (at * GROUPS + group) * QUADS + quad;
        let halves: &mut [[f32; LANES]; 2] = bytemuck::cast_mut(&mut self.panel.codes[column]);
        store(_mm512_castsi512_ps(codes), &mut halves[self.half]);
    }

    /// The scale of each row for a group of columns.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn put_scales(&mut self, at: usize, group: usize, scales: __m512) {
        store(scales, &mut self.panel.scales[at * GROUPS + group].as_chunks_mut().0[self.half]);
    }

    /// Unit of the scales and of the minima of each row.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn put_factors(&mut self, at: usize, factors: [__m512; 2]) {
        let [scales, minima] = &mut self.panel.factors[at];
        store(factors[0], &mut scales.as_chunks_mut().0[self.half]);
        store(factors[1], &mut minima.as_chunks_mut().0[self.half]);
    }

    /// The minimum of each row for a group of columns.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn put_minima(&mut self, at: usize, group: usize, minima: __m512) {
        if self.has_minima {
            store(minima, &mut self.panel.minima[at * GROUPS + group].as_chunks_mut().0[self.half]);
        }
    }
}

/// The blocks of [`LANES`] rows, equally many of each.
#[derive(Clone, Copy)]
struct Rows<'a, B> {
    rows: [&'a [B]; LANES],
    /// Blocks of each row.
    len: usize,
}

impl<'a, B> Rows<'a, B> {
    #[inline(always)]
    fn new(rows: [&'a [B]; LANES]) -> Self {
        let len = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == len));
        Rows { rows, len }
    }

    #[inline(always)]
    fn block(&self, row: usize, at: usize) -> &'a B {
        debug_assert!(at < self.len);
        // SAFETY: all rows are equally long, and `at` counts their blocks.
        unsafe { self.rows[row].get_unchecked(at) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn four(&self, row: usize, at: usize, bytes: &impl Fn(&B) -> &[u8; 16]) -> __m512i {
        let block = |i: usize| bytes(self.block(row + 4 * i, at));
        load_four([block(0), block(1), block(2), block(3)])
    }

    /// The four words of 16 bytes of each block.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn words(&self, at: usize, bytes: impl Fn(&B) -> &[u8; 16]) -> [__m512i; 4] {
        // Written out, since what is called by way of `map` isn't inlined.
        transposed([
            self.four(0, at, &bytes),
            self.four(1, at, &bytes),
            self.four(2, at, &bytes),
            self.four(3, at, &bytes),
        ])
    }

    /// The low halves of 16 bytes of each block as words of four codes, and the high halves.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn nibbles(&self, at: usize, bytes: impl Fn(&B) -> &[u8; 16]) -> [[__m512i; 4]; 2] {
        let [a, b, c, d] = self.words(at, bytes);
        [
            [bits::<0>(a, 15), bits::<0>(b, 15), bits::<0>(c, 15), bits::<0>(d, 15)],
            [bits::<4>(a, 15), bits::<4>(b, 15), bits::<4>(c, 15), bits::<4>(d, 15)],
        ]
    }

    /// A word of each block.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn word(&self, at: usize, word: impl Fn(&B) -> [u8; 4]) -> __m512i {
        let mut words = [[0; 4]; LANES];
        for (row, out) in words.iter_mut().enumerate() {
            *out = word(self.block(row, at));
        }
        _mm512_castps_si512(load(&bytemuck::cast(words)))
    }
}

impl<B: Pod> Rows<'_, B> {
    /// The two half-precision numbers that each block begins with; in formats with one, the second is nonsense.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn halves(&self, at: usize) -> [__m512; 2] {
        let words = self.word(at, |block| *first(block));
        [low_halves(words), low_halves(_mm512_srli_epi32::<16>(words))]
    }
}

/// Transposes words of 32 bits: vector `r` holds four words of row `r` and of every fourth after it; vector `i` of what is
/// returned holds word `i` of all rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn transposed([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// `codes` are the words of the first 16 codes of each row's block, and of the last 16; `factors` their scales and minima.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn put_blocks<B: Pod>(
    rows: [&[u8]; LANES],
    mut out: Half<'_, 1, 8>,
    codes: impl Fn(&Rows<'_, B>, usize) -> [[__m512i; 4]; 2],
    factors: impl Fn(&Rows<'_, B>, usize) -> [__m512; 2],
) {
    let rows = Rows::new(rows.map(|row| bytemuck::cast_slice::<_, B>(row)));
    for at in 0..rows.len {
        let [low, high] = codes(&rows, at);
        for i in 0..4 {
            out.put_codes(at, 0, i, low[i]);
            out.put_codes(at, 0, 4 + i, high[i]);
        }
        let [scales, minima] = factors(&rows, at);
        out.put_scales(at, 0, scales);
        out.put_minima(at, 0, minima);
    }
}

/// The half-precision numbers in the lower halves of words.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn low_halves(words: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

/// Codes of 4 bits with a fifth: of the first 16 codes it is bit 0 to 15 of a word, of the last 16 bit 16 to 31.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn with_fifth_bits([mut low, mut high]: [[__m512i; 4]; 2], fifth_bits: __m512i) -> [[__m512i; 4]; 2] {
    // Of the four codes of a word, the bytes that begin four bits below their fifth bits. Positions count round, in 64 bits.
    let begin = _mm512_set1_epi64(0x1f1e_1d1c_fffe_fdfc_u64 as i64);
    let fifth = _mm512_set1_epi8(16);
    for i in 0..4 {
        let move_by = _mm512_set1_epi8(4 * i as i8);
        let of_low = _mm512_multishift_epi64_epi8(_mm512_add_epi8(begin, move_by), fifth_bits);
        let of_high = _mm512_add_epi8(begin, _mm512_add_epi8(move_by, fifth));
        let of_high = _mm512_multishift_epi64_epi8(of_high, fifth_bits);
        low[i] = or(low[i], _mm512_and_si512(of_low, fifth));
        high[i] = or(high[i], _mm512_and_si512(of_high, fifth));
    }
    [low, high]
}

/// As `MXFP4::half_scale`, of the exponents in words.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn mxfp4_scales(exponents: __m512i) -> __m512 {
    let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
    let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponents);
    let is_subnormal = _mm512_cmplt_epi32_mask(exponents, _mm512_set1_epi32(2));
    _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, is_subnormal, subnormal))
}

/// Signed codes, 128 more.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn raised([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let sign = _mm512_set1_epi8(-128);
    [
        _mm512_xor_si512(a, sign),
        _mm512_xor_si512(b, sign),
        _mm512_xor_si512(c, sign),
        _mm512_xor_si512(d, sign),
    ]
}

/// Values of codes of 4 bits, by a table.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn looked_up(values: &[u8; 16], [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let values = _mm512_broadcast_i32x4(load_16(values));
    [
        _mm512_shuffle_epi8(values, a),
        _mm512_shuffle_epi8(values, b),
        _mm512_shuffle_epi8(values, c),
        _mm512_shuffle_epi8(values, d),
    ]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn put_super_blocks<B: Pod, const WIDE: bool, const GROUPS: usize, const QUADS: usize>(
    rows: [&[u8]; LANES],
    mut out: Half<'_, GROUPS, QUADS>,
    codes: impl Fn(&B, usize) -> __m256i,
    scales: impl Fn(&B) -> SubBlockScales,
    factors: impl Fn(&B) -> __m128,
) {
    let rows = Rows::new(rows.map(|row| bytemuck::cast_slice::<_, B>(row)));
    let mut bytes = [[[0; 32]]; LANES];
    for at in 0..rows.len {
        for i in 0..8 {
            for (r, [bytes]) in bytes.iter_mut().enumerate() {
                store_32(codes(rows.block(r, at), i), bytes);
            }
            let bytes = Rows::new(bytes.each_ref().map(|bytes| &bytes[..]));
            for half in 0..2 {
                let words = bytes.words(0, |bytes: &[u8; 32]| &bytes.as_chunks().0[half]);
                for k in 0..4 {
                    let quad = 8 * i + 4 * half + k;
                    out.put_codes(at, quad / QUADS, quad % QUADS, words[k]);
                }
            }
        }
        let mut all_scales = [[0.0; LANES]; GROUPS];
        let mut all_minima = [[0.0; LANES]; GROUPS];
        let mut all_factors = [[0.0; LANES]; 2];
        for r in 0..LANES {
            let block = rows.block(r, at);
            let SubBlockScales { scales, minima } = scales(block);
            let (scales, minima) = (words(scales), words(minima));
            let [scale, minimum, ..] = lanes(_mm256_castps128_ps256(factors(block)));
            (all_factors[0][r], all_factors[1][r]) = (scale, minimum);
            for group in 0..GROUPS {
                let sub_block = group * 16 / GROUPS;
                let i = sub_block / 2 + sub_block % 2 * 8;
                all_scales[group][r] = f32::from(scales[i]);
                all_minima[group][r] = f32::from(minima[i]);
            }
        }
        out.put_factors(at, all_factors.each_ref().map(|factors| load(factors)));
        for group in 0..GROUPS {
            out.put_scales(at, group, load(&all_scales[group]));
            out.put_minima(at, group, load(&all_minima[group]));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn put_q4_k(rows: [&[u8]; LANES], mut out: Half<'_, 8, 8>) {
    let rows = Rows::new(rows.map(bytemuck::cast_slice::<_, Q4_K>));
    for at in 0..rows.len {
        put_six_bit_scales(rows.words(at, |block| first(block)), at, &mut out);
        for i in 0..4 {
            for half in 0..2 {
                let words = rows.words(at, |block| &block.codes[i].as_chunks().0[half]);
                for k in 0..4 {
                    out.put_codes(at, 2 * i, 4 * half + k, bits::<0>(words[k], 15));
                    out.put_codes(at, 2 * i + 1, 4 * half + k, bits::<4>(words[k], 15));
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn put_q5_k(rows: [&[u8]; LANES], mut out: Half<'_, 8, 8>) {
    let rows = Rows::new(rows.map(bytemuck::cast_slice::<_, Q5_K>));
    for at in 0..rows.len {
        put_six_bit_scales(rows.words(at, |block| first(block)), at, &mut out);
        for half in 0..2 {
            let high = rows.words(at, |block| &block.high_bits.as_chunks().0[half]);
            for i in 0..4 {
                let low = rows.words(at, |block| &block.codes[i].as_chunks().0[half]);
                for k in 0..4 {
                    let quad = 4 * half + k;
                    // The fifth bits of two sub-blocks, as the lowest.
                    let fifths = _mm512_srl_epi16(high[k], _mm_cvtsi32_si128(2 * i as i32));
                    let even = or(bits::<0>(low[k], 15), shifted_up::<4>(bits::<0>(fifths, 1)));
                    let odd = or(bits::<4>(low[k], 15), shifted_up::<4>(bits::<1>(fifths, 1)));
                    out.put_codes(at, 2 * i, quad, even);
                    out.put_codes(at, 2 * i + 1, quad, odd);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn put_q6_k(rows: [&[u8]; LANES], mut out: Half<'_, 16, 4>) {
    let rows = Rows::new(rows.map(bytemuck::cast_slice::<_, Q6_K>));
    for at in 0..rows.len {
        for part in 0..4 {
            let (i, half) = (part / 2, part % 2);
            let high = rows.words(at, |block| &block.high_bits[i].as_chunks().0[half]);
            // Of each 128 values the first and third 32, then the second and fourth.
            let one = rows.words(at, |block| &block.codes[i].as_chunks().0[half]);
            let two = rows.words(at, |block| &block.codes[i].as_chunks().0[2 + half]);
            for k in 0..4 {
                let (one, two, high, group) = (one[k], two[k], high[k], 8 * i + half);
                out.put_codes(at, group, k, or(bits::<0>(one, 15), shifted_up::<4>(bits::<0>(high, 3))));
                out.put_codes(at, group + 2, k, or(bits::<0>(two, 15), shifted_up::<2>(bits::<0>(high, 12))));
                out.put_codes(at, group + 4, k, or(bits::<4>(one, 15), bits::<0>(high, 48)));
                out.put_codes(at, group + 6, k, or(bits::<4>(two, 15), bits::<2>(high, 48)));
            }
        }
        let scale = low_halves(rows.word(at, |block| [block.scale[0], block.scale[1], 0, 0]));
        out.put_factors(at, [scale, scale]);
        let sub_scales = rows.words(at, |block| bytemuck::cast_ref(&block.sub_scales));
        for i in 0..4 {
            // The sub-scale of each row as the highest byte of a word.
            let moved = [
                _mm512_slli_epi32::<24>(sub_scales[i]),
                _mm512_slli_epi32::<16>(sub_scales[i]),
                _mm512_slli_epi32::<8>(sub_scales[i]),
                sub_scales[i],
            ];
            for byte in 0..4 {
                out.put_scales(at, 4 * i + byte, _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(moved[byte])));
            }
        }
    }
}

/// Writes scales and minima of the eight sub-blocks of blocks that begin with these words: two half-precision numbers, and
/// three words as in `SubScales::unpack`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn put_six_bit_scales([factors, a, b, c]: [__m512i; 4], at: usize, out: &mut Half<'_, 8, 8>) {
    out.put_factors(at, [low_halves(factors), low_halves(_mm512_srli_epi32::<16>(factors))]);
    let scales = [bits::<0>(a, 63), or(bits::<0>(c, 15), bits::<2>(a, 48))];
    let minima = [bits::<0>(b, 63), or(bits::<4>(c, 15), bits::<2>(b, 48))];
    for i in 0..2 {
        for byte in 0..4 {
            out.put_scales(at, 4 * i + byte, number(scales[i], byte));
            out.put_minima(at, 4 * i + byte, number(minima[i], byte));
        }
    }
}

/// A byte of each word as a float.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn number(words: __m512i, byte: usize) -> __m512 {
    let moved = _mm512_srl_epi32(words, _mm_cvtsi32_si128(8 * byte as i32));
    _mm512_cvtepi32_ps(_mm512_and_si512(moved, _mm512_set1_epi32(0xff)))
}

/// Bits of each byte, moved down; `mask` has at most as many as stay within a byte.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn bits<const DOWN: u32>(bytes: __m512i, mask: i8) -> __m512i {
    _mm512_and_si512(_mm512_srli_epi16::<DOWN>(bytes), _mm512_set1_epi8(mask))
}

/// Bits of each byte, moved up; they stay within the byte.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn shifted_up<const UP: u32>(bytes: __m512i) -> __m512i {
    _mm512_slli_epi16::<UP>(bytes)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn or(a: __m512i, b: __m512i) -> __m512i {
    _mm512_or_si512(a, b)
}
