//! Requests to the engine, and the events that come back.

use std::time::Duration;

use larql_inference::{Constraint, DecodeOptions, DecodedToken, Prediction, StopReason};
use larql_knowledge::LanguageModel;

/// A text to be generated.
pub(crate) struct GenerationRequest {
    /// The model, with edits.
    pub(crate) language: LanguageModel,
    /// Number of the weights with their edits: requests with the same number share passes and prefixes.
    pub(crate) weights: u64,
    /// Tokens of the prompt; at least one.
    pub(crate) prompt: Vec<u32>,
    /// Choice of the tokens, and the end of the text.
    pub(crate) decode: DecodeOptions,
    /// Texts that end the generated text; they are not part of it.
    pub(crate) stop_texts: Vec<String>,
    /// Restriction of the tokens, such as a grammar.
    pub(crate) constraint: Option<Box<dyn Constraint>>,
    /// Number of alternatives that are returned with each token of the prompt and its probability; none to return none.
    pub(crate) prompt_alternatives: Option<usize>,
}

/// Part of an answer.
#[derive(Debug)]
pub(crate) enum Event {
    /// Tokens of the prompt with their probabilities, in order, where those were asked for.
    Prompt(Vec<PromptToken>),
    /// A token.
    Token(Token),
    /// The end.
    Finished(Finish),
    /// The engine failed. Nothing follows.
    Failed(EngineError),
}

/// A token of the prompt.
#[derive(Debug)]
pub(crate) struct PromptToken {
    /// Natural logarithm of its probability after the tokens before it; none for the first.
    pub(crate) logprob: Option<f32>,
    /// The likeliest tokens in its place, likeliest first.
    pub(crate) alternatives: Vec<Prediction>,
}

/// A token of the text.
#[derive(Debug)]
pub(crate) struct Token {
    /// The token with its probability.
    pub(crate) token: DecodedToken,
    /// Text that is certain now, in whole characters. It lags behind the tokens where a stop text may have begun.
    pub(crate) text: String,
}

/// End of a text.
#[derive(Clone, Debug)]
pub(crate) struct Finish {
    /// Text that was held back until the end.
    pub(crate) text: String,
    /// Reason for which there are no more tokens.
    pub(crate) reason: StopReason,
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
    /// Tokens of the prompt whose keys and values were there already.
    pub(crate) cached: usize,
    /// Tokens of the text.
    pub(crate) tokens: usize,
    /// Time from the first pass to the first token.
    pub(crate) prefill: Duration,
    /// Time of all other tokens.
    pub(crate) decode: Duration,
}

/// Failure of the engine to take or to finish a request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum EngineError {
    /// The queue is full.
    #[error("{waiting} requests are waiting already; try again in {seconds} s")]
    Full {
        /// Requests that wait.
        waiting: usize,
        /// Seconds after which another try may succeed.
        seconds: u64,
    },
    /// Prompt and text are longer than the memory for keys and values.
    #[error(
        "prompt and text need keys and values of {tokens} tokens, but the server keeps {room}; ask for fewer tokens"
    )]
    TooLong {
        /// Tokens of prompt and text.
        tokens: usize,
        /// Tokens that there is memory for.
        room: usize,
    },
    /// The request is at fault.
    #[error("{0}")]
    Invalid(String),
    /// A pass failed.
    #[error("the model could not be run: {0}")]
    Pass(String),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopped,
}
