//! Estimate of how long a probe takes.

use std::time::{Duration, Instant};

use larql_compute::Precision;
use larql_inference::{KeyValueCache, Model, PassError, Sequence};

use super::ProbePlan;

/// Tokens that are read for each question of a probe, trials of wordings and removals of features included
/// (`docs/src/notebook/knowledge.md`: 3,599 questions take as long as 320,000 tokens).
const TOKENS_A_QUESTION: usize = 90;
/// Sequences, and tokens of each, that the model's speed is taken on.
const SAMPLE: (usize, usize) = (4, 16);
/// One layer in so many is run, from the first on, so that an estimate needs little time and memory.
const LAYERS_A_SAMPLE: usize = 8;
/// Runs of the sample, of which the fastest counts: other programs only slow it down.
const RUNS: usize = 3;

/// Estimates how long a probe takes, from how fast the model reads a few short texts.
///
/// # Errors
/// If the model cannot be run.
pub fn estimated_time(model: &Model, plan: &ProbePlan) -> Result<Duration, PassError> {
    reading_time(model, plan.questions() * TOKENS_A_QUESTION)
}

/// Estimates how long a model takes to read `tokens` in short texts, a few together, from the time of its first layers.
///
/// # Errors
/// If the model cannot be run.
pub fn reading_time(model: &Model, tokens: usize) -> Result<Duration, PassError> {
    let text: Vec<u32> = (0..SAMPLE.1).map(|token| (token % model.spec().vocab_size) as u32).collect();
    let layers = model.spec().layers.len();
    let sampled = layers.div_ceil(LAYERS_A_SAMPLE);
    let read = |sequences: usize| -> Result<Duration, PassError> {
        let started = Instant::now();
        let mut caches: Vec<_> = (0..sequences).map(|_| KeyValueCache::new(model.spec())).collect();
        let mut sequences: Vec<Sequence<'_>> =
            caches.iter_mut().map(|cache| Sequence::new(cache, &text)).collect();
        model.pass().with_precision(Precision::Fast).residual_below(sampled, &mut sequences)?;
        Ok(started.elapsed())
    };
    // Brings the weights into memory.
    read(1)?;
    let mut fastest = Duration::MAX;
    for _ in 0..RUNS {
        fastest = fastest.min(read(SAMPLE.0)?);
    }
    let share = tokens as f64 / (SAMPLE.0 * SAMPLE.1) as f64;
    Ok(fastest.mul_f64(share * layers as f64 / sampled.max(1) as f64))
}
