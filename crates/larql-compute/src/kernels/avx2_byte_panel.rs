//! Products of rows in 8 bits with AVX2. A code of a vector is at most 63, so that the products of two pairs of bytes fit
//! in 16 bits: 2 * 255 * 63 is 32,130.

use std::arch::x86_64::*;

use super::byte_panel::{self, LANES, Limit, Products, Quad, Rounded, RowFigures};
use super::x86_blocks::{load_32, store_32};

/// Vectors whose sums stay in registers together.
const VECTORS: usize = 8;

/// Rows in a vector register.
const ROWS: usize = 8;

/// See [`super::Isa::round_to_bytes`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn round(values: &[f32], largest: i8, codes: &mut [i8]) -> Rounded {
    byte_panel::round(values, largest, codes)
}

/// See [`super::Isa::add_byte_products`].
#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
fn add_products_of<const N: usize>(panel: &[Quad], vectors: &[i8], out: &mut [Products; N]) {
    assert_eq!(vectors.len(), 4 * N * panel.len());
    let vectors: *const i32 = vectors.as_ptr().cast();
    let ones = _mm256_set1_epi16(1);
    for part in 0..LANES / ROWS {
        let mut sums = [_mm256_setzero_si256(); N];
        for (q, quad) in panel.iter().enumerate() {
            let weights: &[[u8; 4 * ROWS]; LANES / ROWS] = bytemuck::cast_ref(quad);
            let weights = load_32(&weights[part]);
            for (n, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `vectors` has four bytes for each quad of the panel, `N` times over.
                let x = _mm256_set1_epi32(unsafe { vectors.add(n * panel.len() + q).read_unaligned() });
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(weights, x), ones));
            }
        }
        for (sums, out) in sums.iter().zip(out.iter_mut()) {
            let out: &mut [[u8; 4 * ROWS]; LANES / ROWS] = bytemuck::cast_mut(out);
            let sums = _mm256_add_epi32(load_32(&out[part]), *sums);
            store_32(sums, &mut out[part]);
        }
    }
}

/// See [`super::Isa::bytes_above`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn above(products: &Products, rows: &RowFigures, limit: Limit) -> u32 {
    byte_panel::above(products, rows, limit)
}
