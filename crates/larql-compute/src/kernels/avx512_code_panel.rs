//! Products of activation rows in 8 bits with AVX-512.
//!
//! The codes of 16 weight rows are [transposed](super::avx512_transpose) in registers and stored as a panel, so that a lane
//! adds up one row.

use std::arch::x86_64::*;
use std::ops::Range;

use super::avx512::{load, store};
use super::avx512_transpose::{LANES, put_rows};
use super::code_panel::{Activation, Panel, group_len, zero_point};
use super::panel::{BATCH, ROWS as PANEL_ROWS, Sums};
use crate::{Format, MatRef};

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
    let minima: &[_] = if zero_point(format).is_none() { &panel.minima } else { &[] };
    match (format.block_len(), group_len(format)) {
        (32, _) => multiply_blocks::<8, 1>(panel, minima, x, count, sums),
        (_, 32) => multiply_blocks::<8, 8>(panel, minima, x, count, sums),
        _ => multiply_blocks::<4, 16>(panel, minima, x, count, sums),
    }
}

/// `QUADS`: a quarter of the length of a group. `GROUPS`: groups of a block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_blocks<const QUADS: usize, const GROUPS: usize>(
    panel: &Panel,
    minima: &[[f32; PANEL_ROWS]],
    x: &[Activation<'_>; BATCH],
    count: usize,
    sums: &mut Sums,
) {
    match count {
        1 => multiply_rows::<QUADS, GROUPS, 1>(panel, minima, x, sums),
        2 => multiply_rows::<QUADS, GROUPS, 2>(panel, minima, x, sums),
        3 => multiply_rows::<QUADS, GROUPS, 3>(panel, minima, x, sums),
        _ => multiply_rows::<QUADS, GROUPS, 4>(panel, minima, x, sums),
    }
}

/// The same for `N` rows of `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn multiply_rows<const QUADS: usize, const GROUPS: usize, const N: usize>(
    panel: &Panel,
    minima: &[[f32; PANEL_ROWS]],
    x: &[Activation<'_>; BATCH],
    sums: &mut Sums,
) {
    let blocks = panel.scales.len() / GROUPS;
    let x: [_; N] = std::array::from_fn(|n| {
        let Activation { codes, factors, starts } = x[n];
        (
            &codes.as_chunks::<QUADS>().0.as_chunks::<GROUPS>().0[..blocks],
            &factors.as_chunks::<GROUPS>().0[..blocks],
            &starts.as_chunks::<GROUPS>().0[..blocks],
        )
    });
    let codes = panel.codes.as_chunks::<QUADS>().0.as_chunks::<GROUPS>().0;
    let scales = panel.scales.as_chunks::<GROUPS>().0;
    let minima = minima.as_chunks::<GROUPS>().0;
    let mut totals = [[_mm512_setzero_ps(); 2]; N];
    for (totals, sums) in totals.iter_mut().zip(&*sums) {
        *totals = load_both(sums);
    }
    for (block, (codes, scales)) in codes.iter().zip(scales).enumerate() {
        let mut scaled = [[_mm512_setzero_ps(); 2]; N];
        for (group, (quads, scales)) in codes.iter().zip(scales).enumerate() {
            let mut products = [[_mm512_setzero_si512(); 2]; N];
            for (products, (_, _, starts)) in products.iter_mut().zip(&x) {
                *products = [_mm512_set1_epi32(starts[block][group]); 2];
            }
            for (q, quad) in quads.iter().enumerate() {
                let [first, last]: &[[f32; 16]; 2] = bytemuck::cast_ref(quad);
                let weights = [_mm512_castps_si512(load(first)), _mm512_castps_si512(load(last))];
                for (products, (codes, ..)) in products.iter_mut().zip(&x) {
                    let x = _mm512_set1_epi32(bytemuck::cast(codes[block][group][q]));
                    products[0] = _mm512_dpbusd_epi32(products[0], weights[0], x);
                    products[1] = _mm512_dpbusd_epi32(products[1], weights[1], x);
                }
            }
            let scales = load_both(scales);
            for (scaled, products) in scaled.iter_mut().zip(&products) {
                for half in 0..2 {
                    let products = _mm512_cvtepi32_ps(products[half]);
                    scaled[half] = _mm512_fmadd_ps(products, scales[half], scaled[half]);
                }
            }
        }
        for ((totals, scaled), (_, factors, _)) in totals.iter_mut().zip(scaled).zip(&x) {
            let scale = _mm512_set1_ps(factors[block][0][0]);
            totals[0] = _mm512_fmadd_ps(scaled[0], scale, totals[0]);
            totals[1] = _mm512_fmadd_ps(scaled[1], scale, totals[1]);
        }
        if let Some(minima) = minima.get(block) {
            for (group, minima) in minima.iter().enumerate() {
                let minima = load_both(minima);
                for (totals, (_, factors, _)) in totals.iter_mut().zip(&x) {
                    let scaled_sum = _mm512_set1_ps(factors[block][group][1]);
                    totals[0] = _mm512_fmadd_ps(minima[0], scaled_sum, totals[0]);
                    totals[1] = _mm512_fmadd_ps(minima[1], scaled_sum, totals[1]);
                }
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
