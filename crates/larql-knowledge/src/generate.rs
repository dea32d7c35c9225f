//! Text, token by token.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use larql_compute::Precision;

use larql_inference::{
    Cache, FfnBackend, Hook, InferenceError, LogitsFor, Model, NoHook, Pass, Sampler, SamplingOptions,
    Sequence,
};

use crate::{EdgeMemory, MemoryAnswer};

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
    /// The remembered edges that answered on the way, in order.
    pub recalled: Vec<MemoryAnswer>,
    /// Why there are no more.
    pub reason: StopReason,
    /// Time for the prompt.
    pub prefill: Duration,
    /// Time for the new tokens.
    pub decode: Duration,
}

/// A model that goes on with text.
#[derive(Clone, Copy)]
pub struct Generator<'a> {
    /// The weights.
    pub model: &'a Model,
    /// The feed-forward step.
    pub feed_forward: &'a dyn FfnBackend,
    /// The edges beside the weights that answer in the model's place.
    pub memory: Option<&'a EdgeMemory>,
}

impl Generator<'_> {
    /// Goes on after `prompt`, which follows what `cache` already holds. `on_token` sees each new token at once and
    /// may break off. Afterwards the cache holds everything but the last new token, which no pass has seen yet.
    ///
    /// # Errors
    /// If the prompt is empty or something in it is outside the model, or an option is out of range.
    pub fn generate(
        &self,
        cache: &mut Cache,
        prompt: &[u32],
        options: &GenerationOptions,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generation, InferenceError> {
        let mut sampler = Sampler::new(options.sampling)?;
        let Generator { model, feed_forward, memory } = *self;
        let mut probe = memory.map(EdgeMemory::probe);
        let mut step = |cache: &mut Cache, tokens: &[u32]| {
            let mut nothing = NoHook;
            let hook: &mut dyn Hook = probe.as_mut().map_or(&mut nothing, |probe| probe);
            let mut pass = Pass { model, feed_forward, precision: options.precision, hook };
            let logits = pass.run(&mut [Sequence { cache, tokens }], LogitsFor::LastToken)?;
            let answer = probe.as_ref().and_then(|probe| probe.answer(model.pool()));
            Ok::<_, InferenceError>((logits, answer))
        };

        let started = Instant::now();
        let (mut logits, mut answer) = step(cache, prompt)?;
        let prefill = started.elapsed();

        let started = Instant::now();
        let mut context = prompt.to_vec();
        let mut recalled = Vec::new();
        // What is left of a remembered answer.
        let mut rest = VecDeque::new();
        let reason = loop {
            if context.len() - prompt.len() == options.max_tokens {
                break StopReason::MaxTokens;
            }
            if rest.is_empty()
                && let Some(answer) = answer.take()
            {
                rest.extend(&answer.tokens);
                recalled.push(answer);
            }
            let token = rest.pop_front().unwrap_or_else(|| sampler.choose(&mut logits, &context));
            if options.stop_tokens.contains(&token) {
                break StopReason::StopToken;
            }
            context.push(token);
            if on_token(token).is_break() {
                break StopReason::Interrupted;
            }
            if context.len() - prompt.len() < options.max_tokens {
                (logits, answer) = step(cache, &[token])?;
            }
        };
        let tokens = context.split_off(prompt.len());
        Ok(Generation { tokens, recalled, reason, prefill, decode: started.elapsed() })
    }
}
