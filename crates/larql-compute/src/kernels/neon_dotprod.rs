//! AArch64 with NEON and its dot product extension (from Cortex-A75 and Apple A11 on).

use std::arch::aarch64::*;
use std::arch::asm;

use bytemuck::Pod;

use super::QuantisedRow;
use super::byte_panel::{self, LANES, Products, Quad};
use super::code_panel::{Activation, Panel, Unpacked, group_len};
use super::neon::{each_of_blocks, each_of_super_blocks, load_rows, load_sums, store_sums};
use super::neon_blocks::*;
use super::neon_rows::*;
use super::panel::{BATCH, Sums};
use super::rows::{self, ROWS};
use crate::Format;

/// Adds the products of four bytes to each lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_products(mut sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the feature is there, and the instruction touches nothing but these registers. It is what
    // `vdotq_s32` stands for, which is not stable.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums, codes = in(vreg) codes, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

row_loops!("neon,dotprod");

/// Writes consecutive blocks as codes, scales and minima.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn unpack(format: Format, blocks: &[u8], out: &mut Unpacked) {
    // A group is 16 or 32 codes.
    let two_in_group = usize::from(out.codes.len() == 32 * out.scales.len());
    let out_codes = out.codes.as_chunks_mut::<16>().0;
    let take = |i: usize, codes: int8x16_t, scale: f32, minimum: f32| {
        store_16(vreinterpretq_u8_s8(codes), &mut out_codes[i]);
        out.scales[i >> two_in_group] = scale;
        out.minima[i >> two_in_group] = minimum;
    };
    for_format!(format, each_of_blocks, each_of_super_blocks, (blocks, take))
}

/// Adds the products of the panel's rows, which are in `format`, with those of `x`.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn multiply_code_panel(
    format: Format,
    panel: &Panel,
    x: [Activation<'_>; BATCH],
    sums: &mut Sums,
) {
    if group_len(format) == 32 {
        multiply_code_groups::<8>(panel, x, sums);
    } else {
        multiply_code_groups::<4>(panel, x, sums);
    }
}

/// `QUADS`: a quarter of the length of a group.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn multiply_code_groups<const QUADS: usize>(panel: &Panel, x: [Activation<'_>; BATCH], sums: &mut Sums) {
    let x_codes = x.map(|x| x.codes.as_chunks::<QUADS>().0);
    // A quarter of the panel's rows at a time, so that the sums stay in registers.
    for quarter in 0..4 {
        let mut totals = load_sums::<2>(sums, quarter);
        let groups = panel.codes.as_chunks::<QUADS>().0.iter().zip(&*panel.scales).zip(&*panel.minima);
        for (group, ((quads, scales), minima)) in groups.enumerate() {
            let mut products = [[vdupq_n_s32(0); 2]; BATCH];
            for (q, quad) in quads.iter().enumerate() {
                let weights: &[[i8; 32]; 4] = bytemuck::cast_ref(quad);
                let weights = load_codes(&weights[quarter]);
                for (products, x) in products.iter_mut().zip(&x_codes) {
                    let x = vreinterpretq_s8_s32(vdupq_n_s32(bytemuck::cast(x[group][q])));
                    products[0] = add_products(products[0], weights[0], x);
                    products[1] = add_products(products[1], weights[1], x);
                }
            }
            let (scales, minima) = (load_rows::<2>(scales, quarter), load_rows::<2>(minima, quarter));
            for ((totals, products), x) in totals.iter_mut().zip(&products).zip(&x) {
                let [scale, scaled_sum] = x.factors[group];
                for i in 0..2 {
                    let factor = vmulq_n_f32(scales[i], scale);
                    totals[i] = vfmaq_f32(totals[i], vcvtq_f32_s32(products[i]), factor);
                    totals[i] = vfmaq_n_f32(totals[i], minima[i], scaled_sum);
                }
            }
        }
        store_sums(totals, sums, quarter);
    }
}

/// See [`super::Isa::add_byte_products`].
#[target_feature(enable = "neon,dotprod")]
pub(super) fn add_byte_products(panel: &[Quad], vectors: &[i8], out: &mut [Products]) {
    const VECTORS: usize = 4;
    byte_panel::in_groups(
        4 * panel.len(),
        vectors,
        out,
        |vectors, out| add_byte_products_of::<VECTORS>(panel, vectors, out),
        |vector, out| add_byte_products_of(panel, vector, out),
    );
}

/// The same for `N` vectors.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_byte_products_of<const N: usize>(panel: &[Quad], vectors: &[i8], out: &mut [Products; N]) {
    const ROWS: usize = 8;
    let vectors: [&[[i8; 4]]; N] =
        std::array::from_fn(|n| &vectors.as_chunks().0[n * panel.len()..][..panel.len()]);
    for part in 0..LANES / ROWS {
        let mut sums = [[vdupq_n_s32(0); 2]; N];
        for (q, quad) in panel.iter().enumerate() {
            let codes: &[[i8; 32]; LANES / ROWS] = bytemuck::cast_ref(quad);
            let codes = load_codes(&codes[part]);
            for (sums, x) in sums.iter_mut().zip(&vectors) {
                let x = vreinterpretq_s8_s32(vdupq_n_s32(bytemuck::cast(x[q])));
                sums[0] = add_products(sums[0], codes[0], x);
                sums[1] = add_products(sums[1], codes[1], x);
            }
        }
        for (sums, out) in sums.iter().zip(out.iter_mut()) {
            let out: &mut [[i32; 4]; 2] = bytemuck::cast_mut(&mut out.as_chunks_mut::<ROWS>().0[part]);
            for (sums, out) in sums.iter().zip(out) {
                let mut lanes = [0; 4];
                // SAFETY: the array is as long as the vector.
                unsafe { vst1q_s32(lanes.as_mut_ptr(), *sums) };
                out.iter_mut().zip(lanes).for_each(|(out, sum)| *out += sum);
            }
        }
    }
}
