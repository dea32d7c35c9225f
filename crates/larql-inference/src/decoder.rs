//! Decoding: turns the logits of one sequence into its next tokens, and ends it.
//!
//! A [`Decoder`] runs no passes. A loop over one sequence ([`generate`](crate::generate)) and a scheduler of many feed it
//! the logits of each pass, and run the token that it returns.

use std::collections::VecDeque;
use std::error::Error;

use crate::{Hook, Prediction, Sampler, SamplingError, SamplingOptions, nats, predictions};

/// Options of a [`Decoder`].
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeOptions {
    /// Greatest number of tokens.
    pub max_tokens: usize,
    /// Tokens that end the sequence; they are not part of it.
    pub stop_tokens: Vec<u32>,
    /// Choice of each token.
    pub sampling: SamplingOptions,
    /// Number of alternatives that are returned with each token and its probability; none to compute no probabilities.
    pub alternatives: Option<usize>,
}

impl DecodeOptions {
    /// Returns options of greedy decoding of at most `max_tokens` tokens that no token ends.
    pub fn greedy(max_tokens: usize) -> DecodeOptions {
        let (stop_tokens, sampling) = (Vec::new(), SamplingOptions::default());
        DecodeOptions { max_tokens, stop_tokens, sampling, alternatives: None }
    }
}

/// Restriction of the tokens that may come next, such as a grammar.
pub trait Constraint: Send {
    /// Sets the logits of the tokens that may not come next to negative infinity. `logits` is `[vocab]`.
    ///
    /// # Errors
    /// If no token may come next, or the constraint cannot be evaluated.
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError>;

    /// Receives the token that comes next.
    ///
    /// # Errors
    /// If the token breaks the constraint, as tokens of an [`Interceptor`] may.
    fn accept(&mut self, token: u32) -> Result<(), ConstraintError>;

    /// Reports that the sequence is complete, which ends it.
    fn is_complete(&self) -> bool {
        false
    }
}

/// Error of a [`Constraint`].
pub type ConstraintError = Box<dyn Error + Send + Sync>;

/// Source of tokens that override those of the sampler, such as an edge memory.
pub trait Interceptor: Send {
    /// Hook with which the passes of the sequence are run.
    fn hook(&mut self) -> &mut dyn Hook;

    /// Returns the tokens that come next whatever the logits of the last pass are; none to leave them to the sampler. It is
    /// asked after each pass, unless tokens of an earlier answer are left.
    fn next_tokens(&mut self) -> Option<Vec<u32>>;
}

/// Result of feeding logits to a [`Decoder`].
#[derive(Clone, Debug, PartialEq)]
pub enum DecodeStep {
    /// The sequence continues with this token.
    Token(DecodedToken),
    /// The sequence ends.
    Stop(StopReason),
}

/// Next token of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedToken {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability under the model, before penalties, biases and temperature; none if
    /// [`DecodeOptions::alternatives`] is none.
    pub logprob: Option<f32>,
    /// Likeliest tokens under the model, likeliest first.
    pub alternatives: Vec<Prediction>,
}

/// Reason for which a sequence ends.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token came next.
    StopToken,
    /// The greatest number of tokens is reached.
    MaxTokens,
    /// The context has no room for more tokens.
    ContextFull,
    /// The constraint is complete.
    Complete,
    /// The text that the tokens make contains a stop text. Decoders, which know no text, never give this reason.
    StopText,
    /// The caller ended it.
    Interrupted,
}

/// Failure to decode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The sampler failed.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The constraint cannot be met.
    #[error("the constraint cannot be met after {tokens} tokens: {source}")]
    Constraint {
        /// Number of tokens before.
        tokens: usize,
        /// Error of the constraint.
        source: ConstraintError,
    },
}

/// Decoder of one sequence: sampler, stop rule, constraint and interceptor.
///
/// ```
/// use larql_inference::{DecodeOptions, DecodeStep, Decoder, StopReason};
///
/// let mut decoder = Decoder::new(DecodeOptions { stop_tokens: vec![2], ..DecodeOptions::greedy(8) })?;
/// let DecodeStep::Token(token) = decoder.next(&mut [0.1, 0.7, 0.2])? else { panic!("the first token is no stop token") };
/// assert_eq!(token.id, 1);
/// assert_eq!(decoder.next(&mut [0.1, 0.2, 0.7])?, DecodeStep::Stop(StopReason::StopToken));
/// # Ok::<(), larql_inference::DecodeError>(())
/// ```
pub struct Decoder {
    max_tokens: usize,
    stop_tokens: Vec<u32>,
    alternatives: Option<usize>,
    sampler: Sampler,
    constraint: Option<Box<dyn Constraint>>,
    interceptor: Option<Box<dyn Interceptor>>,
    /// Tokens of the interceptor that are still to come.
    forced: VecDeque<u32>,
    /// Number of tokens that the context has room for.
    room: usize,
    /// Number of tokens so far.
    tokens: usize,
}

