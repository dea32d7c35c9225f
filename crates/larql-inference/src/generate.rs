//! Generation: the loop that decodes one sequence.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use larql_compute::Precision;
use larql_core::progress::CancelToken;

use crate::{
    DecodeError, DecodeStep, DecodedToken, Decoder, FfnBackend, Model, Pass, PassError, SequenceState,
    StopReason,
};

/// Model that continues text, with the feed-forward step that it runs.
#[derive(Clone, Copy)]
pub struct Generator<'a> {
    /// The weights.
    pub model: &'a Model,
    /// Feed-forward step that replaces the model's own.
    pub feed_forward: Option<&'a dyn FfnBackend>,
    /// Precision of the products.
    pub precision: Precision,
    /// Token that ends the generation between layers.
    pub cancel: &'a CancelToken,
}

/// Tokens that continue a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The tokens, without a stop token.
    pub tokens: Vec<u32>,
    /// Reason for which there are no more.
    pub reason: StopReason,
    /// Time of the prompt's pass.
    pub prefill: Duration,
    /// Time of all other passes.
    pub decode: Duration,
}

/// Failure to generate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// No token could be chosen.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Generator<'_> {
    /// Continues `prompt`, which follows the tokens of `state`, until `decoder` ends the sequence. `on_token` receives each
    /// token at once, and may end it too. Afterwards the state holds everything but the last token, which no pass has run.
    ///
    /// # Errors
    /// If the prompt is empty or a token is outside the model, a pass is cancelled or fails, or the decoder fails.
    pub fn generate(
        &self,
        state: &mut dyn SequenceState,
        prompt: &[u32],
        decoder: &mut Decoder,
        mut on_token: impl FnMut(&DecodedToken) -> ControlFlow<()>,
    ) -> Result<Generated, GenerateError> {
        let started = Instant::now();
        let mut logits = self.step(state, prompt, decoder)?;
        let prefill = started.elapsed();

        let started = Instant::now();
        let mut tokens = Vec::new();
        let reason = loop {
            let token = match decoder.next(&mut logits)? {
                DecodeStep::Token(token) => token,
                DecodeStep::Stop(reason) => break reason,
            };
            tokens.push(token.id);
            if on_token(&token).is_break() {
                break StopReason::Interrupted;
            }
            if let Some(reason) = decoder.finished() {
                break reason;
            }
            logits = self.step(state, &[token.id], decoder)?;
        };
        Ok(Generated { tokens, reason, prefill, decode: started.elapsed() })
    }

    /// Runs tokens with the decoder's hook and returns the logits of the last one, `[vocab]`.
    fn step(
        &self,
        state: &mut dyn SequenceState,
        tokens: &[u32],
        decoder: &mut Decoder,
    ) -> Result<Vec<f32>, PassError> {
        let mut pass = Pass::new(self.model).with_precision(self.precision).with_cancel(self.cancel);
        if let Some(feed_forward) = self.feed_forward {
            pass = pass.with_feed_forward(feed_forward);
        }
        if let Some(hook) = decoder.hook() {
            pass = pass.with_hook(hook);
        }
        pass.last_logits(state, tokens)
    }
}
