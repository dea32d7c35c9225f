//! Log-likelihood of a text under a model.

use larql_compute::Precision;
use larql_compute::activation::softmax_sum;

use crate::{KeyValueCache, Model, PassError};

/// Losses of a model on a text.
#[derive(Clone, Debug, PartialEq)]
pub struct TextScore {
    /// For each token after the first, minus the natural logarithm of its probability given the earlier ones.
    pub token_nats: Vec<f64>,
}

impl TextScore {
    /// Sum of the losses.
    pub fn total_nats(&self) -> f64 {
        self.token_nats.iter().sum()
    }

    /// Bits that the model needs for each byte of a text of `bytes` bytes.
    pub fn bits_per_byte(&self, bytes: usize) -> f64 {
        self.total_nats() / std::f64::consts::LN_2 / bytes as f64
    }
}

/// Tokens whose logits are held at once.
const BLOCK: usize = 64;

/// Scores each of `tokens` but the first.
///
/// # Errors
/// If there are no tokens or one is outside the model.
pub fn score_text(model: &Model, tokens: &[u32], precision: Precision) -> Result<TextScore, PassError> {
    let mut state = KeyValueCache::new(model.spec());
    let mut token_nats = Vec::with_capacity(tokens.len());
    for start in (0..tokens.len()).step_by(BLOCK) {
        let block = &tokens[start..(start + BLOCK).min(tokens.len())];
        let logits = model.pass().with_precision(precision).all_logits(&mut state, block)?;
        let next = &tokens[start + 1..];
        token_nats.extend(logits.chunks_exact(model.spec().vocab_size).zip(next).map(|(z, t)| nats(z, *t)));
    }
    Ok(TextScore { token_nats })
}

/// Minus the natural logarithm of the probability of `token` for `logits`, `[vocab]`.
pub fn nats(logits: &[f32], token: u32) -> f64 {
    let (largest, total) = softmax_sum(logits, 1.0);
    total.ln() - f64::from(logits[token as usize] - largest)
}