impl Decoder {
    /// Creates a decoder of one sequence.
    ///
    /// # Errors
    /// [`SamplingError::InvalidOption`] with the first option that is outside its range.
    pub fn new(options: DecodeOptions) -> Result<Decoder, DecodeError> {
        let DecodeOptions { max_tokens, stop_tokens, sampling, alternatives } = options;
        Ok(Decoder {
            max_tokens,
            stop_tokens,
            alternatives,
            sampler: Sampler::new(sampling)?,
            constraint: None,
            interceptor: None,
            forced: VecDeque::new(),
            room: usize::MAX,
            tokens: 0,
        })
    }

    /// Sets the prompt, whose tokens the repetition penalty covers.
    #[must_use]
    pub fn with_prompt(mut self, tokens: &[u32]) -> Decoder {
        self.sampler.observe_prompt(tokens);
        self
    }

    /// Sets the number of tokens that the context has room for after the prompt.
    #[must_use]
    pub fn with_room(self, tokens: usize) -> Decoder {
        Decoder { room: tokens, ..self }
    }

    /// Sets the constraint.
    #[must_use]
    pub fn with_constraint(self, constraint: Box<dyn Constraint>) -> Decoder {
        Decoder { constraint: Some(constraint), ..self }
    }

    /// Sets the interceptor.
    #[must_use]
    pub fn with_interceptor(self, interceptor: Box<dyn Interceptor>) -> Decoder {
        Decoder { interceptor: Some(interceptor), ..self }
    }

    /// Hook with which the passes of the sequence are run, if there is an interceptor.
    pub fn hook(&mut self) -> Option<&mut dyn Hook> {
        self.interceptor.as_mut().map(|interceptor| interceptor.hook())
    }

    /// Number of tokens so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Number of tokens that can still come, if nothing else ends the sequence.
    pub fn remaining(&self) -> usize {
        self.max_tokens.min(self.room).saturating_sub(self.tokens)
    }

    /// Returns true if tokens may be run before they are chosen: no interceptor has to see each pass.
    pub fn takes_drafts(&self) -> bool {
        self.interceptor.is_none()
    }

    /// Returns the reason for which no further token can come, so that no pass needs to be run.
    pub fn finished(&self) -> Option<StopReason> {
        if self.tokens >= self.max_tokens {
            Some(StopReason::MaxTokens)
        } else if self.tokens >= self.room {
            Some(StopReason::ContextFull)
        } else if self.constraint.as_ref().is_some_and(|constraint| constraint.is_complete()) {
            Some(StopReason::Complete)
        } else {
            None
        }
    }

    /// Chooses the next token for the `logits` of the last pass, `[vocab]`, which are changed.
    ///
    /// # Errors
    /// If a bias is for a token that there is not, or the constraint cannot be met.
    pub fn next(&mut self, logits: &mut [f32]) -> Result<DecodeStep, DecodeError> {
        if let Some(reason) = self.finished() {
            return Ok(DecodeStep::Stop(reason));
        }
        if self.forced.is_empty()
            && let Some(tokens) = self.interceptor.as_mut().and_then(|interceptor| interceptor.next_tokens())
        {
            self.forced.extend(tokens);
        }
        // Probabilities are those of the logits as the model gave them.
        let raw = self.alternatives.map(|count| (count, logits.to_vec()));
        let id = match self.forced.pop_front() {
            Some(token) => token,
            None => self.choose(logits)?,
        };
        if self.stop_tokens.contains(&id) {
            return Ok(DecodeStep::Stop(StopReason::StopToken));
        }
        if let Some(constraint) = &mut self.constraint {
            let tokens = self.tokens;
            constraint.accept(id).map_err(|source| DecodeError::Constraint { tokens, source })?;
        }
        self.sampler.observe(id);
        self.tokens += 1;
        let (logprob, alternatives) = match raw {
            Some((count, logits)) if (id as usize) < logits.len() => {
                (Some(-nats(&logits, id) as f32), predictions(&logits, count))
            }
            _ => (None, Vec::new()),
        };
        Ok(DecodeStep::Token(DecodedToken { id, logprob, alternatives }))
    }

