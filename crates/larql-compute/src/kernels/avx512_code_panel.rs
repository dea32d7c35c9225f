//! Products of activation rows in 8 bits with AVX-512.
//!
//! The codes of 16 weight rows are [transposed](super::avx512_transpose) in registers and stored as a panel, so that a lane
//! adds up one row.
//!
//! # Order of sums
//!
//! The sum of a block's products, each a code of the weights without its zero point times a code of the activations, is
//! exact, whatever its order. Of a block of 256 the products are multiplied by the integer scales of sub-blocks before they
//! are added up. What follows is rounded, in the same order as in [`avx512_rows`](super::avx512_rows): the sum is multiplied
//! by the scale of the weights, the minima of a block of 256 are taken off, and the result, times the scale of the
//! activations, is added to the sum of the row. Minima of a block of 32 are added after that.
//!
//! Blocks of 256 are added up one after another. Of each [`BLOCKS_ADDED_UP`] blocks of 32, every fourth is added to the
//! same of [`SUMS_OF_BLOCKS`] sums, and the total of these, `(a + b) + (c + d)`, to the sum of the row.

use std::arch::x86_64::*;
use std::ops::Range;

use super::avx512::{load, store};
use super::avx512_transpose::{LANES, put_rows};
use super::code_panel::{Activation, COLUMNS, Panel, group_len, zero_point};
use super::panel::{BATCH, ROWS as PANEL_ROWS, Sums};
use crate::{Format, MatRef};

/// Sums that consecutive blocks of 32 are added to in turn.
pub(super) const SUMS_OF_BLOCKS: usize = 4;

/// Blocks of 32 after which these sums are added up: those of a panel.
pub(super) const BLOCKS_ADDED_UP: usize = COLUMNS / 32;

/// Makes some columns, whole blocks, of up to 32 weight rows the panel. In place of missing rows the last one is there again.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn fill(weights: MatRef<'_>, columns: Range<usize>, panel: &mut Panel) {
    let row_bytes = weights.row_part(0, columns.clone()).len();
    // After the last columns come the first ones of the rows that follow the panel's.
    let ahead = match columns.end == weights.cols() {
        false => row_bytes,
        true => PANEL_ROWS * weights.row_bytes() - (weights.row_bytes() - row_bytes),
    };
    for half in 0..weights.rows().div_ceil(LANES) {
        let rows = rows(weights, half, columns.clone());
        for row in rows {
            for line in (0..row.len()).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(ahead + line).cast());
            }
        }
        put_rows(weights.format(), rows, panel, half);
    }
}

/// Some columns of [`LANES`] rows; in place of missing ones the last.
fn rows<'a>(weights: MatRef<'a>, half: usize, columns: Range<usize>) -> [&'a [u8]; LANES] {
    let last = weights.rows() - 1;
    std::array::from_fn(|r| weights.row_part((LANES * half + r).min(last), columns.clone()))
}

/// Adds the products of the panel's rows, which are in `format`, with those of the first `count` of `x`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn multiply(
    format: Format,
    panel: &Panel,
    x: &[Activation<'_>; BATCH],
    count: usize,
    sums: &mut Sums,
) {
    match count {
        1 => multiply_rows::<1>(format, panel, x, sums),
        2 => multiply_rows::<2>(format, panel, x, sums),
        3 => multiply_rows::<3>(format, panel, x, sums),
        _ => multiply_rows::<BATCH>(format, panel, x, sums),
    }
}

/// The same for `N` rows of `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_rows<const N: usize>(
    format: Format,
    panel: &Panel,
    x: &[Activation<'_>; BATCH],
    sums: &mut Sums,
) {
    let has_minima = zero_point(format).is_none();
    match format {
        _ if format.block_len() == 32 => multiply_blocks::<N>(panel, has_minima, x, sums),
        // Half a block adds up to at most 4 * 63 * 32 * 15 * 127, less than 2^24; of the other two to less.
        Format::Q4_K => multiply_super_blocks::<8, 8, false, N>(panel, has_minima, x, sums),
        Format::Q2_K | Format::Q3_K => multiply_super_blocks::<4, 16, false, N>(panel, has_minima, x, sums),
        _ if group_len(format) == 32 => multiply_super_blocks::<8, 8, true, N>(panel, has_minima, x, sums),
        _ => multiply_super_blocks::<4, 16, true, N>(panel, has_minima, x, sums),
    }
}

