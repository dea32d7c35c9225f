//! Normalisation of activation rows.

use crate::lanes;
use crate::vector::dot;

/// Root-mean-square norm (arXiv 1910.07467): each row of `x`, `[batch, weight.len()]`, is divided by its root
/// mean square and multiplied by `offset + weight`, in place. `epsilon` is added to the mean square.
///
/// # Panics
/// If `x` is not whole rows.
pub fn rms_norm(x: &mut [f32], weight: &[f32], epsilon: f32, offset: f32) {
    assert!(x.len().is_multiple_of(weight.len()), "{} values in rows of {}", x.len(), weight.len());
    for row in rows(x, weight.len()) {
        let mean_square = lanes::sum(row, |v| v * v) / row.len() as f32;
        let scale = (mean_square + epsilon).sqrt().recip();
        for (v, w) in row.iter_mut().zip(weight) {
            *v = *v * scale * (offset + w);
        }
    }
}

/// Layer norm (arXiv 1607.06450): each row of `x`, `[batch, weight.len()]`, is centred, divided by its standard
/// deviation, multiplied by `weight` and shifted by `bias`, in place. `epsilon` is added to the variance.
///
/// # Panics
/// If `x` is not whole rows or `bias` is not as long as `weight`.
pub fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    assert!(x.len().is_multiple_of(weight.len()), "{} values in rows of {}", x.len(), weight.len());
    assert_eq!(weight.len(), bias.len(), "weight and bias differ in length");
    for row in rows(x, weight.len()) {
        let mean = lanes::sum(row, |v| v) / row.len() as f32;
        let variance = lanes::sum(row, |v| (v - mean) * (v - mean)) / row.len() as f32;
        let scale = (variance + epsilon).sqrt().recip();
        for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *v = (*v - mean) * scale * w + b;
        }
    }
}

/// Gradient of [`rms_norm`]: turns `gradient`, that of its output, into that of its input `x`, in place. Both are
/// `[batch, weight.len()]`.
///
/// # Panics
/// If `x` is not whole rows or `gradient` is not as long.
pub fn rms_norm_gradient(x: &[f32], weight: &[f32], epsilon: f32, offset: f32, gradient: &mut [f32]) {
    assert!(x.len().is_multiple_of(weight.len()), "{} values in rows of {}", x.len(), weight.len());
    assert_eq!(x.len(), gradient.len(), "gradient has the wrong size");
    for (x, gradient) in x.chunks_exact(weight.len().max(1)).zip(rows(gradient, weight.len())) {
        let mean_square = lanes::sum(x, |v| v * v) / x.len() as f32;
        let scale = (mean_square + epsilon).sqrt().recip();
        gradient.iter_mut().zip(weight).for_each(|(g, w)| *g *= scale * (offset + w));
        let along = dot(gradient, x);
        let pull = along * scale * scale / x.len() as f32;
        gradient.iter_mut().zip(x).for_each(|(g, x)| *g -= pull * x);
    }
}

/// Gradient of [`layer_norm`], as [`rms_norm_gradient`] is that of [`rms_norm`].
///
/// # Panics
/// As [`rms_norm_gradient`].
pub fn layer_norm_gradient(x: &[f32], weight: &[f32], epsilon: f32, gradient: &mut [f32]) {
    assert!(x.len().is_multiple_of(weight.len()), "{} values in rows of {}", x.len(), weight.len());
    assert_eq!(x.len(), gradient.len(), "gradient has the wrong size");
    for (x, gradient) in x.chunks_exact(weight.len().max(1)).zip(rows(gradient, weight.len())) {
        let count = x.len() as f32;
        let mean = lanes::sum(x, |v| v) / count;
        let variance = lanes::sum(x, |v| (v - mean) * (v - mean)) / count;
        let scale = (variance + epsilon).sqrt().recip();
        gradient.iter_mut().zip(weight).for_each(|(g, w)| *g *= scale * w);
        let shift = lanes::sum(gradient, |g| g) / count;
        let along: f32 = gradient.iter().zip(x).map(|(g, x)| g * (x - mean)).sum();
        let pull = along * scale * scale / count;
        gradient.iter_mut().zip(x).for_each(|(g, x)| *g -= shift + pull * (x - mean));
    }
}