    fn choose(&mut self, logits: &mut [f32]) -> Result<u32, DecodeError> {
        self.sampler.adjust(logits)?;
        if let Some(constraint) = &mut self.constraint {
            let tokens = self.tokens;
            constraint.mask(logits).map_err(|source| DecodeError::Constraint { tokens, source })?;
        }
        Ok(self.sampler.choose(logits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoHook;

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -1.0];

    fn tokens(decoder: &mut Decoder) -> (Vec<u32>, StopReason) {
        let mut tokens = Vec::new();
        loop {
            match decoder.next(&mut LOGITS.clone()).unwrap() {
                DecodeStep::Token(token) => tokens.push(token.id),
                DecodeStep::Stop(reason) => return (tokens, reason),
            }
        }
    }

    #[test]
    fn decoding_ends_at_the_greatest_number_of_tokens_and_at_stop_tokens() {
        let mut decoder = Decoder::new(DecodeOptions::greedy(3)).unwrap();
        assert_eq!(tokens(&mut decoder), (vec![1; 3], StopReason::MaxTokens));
        assert_eq!((decoder.tokens(), decoder.finished()), (3, Some(StopReason::MaxTokens)));
        let mut decoder =
            Decoder::new(DecodeOptions { stop_tokens: vec![1], ..DecodeOptions::greedy(3) }).unwrap();
        assert_eq!(tokens(&mut decoder), (vec![], StopReason::StopToken));
    }

    #[test]
    fn a_full_context_ends_the_sequence_unless_the_greatest_number_of_tokens_comes_first() {
        let ended = |room| {
            let mut decoder = Decoder::new(DecodeOptions::greedy(3)).unwrap().with_room(room);
            tokens(&mut decoder)
        };
        assert_eq!(ended(0), (vec![], StopReason::ContextFull));
        assert_eq!(ended(2), (vec![1; 2], StopReason::ContextFull));
        assert_eq!(ended(3), (vec![1; 3], StopReason::MaxTokens));
    }

    #[test]
    fn probabilities_are_those_of_the_model() {
        let sampling = SamplingOptions { logit_bias: vec![(1, -100.0)], ..SamplingOptions::default() };
        let options = DecodeOptions { sampling, alternatives: Some(2), ..DecodeOptions::greedy(1) };
        let step = Decoder::new(options).unwrap().next(&mut LOGITS.clone()).unwrap();
        let DecodeStep::Token(token) = step else { panic!("{step:?}") };
        let expected = predictions(&LOGITS, 2);
        assert_eq!((token.id, &token.alternatives), (2, &expected));
        assert!((token.logprob.unwrap() - expected[1].probability.ln()).abs() < 1e-6);
    }

    /// Allows tokens in descending order, and is complete at 1.
    struct Descending(u32);

    impl Constraint for Descending {
        fn mask(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError> {
            logits[self.0 as usize..].fill(f32::NEG_INFINITY);
            Ok(())
        }
        fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
            if token >= self.0 {
                return Err(format!("{token} does not descend").into());
            }
            self.0 = token;
            Ok(())
        }
        fn is_complete(&self) -> bool {
            self.0 == 1
        }
    }

    /// Says 3 and 2 first.
    struct Begins(Option<Vec<u32>>, NoHook);

    impl Interceptor for Begins {
        fn hook(&mut self) -> &mut dyn Hook {
            &mut self.1
        }
        fn next_tokens(&mut self) -> Option<Vec<u32>> {
            self.0.take()
        }
    }

    #[test]
    fn intercepted_tokens_come_before_those_that_a_constraint_allows() {
        let decoder = || Decoder::new(DecodeOptions::greedy(8)).unwrap();
        let begins = |tokens: &[u32]| Box::new(Begins(Some(tokens.to_vec()), NoHook));
        let mut constrained =
            decoder().with_constraint(Box::new(Descending(4))).with_interceptor(begins(&[3, 2]));
        assert_eq!(tokens(&mut constrained), (vec![3, 2, 1], StopReason::Complete));
        let mut broken = decoder().with_constraint(Box::new(Descending(4))).with_interceptor(begins(&[2, 3]));
        broken.next(&mut LOGITS.clone()).unwrap();
        let error = broken.next(&mut LOGITS.clone()).unwrap_err().to_string();
        assert_eq!(error, "the constraint cannot be met after 1 tokens: 3 does not descend");
    }
}
