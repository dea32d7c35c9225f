//! Generation: the loop that decodes one sequence.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use larql_core::progress::CancelToken;

use crate::{
    DecodeError, DecodeStep, DecodedToken, Decoder, Executor, PassError, Sequence, SequenceState, StopReason,
};

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

/// Continues `prompt`, which follows the tokens of `state`, until `decoder` ends the sequence. `on_token` receives each
/// token at once, and may end it too; `cancel` ends it between layers. Afterwards the state holds everything but the last
/// token, which no pass has run.
///
/// # Errors
/// If the prompt is empty or a token is outside the model, a pass is cancelled or fails, or the decoder fails.
pub fn generate(
    executor: &dyn Executor,
    state: &mut dyn SequenceState,
    prompt: &[u32],
    decoder: &mut Decoder,
    cancel: &CancelToken,
    mut on_token: impl FnMut(&DecodedToken) -> ControlFlow<()>,
) -> Result<Generated, GenerateError> {
    let mut step = |tokens: &[u32], decoder: &mut Decoder| {
        let logits = executor.forward(&mut [Sequence::new(state, tokens)], decoder.hook(), cancel)?;
        Ok::<_, PassError>(logits.into_values())
    };
    let started = Instant::now();
    let mut logits = step(prompt, decoder)?;
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
        logits = step(&[token.id], decoder)?;
    };
    Ok(Generated { tokens, reason, prefill, decode: started.elapsed() })
}
