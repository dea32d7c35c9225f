//! From logits to the next token.

use larql_compute::top_k_by_value;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::InferenceError;

/// How the next token is chosen. The default is greedy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingOptions {
    /// Logits are divided by this; 0 is greedy, whatever the other options say.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens stay; 0 keeps all.
    pub top_k: usize,
    /// Only the likeliest tokens whose probabilities reach `top_p` together stay; 1 keeps all.
    pub top_p: f32,
    /// Only tokens at least `min_p` times as likely as the likeliest stay; 0 keeps all.
    pub min_p: f32,
    /// Positive logits of tokens that occurred before are divided by this, negative ones multiplied
    /// (arXiv 1909.05858); 1 changes nothing.
    pub repetition_penalty: f32,
    /// Seed of the random choice: same seed, same text.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        SamplingOptions {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// Chooses tokens one after another.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler with checked options.
    ///
    /// # Errors
    /// [`InferenceError::InvalidOption`] names the first option outside its range.
    pub fn new(options: SamplingOptions) -> Result<Sampler, InferenceError> {
        let checks = [
            ("temperature", options.temperature, options.temperature >= 0.0, "at least 0"),
            ("top_p", options.top_p, options.top_p > 0.0 && options.top_p <= 1.0, "above 0 and at most 1"),
            ("min_p", options.min_p, (0.0..=1.0).contains(&options.min_p), "from 0 to 1"),
            ("repetition_penalty", options.repetition_penalty, options.repetition_penalty > 0.0, "above 0"),
        ];
        for (option, value, valid, expected) in checks {
            if !valid || !value.is_finite() {
                return Err(InferenceError::InvalidOption { option, found: value.to_string(), expected });
            }
        }
        Ok(Sampler { options, random: ChaCha8Rng::seed_from_u64(options.seed) })
    }

    /// The next token after `context` for `logits`, `[vocab]`. Logits are changed by the penalty.
    pub fn choose(&mut self, logits: &mut [f32], context: &[u32]) -> u32 {
        self.penalise_repetition(logits, context);
        if self.options.temperature == 0.0 {
            return greedy(logits);
        }
        let candidates = self.candidates(logits);
        let total: f32 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut point = self.random.random::<f32>() * total;
        for (token, weight) in &candidates {
            point -= weight;
            if point < 0.0 {
                return *token;
            }
        }
        candidates.last().map_or_else(|| greedy(logits), |(token, _)| *token)
    }

    fn penalise_repetition(&self, logits: &mut [f32], context: &[u32]) {
        let penalty = self.options.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut seen = context.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// The tokens that may be chosen, likeliest first, with weights relative to the likeliest.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f32)> {
        let options = &self.options;
        let mut candidates: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        let descending = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if options.top_k > 0 && options.top_k < candidates.len() {
            candidates.select_nth_unstable_by(options.top_k - 1, descending);
            candidates.truncate(options.top_k);
        }
        candidates.sort_unstable_by(descending);
        let largest = candidates.first().map_or(0.0, |(_, logit)| *logit);
        for (_, logit) in &mut candidates {
            *logit = ((*logit - largest) / options.temperature).exp();
        }
        if options.top_p < 1.0 {
            let enough = options.top_p * candidates.iter().map(|(_, weight)| weight).sum::<f32>();
            let mut sum = 0.0;
            let kept = candidates.iter().position(|(_, weight)| {
                sum += weight;
                sum >= enough
            });
            candidates.truncate(kept.map_or(candidates.len(), |last| last + 1));
        }
        let kept = candidates.iter().take_while(|(_, weight)| *weight >= options.min_p).count();
        candidates.truncate(kept);
        candidates
    }
}

/// The token with the largest logit; of equal ones the first.
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// One answer to "what comes next".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The token.
    pub token: u32,
    /// Its softmax probability over the whole vocabulary.
    pub probability: f32,
    /// Its logit.
    pub logit: f32,
}

/// The `count` likeliest next tokens for `logits`, `[vocab]`, likeliest first.
pub fn predictions(logits: &[f32], count: usize) -> Vec<Prediction> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|z| f64::from(z - largest).exp()).sum();
    let prediction = |(token, logit): (usize, f32)| {
        let probability = (f64::from(logit - largest).exp() / total) as f32;
        Prediction { token: token as u32, probability, logit }
    };
    top_k_by_value(logits, count).into_iter().map(prediction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(options: SamplingOptions, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(options).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[sampler.choose(&mut logits.to_vec(), &[]) as usize] += 1;
        }
        counts
    }

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -1.0];

    #[test]
    fn zero_temperature_is_greedy_and_ties_go_to_the_first() {
        let mut sampler = Sampler::new(SamplingOptions::default()).unwrap();
        assert_eq!(sampler.choose(&mut LOGITS.to_vec(), &[]), 1);
        assert_eq!(sampler.choose(&mut [3.0, 5.0, 5.0], &[]), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let counts =
            frequencies(SamplingOptions { temperature: 1.0, seed: 7, ..Default::default() }, &LOGITS);
        let expected = predictions(&LOGITS, 4);
        for prediction in expected {
            let found = counts[prediction.token as usize] as f32 / 4000.0;
            assert!((found - prediction.probability).abs() < 0.03, "{prediction:?} came {found}");
        }
    }

    #[test]
    fn each_filter_removes_the_unlikely() {
        let base = SamplingOptions { temperature: 1.0, ..Default::default() };
        let possible = |options| frequencies(options, &LOGITS).iter().map(|c| *c > 0).collect::<Vec<_>>();
        assert_eq!(possible(SamplingOptions { top_k: 2, ..base }), [false, true, true, false]);
        assert_eq!(possible(SamplingOptions { top_p: 0.7, ..base }), [false, true, true, false]);
        assert_eq!(possible(SamplingOptions { min_p: 0.2, ..base }), [false, true, true, false]);
        assert_eq!(possible(base), [true, true, true, true]);
    }

    #[test]
    fn repetition_is_penalised_in_both_signs() {
        let options = SamplingOptions { repetition_penalty: 3.0, ..Default::default() };
        let mut logits = LOGITS;
        assert_eq!(Sampler::new(options).unwrap().choose(&mut logits, &[1, 1, 3]), 2);
        assert_eq!(logits, [0.0, 2.0 / 3.0, 1.0, -3.0]);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let run = |seed| {
            let options = SamplingOptions { temperature: 1.0, seed, ..Default::default() };
            let mut sampler = Sampler::new(options).unwrap();
            (0..50).map(|_| sampler.choose(&mut LOGITS.to_vec(), &[])).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn options_out_of_range_are_named() {
        let error = Sampler::new(SamplingOptions { top_p: 1.5, ..Default::default() }).unwrap_err();
        assert_eq!(error.to_string(), "top_p is 1.5, expected above 0 and at most 1");
        assert!(Sampler::new(SamplingOptions { temperature: f32::NAN, ..Default::default() }).is_err());
    }

    #[test]
    fn predictions_are_ordered_and_sum_to_one() {
        let all = predictions(&LOGITS, 10);
        assert_eq!(all.iter().map(|p| p.token).collect::<Vec<_>>(), [1, 2, 0, 3]);
        assert!((all.iter().map(|p| p.probability).sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
