//! From logits to the next token.

use std::collections::{HashMap, HashSet};

use larql_compute::activation::softmax_sum;
use larql_compute::top_k_by_value;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Options of choosing the next token. The default is greedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingOptions {
    /// Divisor of the logits; 0 is greedy, whatever `top_k`, `top_p` and `min_p` are.
    pub temperature: f32,
    /// Number of likeliest tokens that are kept; 0 keeps all.
    pub top_k: usize,
    /// Probability that the likeliest tokens that are kept reach together; 1 keeps all.
    pub top_p: f32,
    /// Least probability of a token that is kept, as a share of the likeliest one's; 0 keeps all.
    pub min_p: f32,
    /// Divisor of positive logits and factor of negative ones, for tokens of the prompt or the output
    /// (arXiv 1909.05858); 1 changes nothing.
    pub repetition_penalty: f32,
    /// Amount that is subtracted from the logits of tokens of the output; 0 changes nothing.
    pub presence_penalty: f32,
    /// Amount that is subtracted from the logits of tokens of the output, for each time that they occur; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Amounts that are added to the logits of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the random choice: the same seed gives the same text.
    pub seed: u64,
}

/// Failure to choose a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// An option is outside its range.
    #[error("{option} is {found}, expected {expected}")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        found: String,
        /// Possible values.
        expected: &'static str,
    },
    /// A token id is not in the vocabulary.
    #[error("token {token} has a bias, but the vocabulary has {vocab_size} tokens")]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Number of tokens of the vocabulary.
        vocab_size: usize,
    },
}

impl Default for SamplingOptions {
    fn default() -> Self {
        SamplingOptions {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// The highest temperature. At this one the likeliest token of a model is hardly likelier than any other.
    pub const HIGHEST_TEMPERATURE: f32 = 1000.0;

    /// Checks every option.
    ///
    /// # Errors
    /// [`SamplingError::InvalidOption`] with the first option that is outside its range.
    pub fn check(&self) -> Result<(), SamplingError> {
        let two = -2.0..=2.0;
        let checks = [
            (
                "temperature",
                self.temperature,
                (0.0..=SamplingOptions::HIGHEST_TEMPERATURE).contains(&self.temperature),
                "from 0 to 1000",
            ),
            ("top_p", self.top_p, (0.0..=1.0).contains(&self.top_p), "from 0 to 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            ("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0.0, "above 0"),
            ("presence_penalty", self.presence_penalty, two.contains(&self.presence_penalty), "from -2 to 2"),
            (
                "frequency_penalty",
                self.frequency_penalty,
                two.contains(&self.frequency_penalty),
                "from -2 to 2",
            ),
        ];
        let biases = self.logit_bias.iter();
        let biases = biases
            .map(|(_, bias)| ("logit_bias", *bias, (-100.0..=100.0).contains(bias), "from -100 to 100"));
        for (option, value, valid, expected) in checks.into_iter().chain(biases) {
            if !valid || !value.is_finite() {
                return Err(SamplingError::InvalidOption { option, found: value.to_string(), expected });
            }
        }
        Ok(())
    }
}

/// Sampler of one sequence: chooses tokens one after another.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
    prompt: HashSet<u32>,
    /// Number of times that each token occurs in the output.
    output: HashMap<u32, u32>,
}

impl Sampler {
    /// Creates a sampler with checked options.
    ///
    /// # Errors
    /// As [`SamplingOptions::check`].
    pub fn new(options: SamplingOptions) -> Result<Sampler, SamplingError> {
        options.check()?;
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        Ok(Sampler { options, random, prompt: HashSet::new(), output: HashMap::new() })
    }

    /// Adds tokens to the prompt.
    pub fn observe_prompt(&mut self, tokens: &[u32]) {
        self.prompt.extend(tokens);
    }

    /// Adds a token to the output, chosen by this sampler or not.
    pub fn observe(&mut self, token: u32) {
        *self.output.entry(token).or_default() += 1;
    }