/// The rows of `x`; none if they have no width.
fn rows(x: &mut [f32], width: usize) -> impl Iterator<Item = &mut [f32]> {
    x.chunks_exact_mut(width.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const WIDTH: usize = 50;
    const EPSILON: f32 = 1e-5;

    /// Two rows of activations and a weight, some of them large as in real residual streams.
    fn rows_and_weight() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        let value = (-1f32..1.0, -4i32..12).prop_map(|(v, e)| v * 2f32.powi(e));
        (vec(value, 2 * WIDTH), vec(-2f32..2.0, WIDTH))
    }

    fn assert_close(found: &[f32], expected: impl Iterator<Item = f64>) -> Result<(), TestCaseError> {
        for (found, expected) in found.iter().zip(expected) {
            let found = f64::from(*found);
            prop_assert!(
                (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                "{found}, not {expected}"
            );
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn rms_norm_equals_its_definition((x, weight) in rows_and_weight(), offset in 0f32..1.0) {
            let mut normed = x.clone();
            rms_norm(&mut normed, &weight, EPSILON, offset);
            for (x, normed) in x.chunks(WIDTH).zip(normed.chunks(WIDTH)) {
                let mean_square = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / WIDTH as f64;
                let divisor = (mean_square + f64::from(EPSILON)).sqrt();
                let expected = x.iter().zip(&weight);
                assert_close(normed, expected.map(|(v, w)| f64::from(*v) / divisor * f64::from(offset + w)))?;
            }
        }

        #[test]
        fn layer_norm_equals_its_definition((x, weight) in rows_and_weight(), bias in -1f32..1.0) {
            let mut normed = x.clone();
            layer_norm(&mut normed, &weight, &[bias; WIDTH], EPSILON);
            for (x, normed) in x.chunks(WIDTH).zip(normed.chunks(WIDTH)) {
                let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / WIDTH as f64;
                let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / WIDTH as f64;
                let divisor = (variance + f64::from(EPSILON)).sqrt();
                let expected = x.iter().zip(&weight);
                let expected =
                    expected.map(|(v, w)| (f64::from(*v) - mean) / divisor * f64::from(*w) + f64::from(bias));
                assert_close(normed, expected)?;
            }
        }
    }

    proptest! {
        /// A small step of the input changes the output as the gradient says.
        #[test]
        fn gradients_predict_small_steps(
            x in vec(-2f32..2.0, WIDTH),
            weight in vec(-2f32..2.0, WIDTH),
            (along, step) in (vec(-1f32..1.0, WIDTH), vec(-1f32..1.0, WIDTH)),
        ) {
            let bias = [0.5; WIDTH];
            let rms = |x: &mut [f32]| rms_norm(x, &weight, EPSILON, 1.0);
            let layer = |x: &mut [f32]| layer_norm(x, &weight, &bias, EPSILON);
            let (mut by_rms, mut by_layer) = (along.clone(), along.clone());
            rms_norm_gradient(&x, &weight, EPSILON, 1.0, &mut by_rms);
            layer_norm_gradient(&x, &weight, EPSILON, &mut by_layer);
            let moved = |norm: &dyn Fn(&mut [f32]), size: f32| {
                let mut at: Vec<f32> = x.iter().zip(&step).map(|(x, s)| x + size * s).collect();
                norm(&mut at);
                at.iter().zip(&along).map(|(y, a)| f64::from(y * a)).sum::<f64>()
            };
            for (norm, gradient) in [(&rms as &dyn Fn(&mut [f32]), by_rms), (&layer, by_layer)] {
                let size = 1e-2;
                let found = (moved(norm, size) - moved(norm, -size)) / (2.0 * f64::from(size));
                let foretold: f64 = gradient.iter().zip(&step).map(|(g, s)| f64::from(g * s)).sum();
                prop_assert!((found - foretold).abs() < 2e-2 * (1.0 + foretold.abs()), "{found}, not {foretold}");
            }
        }
    }

    #[test]
    fn zeros_and_empty_rows_stay() {
        let mut x = [0.0; 4];
        rms_norm(&mut x, &[1.0; 4], 1e-6, 0.0);
        assert_eq!(x, [0.0; 4]);
        rms_norm(&mut [], &[], 1e-6, 0.0);
        layer_norm(&mut [], &[], &[], 1e-6);
    }
}
