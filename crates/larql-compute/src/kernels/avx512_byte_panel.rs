//! Products of rows in 8 bits with AVX-512 VNNI.

use std::arch::x86_64::*;

use super::avx512::{load, store};
use super::byte_panel::{self, Limit, Products, Quad, Rounded, RowFigures};

/// Vectors whose sums stay in registers together.
const VECTORS: usize = 8;

/// See [`super::Isa::round_to_bytes`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn round(values: &[f32], largest: i8, codes: &mut [i8]) -> Rounded {
    byte_panel::round(values, largest, codes)
}

/// See [`super::Isa::add_byte_products`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn add_products(panel: &[Quad], vectors: &[i8], out: &mut [Products]) {
    byte_panel::in_groups(
        4 * panel.len(),
        vectors,
        out,
        |vectors, out| add_products_of::<VECTORS>(panel, vectors, out),
        |vector, out| add_products_of(panel, vector, out),
    );
}

/// The same for `N` vectors.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn add_products_of<const N: usize>(panel: &[Quad], vectors: &[i8], out: &mut [Products; N]) {
    assert_eq!(vectors.len(), 4 * N * panel.len());
    let vectors: *const i32 = vectors.as_ptr().cast();
    let mut sums = [[_mm512_setzero_si512(); 2]; N];
    for (q, quad) in panel.iter().enumerate() {
        let halves: &[[f32; 16]; 2] = bytemuck::cast_ref(quad);
        let weights = [_mm512_castps_si512(load(&halves[0])), _mm512_castps_si512(load(&halves[1]))];
        for (n, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `vectors` has four bytes for each quad of the panel, `N` times over.
            let x = _mm512_set1_epi32(unsafe { vectors.add(n * panel.len() + q).read_unaligned() });
            sums[0] = _mm512_dpbusd_epi32(sums[0], weights[0], x);
            sums[1] = _mm512_dpbusd_epi32(sums[1], weights[1], x);
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        let out: &mut [[f32; 16]; 2] = bytemuck::cast_mut(out);
        for (sum, out) in sums.iter().zip(out) {
            let sum = _mm512_add_epi32(_mm512_castps_si512(load(out)), *sum);
            store(_mm512_castsi512_ps(sum), out);
        }
    }
}

/// See [`super::Isa::bytes_above`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn above(products: &Products, rows: &RowFigures, limit: Limit) -> u32 {
    let products: &[[f32; 16]; 2] = bytemuck::cast_ref(products);
    let figures = [&rows.scales, &rows.losses, &rows.norms].map(|figures| figures.as_chunks().0);
    let [to_beat, norm, loss] = [limit.to_beat, limit.norm, limit.loss].map(|value| _mm512_set1_ps(value));
    let mask = |half: usize| {
        let [scales, losses, norms] = figures.map(|figures| load(&figures[half]));
        let products = _mm512_cvtepi32_ps(_mm512_castps_si512(load(&products[half])));
        let error = _mm512_add_ps(_mm512_mul_ps(norm, losses), _mm512_mul_ps(loss, norms));
        let most = _mm512_add_ps(_mm512_mul_ps(products, scales), error);
        _mm512_cmp_ps_mask::<_CMP_GT_OQ>(most, to_beat)
    };
    u32::from(mask(0)) | u32::from(mask(1)) << 16
}