    /// Applies penalties and biases to `logits`, `[vocab]`.
    ///
    /// # Errors
    /// [`SamplingError::TokenOutOfRange`] if a bias is for a token that there is not.
    pub fn adjust(&self, logits: &mut [f32]) -> Result<(), SamplingError> {
        let SamplingOptions { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.options;
        if repetition_penalty != 1.0 {
            let new = self.output.keys().filter(|token| !self.prompt.contains(token));
            for token in self.prompt.iter().chain(new) {
                if let Some(logit) = logits.get_mut(*token as usize) {
                    *logit =
                        if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
                }
            }
        }
        if presence_penalty != 0.0 || frequency_penalty != 0.0 {
            for (token, count) in &self.output {
                if let Some(logit) = logits.get_mut(*token as usize) {
                    *logit -= presence_penalty + frequency_penalty * *count as f32;
                }
            }
        }
        let vocab_size = logits.len();
        for (token, bias) in &self.options.logit_bias {
            let logit = logits.get_mut(*token as usize);
            *logit.ok_or(SamplingError::TokenOutOfRange { token: *token, vocab_size })? += bias;
        }
        Ok(())
    }

    /// Chooses a token for adjusted `logits`, `[vocab]`.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let SamplingOptions { temperature, top_k, min_p, .. } = self.options;
        if temperature == 0.0 {
            return greedy(logits);
        }
        let random = self.random.random::<f32>();
        if top_k > 0 {
            let kept = candidates(top_k_by_value(logits, top_k), temperature);
            let sum = kept.iter().map(|candidate| candidate.weight).sum();
            return self.pick(&kept, sum, random).unwrap_or_else(|| greedy(logits));
        }
        let (largest, sum) = softmax_sum(logits, 1.0 / temperature);
        let mut least_likely = None;
        for nats in NATS_BELOW_LIKELIEST {
            // All tokens that `min_p` keeps have to be there.
            if min_p > 0.0 && min_p < (-nats).exp() && nats < NATS_BELOW_LIKELIEST[1] {
                continue;
            }
            let least = largest - nats * temperature;
            let kept = logits.iter().copied().enumerate().filter(|(_, logit)| *logit >= least);
            let kept = candidates(kept.collect(), temperature);
            if let Some(token) = self.pick(&kept, sum as f32, random) {
                return token;
            }
            least_likely = kept.last().map(|candidate| candidate.token);
        }
        // Only the rounding of sums leads here.
        least_likely.unwrap_or_else(|| greedy(logits))
    }

    /// Returns the token that a random number from 0 to 1 chooses among candidates, likeliest first. All tokens, of which they
    /// may be the likeliest few, weigh `sum`. None if the choice depends on less likely tokens.
    fn pick(&self, candidates: &[Candidate], sum: f32, random: f32) -> Option<u32> {
        let SamplingOptions { top_p, min_p, .. } = self.options;
        let (mut kept, mut total) = (candidates, sum);
        if top_p < 1.0 {
            total = 0.0;
            let last = kept.iter().position(|candidate| {
                total += candidate.weight;
                total >= top_p * sum
            });
            kept = &kept[..=last?];
        }
        if min_p > 0.0 {
            let count = kept.iter().take_while(|candidate| candidate.weight >= min_p).count();
            kept = &kept[..count];
            total = kept.iter().map(|candidate| candidate.weight).sum();
        }
        let mut point = random * total;
        let chosen = kept.iter().find(|candidate| {
            point -= candidate.weight;
            point < 0.0
        });
        chosen.map(|candidate| candidate.token)
    }
}

/// Distances below the likeliest token, in nats, of the tokens that are looked at first, and of those that are looked at
/// where these are not enough. Less likely ones than the latter are below the rounding of f32, all together.
const NATS_BELOW_LIKELIEST: [f32; 2] = [7.0, 32.0];

/// Token that may be chosen, with its probability relative to the likeliest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    weight: f32,
    token: u32,
}

/// Tokens with their logits as candidates, likeliest first.
fn candidates(mut tokens: Vec<(usize, f32)>, temperature: f32) -> Vec<Candidate> {
    tokens.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let largest = tokens.first().map_or(0.0, |(_, logit)| *logit);
    let candidate = |(token, logit): (usize, f32)| Candidate {
        weight: ((logit - largest) / temperature).exp(),
        token: token as u32,
    };
    tokens.into_iter().map(candidate).collect()
}

/// Token with the largest logit; of equal ones the first.
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Next token with its probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The token.
    pub token: u32,
    /// Its softmax probability over the whole vocabulary.
    pub probability: f32,
    /// Its logit.
    pub logit: f32,
}

