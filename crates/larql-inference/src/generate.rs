//! Text, token by token.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use larql_compute::Precision;

use crate::{
    Cache, FfnBackend, InferenceError, LogitsFor, Model, NoHook, Pass, Sampler, SamplingOptions, Sequence,
};

/// How to go on with a prompt.
#[derive(Clone, Debug)]
pub struct GenerationOptions {
    /// At most so many new tokens.
    pub max_tokens: usize,
    /// Tokens that end the text; they are not part of it.
    pub stop_tokens: Vec<u32>,
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// How products treat activations.
    pub precision: Precision,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model said a stop token.
    StopToken,
    /// All the tokens that were asked for are there.
    MaxTokens,
    /// The caller wanted no more.
    Interrupted,
}

/// What came of a prompt.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The new tokens, without a stop token.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub reason: StopReason,
    /// Time for the prompt.
    pub prefill: Duration,
    /// Time for the new tokens.
    pub decode: Duration,
}

/// Goes on after `prompt`, which follows what `cache` already holds. `on_token` sees each new token at once and
/// may break off. Afterwards the cache holds everything but the last new token, which no pass has seen yet.
///
/// # Errors
/// If the prompt is empty or something in it is outside the model, or an option is out of range.
pub fn generate(
    model: &Model,
    feed_forward: &dyn FfnBackend,
    cache: &mut Cache,
    prompt: &[u32],
    options: &GenerationOptions,
    mut on_token: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Generation, InferenceError> {
    let mut sampler = Sampler::new(options.sampling)?;
    let mut hook = NoHook;
    let mut pass = Pass { model, feed_forward, precision: options.precision, hook: &mut hook };
    let mut step =
        |cache: &mut Cache, tokens: &[u32]| pass.run(&mut [Sequence { cache, tokens }], LogitsFor::LastToken);

    let started = Instant::now();
    let mut logits = step(cache, prompt)?;
    let prefill = started.elapsed();

    let started = Instant::now();
    let mut context = prompt.to_vec();
    let reason = loop {
        if context.len() - prompt.len() == options.max_tokens {
            break StopReason::MaxTokens;
        }
        let token = sampler.choose(&mut logits, &context);
        if options.stop_tokens.contains(&token) {
            break StopReason::StopToken;
        }
        context.push(token);
        if on_token(token).is_break() {
            break StopReason::Interrupted;
        }
        if context.len() - prompt.len() < options.max_tokens {
            logits = step(cache, &[token])?;
        }
    };
    let tokens = context.split_off(prompt.len());
    Ok(Generation { tokens, reason, prefill, decode: started.elapsed() })
}
