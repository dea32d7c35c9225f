//! Comparing a real model with recorded predictions of a reference implementation.

use std::path::Path;

use larql_compute::Precision;
use larql_inference::{KeyValueCache, Model, predictions, score_text};
use serde::{Deserialize, Serialize};

use crate::error::EvalError;

/// A file of recorded predictions.
#[derive(Clone, Debug, Deserialize)]
pub struct Recording {
    /// Next-token predictions.
    pub prompts: Vec<RecordedPrompt>,
    /// Losses on a text.
    pub bits_per_byte: RecordedText,
}

/// Predictions of the reference after a prompt.
#[derive(Clone, Debug, Deserialize)]
pub struct RecordedPrompt {
    /// The prompt as text.
    pub prompt: String,
    /// The prompt as token ids.
    pub token_ids: Vec<u32>,
    /// The likeliest next tokens, likeliest first.
    pub top: Vec<RecordedToken>,
}

/// A next token and how likely the reference finds it.
#[derive(Clone, Debug, Deserialize)]
pub struct RecordedToken {
    /// Token id.
    pub id: u32,
    /// Probability.
    pub prob: f32,
    /// Logit.
    pub logit: f32,
}

/// Score of a text under the reference.
#[derive(Clone, Debug, Deserialize)]
pub struct RecordedText {
    /// The text as token ids.
    pub token_ids: Vec<u32>,
    /// Length of the text.
    pub bytes: usize,
    /// Bits for each byte.
    pub bits_per_byte: f64,
    /// The text.
    pub text: String,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// If the file cannot be read or has other content.
    pub fn open(path: &Path) -> Result<Recording, EvalError> {
        let problem = |problem: String| EvalError::Reference { path: path.to_owned(), problem };
        let text = std::fs::read(path).map_err(|e| problem(e.to_string()))?;
        serde_json::from_slice(&text).map_err(|e| problem(e.to_string()))
    }
}

/// Deviation of a model from a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RealDeviation {
    /// Precision of the products.
    pub precision: Precision,
    /// Prompts compared.
    pub prompts: usize,
    /// Prompts with another likeliest token, where the reference leads by more than
    /// [`CLEAR_LEAD`] in probability.
    pub wrong_first: usize,
    /// Prompts whose ten likeliest tokens differ by more than ties explain.
    pub wrong_top: usize,
    /// Largest difference of a recorded token's probability.
    pub probability: f32,
    /// Largest difference of a recorded token's logit.
    pub logit: f32,
    /// Bits per byte found.
    pub bits_per_byte: f64,
    /// Bits per byte of the reference.
    pub expected_bits_per_byte: f64,
}

/// A lead in probability that quantised activations must not overturn.
pub const CLEAR_LEAD: f32 = 0.05;
/// Largest difference of a probability in exact precision.
pub const PROBABILITY_TOLERANCE: f32 = 1e-3;

impl RealDeviation {
    /// Relative difference of the bits per byte.
    pub fn bits_per_byte_drift(&self) -> f64 {
        (self.bits_per_byte / self.expected_bits_per_byte - 1.0).abs()
    }

    /// Reports that the model agrees as well as its precision promises: exact to 1e-3 in every probability, the same
    /// ten tokens and 0.1 % in bits per byte; fast in the first token where the lead is clear, and 1 %.
    pub fn holds(&self) -> bool {
        match self.precision {
            Precision::Exact => {
                self.wrong_top == 0
                    && self.probability <= PROBABILITY_TOLERANCE
                    && self.bits_per_byte_drift() <= 1e-3
            }
            Precision::Fast => self.wrong_first == 0 && self.bits_per_byte_drift() <= 1e-2,
        }
    }
}

/// Runs every prompt and the text of a recording.
///
/// # Errors
/// If a token is outside the model, so the recording is of another model.
pub fn compare(
    model: &Model,
    recording: &Recording,
    precision: Precision,
) -> Result<RealDeviation, EvalError> {
    let text = &recording.bits_per_byte;
    let mut deviation = RealDeviation {
        precision,
        prompts: recording.prompts.len(),
        wrong_first: 0,
        wrong_top: 0,
        probability: 0.0,
        logit: 0.0,
        bits_per_byte: score_text(model, &text.token_ids, precision)?.bits_per_byte(text.bytes),
        expected_bits_per_byte: text.bits_per_byte,
    };
    for prompt in &recording.prompts {
        let mut cache = KeyValueCache::new(model.spec());
        let logits = model.pass().with_precision(precision).last_logits(&mut cache, &prompt.token_ids)?;
        compare_prompt(&logits, prompt, &mut deviation);
    }
    Ok(deviation)
}

fn compare_prompt(logits: &[f32], prompt: &RecordedPrompt, deviation: &mut RealDeviation) {
    let all = predictions(logits, logits.len());
    let mut by_token = vec![0; all.len()];
    for (rank, prediction) in all.iter().enumerate() {
        by_token[prediction.token as usize] = rank;
    }
    for expected in &prompt.top {
        let Some(&rank) = by_token.get(expected.id as usize) else { continue };
        let found = all[rank];
        deviation.probability = deviation.probability.max((found.probability - expected.prob).abs());
        deviation.logit = deviation.logit.max((found.logit - expected.logit).abs());
    }
    let found_top = &all[..prompt.top.len().min(all.len())];
    // A token that the reference does not list may stand here only if its probability ties with the last listed.
    let least = prompt.top.last().map_or(0.0, |token| token.prob);
    let foreign = found_top.iter().any(|found| {
        !prompt.top.iter().any(|expected| expected.id == found.token)
            && (found.probability - least).abs() > PROBABILITY_TOLERANCE
    });
    deviation.wrong_top += usize::from(foreign);
    if let [first, second, ..] = &prompt.top[..] {
        let clear = first.prob - second.prob > CLEAR_LEAD;
        deviation.wrong_first += usize::from(clear && found_top[0].token != first.id);
    }
}