/// Products of a group of columns, `[N][2]` vectors: `$quads` are its codes, `$x` are those of an activation row and `$starts`
/// what its sums begin with, for each of `N` rows. A macro, because a function is not inlined in every loop, and the products
/// would go through memory.
macro_rules! multiply_group {
    ($n:ident, $quads:expr, |$row:ident| ($x:expr, $start:expr)) => {{
        let mut products = [[_mm512_setzero_si512(); 2]; $n];
        for $row in 0..$n {
            products[$row] = [_mm512_set1_epi32($start); 2];
        }
        for (q, quad) in $quads.iter().enumerate() {
            let [first, last]: &[[f32; 16]; 2] = bytemuck::cast_ref(quad);
            let weights = [_mm512_castps_si512(load(first)), _mm512_castps_si512(load(last))];
            for $row in 0..$n {
                let x = _mm512_set1_epi32(bytemuck::cast($x[q]));
                products[$row][0] = _mm512_dpbusd_epi32(products[$row][0], weights[0], x);
                products[$row][1] = _mm512_dpbusd_epi32(products[$row][1], weights[1], x);
            }
        }
        products
    }};
}

/// Products of blocks of 32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_blocks<const N: usize>(
    panel: &Panel,
    has_minima: bool,
    x: &[Activation<'_>; BATCH],
    sums: &mut Sums,
) {
    let codes = panel.codes.as_chunks::<8>().0;
    let count = codes.len();
    let (scales, minima) = (&panel.scales[..count], &panel.minima[..count]);
    let x: [_; N] = std::array::from_fn(|n| {
        let Activation { codes, factors, starts, .. } = x[n];
        (&codes.as_chunks::<8>().0[..count], &factors[..count], &starts[..count])
    });
    for start in (0..count).step_by(BLOCKS_ADDED_UP) {
        let end = (start + BLOCKS_ADDED_UP).min(count);
        let mut by_block = [[[_mm512_setzero_ps(); 2]; N]; SUMS_OF_BLOCKS];
        for (first, by_block) in by_block.iter_mut().enumerate() {
            let mut totals = [[_mm512_setzero_ps(); 2]; N];
            for block in (start + first..end).step_by(SUMS_OF_BLOCKS) {
                let products = multiply_group!(N, codes[block], |n| (x[n].0[block], x[n].2[block]));
                let (scales, minima) = (load_both(&scales[block]), load_both(&minima[block]));
                for ((totals, products), (_, x_factors, _)) in totals.iter_mut().zip(products).zip(&x) {
                    let [scale, scaled_sum] = x_factors[block];
                    for half in 0..2 {
                        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(products[half]), scales[half]);
                        totals[half] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(scale), totals[half]);
                        if has_minima {
                            totals[half] =
                                _mm512_fmadd_ps(minima[half], _mm512_set1_ps(scaled_sum), totals[half]);
                        }
                    }
                }
            }
            *by_block = totals;
        }
        let [a, b, c, d] = &by_block;
        for (n, sums) in sums[..N].iter_mut().enumerate() {
            let mut totals = load_both(sums);
            for half in 0..2 {
                let (ab, cd) = (_mm512_add_ps(a[n][half], b[n][half]), _mm512_add_ps(c[n][half], d[n][half]));
                totals[half] = _mm512_add_ps(totals[half], _mm512_add_ps(ab, cd));
            }
            store_both(totals, sums);
        }
    }
}