/// Returns the `count` likeliest next tokens for `logits`, `[vocab]`, likeliest first.
pub fn predictions(logits: &[f32], count: usize) -> Vec<Prediction> {
    let (largest, total) = softmax_sum(logits, 1.0);
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
            counts[sampler.choose(logits) as usize] += 1;
        }
        counts
    }

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -1.0];

    #[test]
    fn zero_temperature_is_greedy_and_ties_go_to_the_first() {
        let mut sampler = Sampler::new(SamplingOptions::default()).unwrap();
        assert_eq!(sampler.choose(&LOGITS), 1);
        assert_eq!(sampler.choose(&[3.0, 5.0, 5.0]), 1);
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
        let possible = |options: SamplingOptions| {
            frequencies(options, &LOGITS).iter().map(|c| *c > 0).collect::<Vec<_>>()
        };
        assert_eq!(possible(SamplingOptions { top_k: 2, ..base.clone() }), [false, true, true, false]);
        assert_eq!(possible(SamplingOptions { top_p: 0.7, ..base.clone() }), [false, true, true, false]);
        assert_eq!(possible(SamplingOptions { min_p: 0.2, ..base.clone() }), [false, true, true, false]);
        assert_eq!(possible(base), [true, true, true, true]);
    }

    /// Tokens so unlikely that they are looked at last, which together come as often as the likely one.
    #[test]
    fn unlikely_tokens_come_as_often_as_their_probabilities_say() {
        let mut logits = vec![0.0; 3001];
        logits[7] = 3000f32.ln();
        for options in [
            SamplingOptions { temperature: 1.0, ..Default::default() },
            SamplingOptions { temperature: 1.0, top_p: 0.999, ..Default::default() },
            SamplingOptions { temperature: 1.0, min_p: 1e-9, ..Default::default() },
        ] {
            let likely = frequencies(options.clone(), &logits)[7];
            assert!((1880..2120).contains(&likely), "{likely} of 4000 with {options:?}");
        }
    }

    #[test]
    fn repetition_is_penalised_in_both_signs() {
        let options = SamplingOptions { repetition_penalty: 3.0, ..Default::default() };
        let mut logits = LOGITS;
        let mut sampler = Sampler::new(options).unwrap();
        sampler.observe_prompt(&[1, 1, 3]);
        sampler.observe(1);
        sampler.adjust(&mut logits).unwrap();
        assert_eq!(logits, [0.0, 2.0 / 3.0, 1.0, -3.0]);
        assert_eq!(sampler.choose(&logits), 2);
    }

    #[test]
    fn penalties_of_the_output_and_biases_are_subtracted_and_added() {
        let options = SamplingOptions {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            logit_bias: vec![(0, 1.5), (3, -1.0)],
            ..Default::default()
        };
        let mut sampler = Sampler::new(options).unwrap();
        sampler.observe_prompt(&[2]);
        [1, 1, 0].into_iter().for_each(|token| sampler.observe(token));
        let mut logits = LOGITS;
        sampler.adjust(&mut logits).unwrap();
        assert_eq!(logits, [0.75, 1.0, 1.0, -2.0]);
        let error = sampler.adjust(&mut [0.0; 3]).unwrap_err();
        assert!(matches!(error, SamplingError::TokenOutOfRange { token: 3, vocab_size: 3 }), "{error}");
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let run = |seed| {
            let options = SamplingOptions { temperature: 1.0, seed, ..Default::default() };
            let mut sampler = Sampler::new(options).unwrap();
            (0..50).map(|_| sampler.choose(&LOGITS)).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn options_out_of_range_are_named() {
        let error = Sampler::new(SamplingOptions { top_p: 1.5, ..Default::default() }).unwrap_err();
        assert_eq!(error.to_string(), "top_p is 1.5, expected from 0 to 1");
        assert!(Sampler::new(SamplingOptions { temperature: f32::NAN, ..Default::default() }).is_err());
        let biased = SamplingOptions { logit_bias: vec![(1, 101.0)], ..Default::default() };
        let error = Sampler::new(biased).unwrap_err();
        assert_eq!(error.to_string(), "logit_bias is 101, expected from -100 to 100");
    }

    #[test]
    fn predictions_are_ordered_and_sum_to_one() {
        let all = predictions(&LOGITS, 10);
        assert_eq!(all.iter().map(|p| p.token).collect::<Vec<_>>(), [1, 2, 0, 3]);
        assert!((all.iter().map(|p| p.probability).sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
