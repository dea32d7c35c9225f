//! Divergence of a model's predictions from what they are when keys and values are stored as floats.

use larql_compute::Precision;
use larql_compute::activation::softmax_sum;
use larql_compute::attention::KeyValueFormat;
use larql_inference::{KeyValueCache, Model, PassError};

/// Tokens whose logits are held at once.
const BLOCK: usize = 64;

/// Divergence of predictions on a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Divergence {
    /// Number of tokens whose predictions were compared.
    pub tokens: usize,
    /// Mean Kullback-Leibler divergence of the predictions, in nats.
    pub mean_nats: f64,
    /// Share of the tokens after which the likeliest token is the same, 0 to 1.
    pub same_likeliest: f64,
}

/// Compares the predictions after each of `tokens`, in passes that are not exact, with keys and values in `format` and as
/// floats.
///
/// # Errors
/// If there are no tokens or one is outside the model.
pub fn key_value_divergence(
    model: &Model,
    tokens: &[u32],
    format: KeyValueFormat,
) -> Result<Divergence, PassError> {
    let floats = KeyValueCache::new(model.spec());
    let mut states = [floats.clone(), floats.with_format(format)];
    let (mut nats, mut same) = (0.0, 0);
    for block in tokens.chunks(BLOCK) {
        let mut logits = Vec::new();
        for state in &mut states {
            logits.push(model.pass().with_precision(Precision::Fast).all_logits(state, block)?);
        }
        let rows = logits[0].chunks_exact(model.spec().vocab_size);
        for (float, stored) in rows.zip(logits[1].chunks_exact(model.spec().vocab_size)) {
            nats += divergence(float, stored);
            same += usize::from(likeliest(float) == likeliest(stored));
        }
    }
    let count = tokens.len() as f64;
    Ok(Divergence { tokens: tokens.len(), mean_nats: nats / count, same_likeliest: same as f64 / count })
}

/// Kullback-Leibler divergence of the prediction with the logits `other` from that with `logits`, in nats.
fn divergence(logits: &[f32], other: &[f32]) -> f64 {
    let logarithms = |logits: &[f32]| {
        let (largest, total) = softmax_sum(logits, 1.0);
        f64::from(largest) + total.ln()
    };
    let (total, other_total) = (logarithms(logits), logarithms(other));
    let of_token = |(logit, other): (&f32, &f32)| {
        let (log, other) = (f64::from(*logit) - total, f64::from(*other) - other_total);
        log.exp() * (log - other)
    };
    logits.iter().zip(other).map(of_token).sum()
}

fn likeliest(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_compute::Pool;

    use super::*;

    #[test]
    fn divergence_is_that_of_the_definition() {
        assert_eq!(divergence(&[1.0, 2.0, -3.0], &[1.0, 2.0, -3.0]), 0.0);
        // Shares of 1/2 and 1/2, and of 1/4 and 3/4.
        let found = divergence(&[7.0, 7.0], &[0.0, 3.0_f32.ln()]);
        let expected = 0.5 * (0.5_f64 / 0.25).ln() + 0.5 * (0.5_f64 / 0.75).ln();
        assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
    }

    #[test]
    fn eight_bits_hardly_change_predictions_and_floats_do_not() {
        let model = Model::open(&larql_testing::shipped("atlas"), Arc::new(Pool::new(2))).unwrap();
        let tokens: Vec<u32> = (0..100).map(|i| 10 + i * 7 % 900).collect();
        let floats = key_value_divergence(&model, &tokens, KeyValueFormat::Float).unwrap();
        assert_eq!(floats, Divergence { tokens: 100, mean_nats: 0.0, same_likeliest: 1.0 });
        let bytes = key_value_divergence(&model, &tokens, KeyValueFormat::Q8_0).unwrap();
        assert!(bytes.mean_nats > 0.0 && bytes.mean_nats < 0.01 && bytes.same_likeliest > 0.9, "{bytes:?}");
    }
}
