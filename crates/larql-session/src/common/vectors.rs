//! Arithmetic of vectors.

/// Euclidean norm.
pub(crate) fn length(values: &[f32]) -> f32 {
    values.iter().map(|v| v * v).sum::<f32>().sqrt()
}

/// Cosine of two vectors; 0 where one is zero.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    product / (length(a) * length(b)).max(f32::MIN_POSITIVE)
}
