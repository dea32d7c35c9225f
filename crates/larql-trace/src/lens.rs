//! Logit lens: final norm and output head applied to residuals in the middle of the stream.

use std::sync::{Mutex, PoisonError};

use larql_compute::Precision;
use larql_compute::activation::softmax_sum;
use larql_inference::{Model, Prediction, predictions};

use crate::TraceError;

/// Reading of one residual.
#[derive(Clone, Debug, PartialEq)]
pub struct LensReading {
    /// The likeliest tokens, likeliest first.
    pub top: Vec<Prediction>,
    /// The reading of the row's target, where one was given.
    pub target: Option<TargetReading>,
}

/// Reading of one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetReading {
    /// 1 + the number of tokens with a greater logit.
    pub rank: usize,
    /// Softmax probability over the whole vocabulary.
    pub probability: f32,
    /// Logit.
    pub logit: f32,
}

/// Rows whose logits are in memory at once. The output head is read from memory once for each such group.
const ROWS_AT_ONCE: usize = 256;

/// Reads the `top` likeliest tokens of each residual, `[rows, hidden]`, and the rank and probability of its target. `targets`
/// has a token for each row, or is empty. [`Precision::Fast`] is for many rows: probabilities differ in the third digit.
///
/// # Errors
/// If the final norm or the output head is absent, or the model's cancel token is cancelled.
pub fn read_lens(
    model: &Model,
    residuals: &[f32],
    top: usize,
    targets: &[u32],
    precision: Precision,
) -> Result<Vec<LensReading>, TraceError> {
    let (hidden, vocabulary) = (model.spec().hidden_size, model.spec().vocab_size);
    let mut readings = Vec::with_capacity(residuals.len() / hidden);
    for (chunk, residuals) in residuals.chunks(ROWS_AT_ONCE * hidden).enumerate() {
        model.cancel_token().check().map_err(larql_inference::PassError::from)?;
        let logits = model.logit_lens_with(residuals, precision)?;
        let rows = logits.len() / vocabulary;
        let read = Mutex::new(Vec::with_capacity(rows));
        model.pool().for_each_range(rows, 1, |range| {
            for row in range {
                let target = targets.get(chunk * ROWS_AT_ONCE + row).copied();
                let reading = reading(&logits[row * vocabulary..][..vocabulary], top, target);
                read.lock().unwrap_or_else(PoisonError::into_inner).push((row, reading));
            }
        });
        let mut read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        read.sort_by_key(|(row, _)| *row);
        readings.extend(read.into_iter().map(|(_, reading)| reading));
    }
    Ok(readings)
}

fn reading(logits: &[f32], top: usize, target: Option<u32>) -> LensReading {
    let target = target.and_then(|token| {
        let logit = *logits.get(token as usize)?;
        let rank = 1 + logits.iter().filter(|other| **other > logit).count();
        let (largest, total) = softmax_sum(logits, 1.0);
        let probability = (f64::from(logit - largest).exp() / total) as f32;
        Some(TargetReading { rank, probability, logit })
    });
    LensReading { top: if top == 0 { Vec::new() } else { predictions(logits, top) }, target }
}