/// Products of blocks of 256.
///
/// `QUADS`: a quarter of the length of a group. `GROUPS`: groups of a block. `WIDE`: half a block may add up to 2^24 or more,
/// which floats do not hold exactly.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_super_blocks<const QUADS: usize, const GROUPS: usize, const WIDE: bool, const N: usize>(
    panel: &Panel,
    has_minima: bool,
    x: &[Activation<'_>; BATCH],
    sums: &mut Sums,
) {
    let codes = panel.codes.as_chunks::<QUADS>().0.as_chunks::<GROUPS>().0;
    let count = codes.len();
    let scales = &panel.scales.as_chunks::<GROUPS>().0[..count];
    let minima = &panel.minima.as_chunks::<GROUPS>().0[..count];
    let x: [_; N] = std::array::from_fn(|n| {
        let Activation { codes, factors, starts, sums } = x[n];
        (
            &codes.as_chunks::<QUADS>().0.as_chunks::<GROUPS>().0[..count],
            &factors.as_chunks::<GROUPS>().0[..count],
            &starts.as_chunks::<GROUPS>().0[..count],
            &sums.as_chunks::<GROUPS>().0[..count],
        )
    });
    let mut totals = [[_mm512_setzero_ps(); 2]; N];
    for (totals, sums) in totals.iter_mut().zip(&*sums) {
        *totals = load_both(sums);
    }
    for block in 0..count {
        // Sums of products as integers or, exactly, as floats.
        let mut all = [[_mm512_setzero_ps(); 2]; N];
        if WIDE {
            let mut sums = [[_mm512_setzero_si512(); 2]; N];
            for (group, scales) in scales[block].iter().enumerate() {
                let products =
                    multiply_group!(N, codes[block][group], |n| (x[n].0[block][group], x[n].2[block][group]));
                let scales = load_both(scales);
                for (sums, products) in sums.iter_mut().zip(products) {
                    for half in 0..2 {
                        let scaled = _mm512_mullo_epi32(products[half], _mm512_cvtps_epi32(scales[half]));
                        sums[half] = _mm512_add_epi32(sums[half], scaled);
                    }
                }
            }
            for (all, sums) in all.iter_mut().zip(sums) {
                *all = [_mm512_cvtepi32_ps(sums[0]), _mm512_cvtepi32_ps(sums[1])];
            }
        } else {
            for half_block in 0..2 {
                let mut sums = [[_mm512_setzero_ps(); 2]; N];
                for group in half_block * GROUPS / 2..(half_block + 1) * GROUPS / 2 {
                    let products = multiply_group!(N, codes[block][group], |n| (
                        x[n].0[block][group],
                        x[n].2[block][group]
                    ));
                    let scales = load_both(&scales[block][group]);
                    for (sums, products) in sums.iter_mut().zip(products) {
                        for half in 0..2 {
                            let products = _mm512_cvtepi32_ps(products[half]);
                            sums[half] = _mm512_fmadd_ps(products, scales[half], sums[half]);
                        }
                    }
                }
                for (all, sums) in all.iter_mut().zip(sums) {
                    *all = [_mm512_add_ps(all[0], sums[0]), _mm512_add_ps(all[1], sums[1])];
                }
            }
        }
        let mut all_minima = [[_mm512_setzero_ps(); 2]; N];
        if has_minima {
            for (group, minima) in minima[block].iter().enumerate() {
                let minima = load_both(minima);
                for (all, (.., x_sums)) in all_minima.iter_mut().zip(&x) {
                    let sum = _mm512_set1_ps(x_sums[block][group]);
                    all[0] = _mm512_fmadd_ps(minima[0], sum, all[0]);
                    all[1] = _mm512_fmadd_ps(minima[1], sum, all[1]);
                }
            }
        }
        let [scales, minima] = panel.factors[block].each_ref().map(|factors| load_both(factors));
        for n in 0..N {
            let x_scale = _mm512_set1_ps(x[n].1[block][0][0]);
            for half in 0..2 {
                let mut scaled = _mm512_mul_ps(all[n][half], scales[half]);
                if has_minima {
                    scaled = _mm512_fnmadd_ps(all_minima[n][half], minima[half], scaled);
                }
                totals[n][half] = _mm512_fmadd_ps(scaled, x_scale, totals[n][half]);
            }
        }
    }
    for (totals, sums) in totals.into_iter().zip(sums) {
        store_both(totals, sums);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn load_both(values: &[f32; PANEL_ROWS]) -> [__m512; 2] {
    let [first, last]: &[[f32; LANES]; 2] = bytemuck::cast_ref(values);
    [load(first), load(last)]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn store_both(vectors: [__m512; 2], values: &mut [f32; PANEL_ROWS]) {
    let [first, last]: &mut [[f32; LANES]; 2] = bytemuck::cast_mut(values);
    store(vectors[0], first);
    store(vectors[1], last);
}
