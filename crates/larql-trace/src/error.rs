//! Errors of recording and reading traces.

use larql_inference::{BackendError, GradientError, PassError};

/// Failure to record a trace or to read it in token space.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Weights that a reading needs are absent.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Attribution does not cover a part of the model.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// A position is outside the prompt.
    #[error("position {position} does not exist: the prompt has {tokens} tokens, numbered from 0")]
    NoSuchPosition {
        /// The position.
        position: usize,
        /// Tokens of the prompt.
        tokens: usize,
    },
    /// An answer has no tokens.
    #[error("the answer has no tokens; give a word that the model may say")]
    EmptyAnswer,
}
