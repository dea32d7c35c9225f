//! x86-64 with AVX2, FMA and F16C.

use std::arch::x86_64::*;

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(values: &[f32; 8]) -> __m256 {
    // SAFETY: the array is as long as the vector; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum(v: __m256) -> f32 {
    let halves = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// See [`super::scalar::dot`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let (a_groups, a_rest) = a.as_chunks::<32>();
    let (b_groups, b_rest) = b.as_chunks::<32>();
    for (a, b) in a_groups.iter().zip(b_groups) {
        for ((a, b), sum) in a.as_chunks().0.iter().zip(b.as_chunks().0).zip(&mut sums) {
            *sum = _mm256_fmadd_ps(load(a), load(b), *sum);
        }
    }
    let total = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    sum(total) + super::scalar::dot(a_rest, b_rest)
}
