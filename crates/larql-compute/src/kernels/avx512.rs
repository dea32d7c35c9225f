//! x86-64 with AVX-512 F, BW, VL and VNNI.

use std::arch::x86_64::*;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn load(values: &[f32; 16]) -> __m512 {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// See [`super::scalar::dot`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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
