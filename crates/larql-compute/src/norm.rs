//! Normalisation of activation rows.

/// Root-mean-square norm (arXiv 1910.07467): each row of `x`, `[batch, weight.len()]`, is divided by its root
/// mean square and multiplied by `offset + weight`, in place.
///
/// # Panics
/// If `x` is not whole rows.
pub fn rms_norm(x: &mut [f32], weight: &[f32], epsilon: f32, offset: f32) {
    assert!(x.len().is_multiple_of(weight.len()));
    for row in x.chunks_exact_mut(weight.len()) {
        let mean_square = row.iter().map(|v| v * v).sum::<f32>() / row.len() as f32;
        let scale = (mean_square + epsilon).sqrt().recip();
        for (v, w) in row.iter_mut().zip(weight) {
            *v *= scale * (offset + w);
        }
    }
}

/// Layer norm (arXiv 1607.06450): each row of `x`, `[batch, weight.len()]`, is centred, divided by its standard
/// deviation, multiplied by `weight` and shifted by `bias`, in place.
///
/// # Panics
/// If `x` is not whole rows or `bias` is not as long as `weight`.
pub fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    assert!(x.len().is_multiple_of(weight.len()) && bias.len() == weight.len());
    for row in x.chunks_exact_mut(weight.len()) {
        let mean = row.iter().sum::<f32>() / row.len() as f32;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / row.len() as f32;
        let scale = (variance + epsilon).sqrt().recip();
        for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *v = (*v - mean) * scale * w + b;
        }
    }
}
