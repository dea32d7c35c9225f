//! Errors of loading a model, of running it, and of its gradients.

use std::error::Error;

use larql_core::progress::Cancelled;
use larql_models::ModelError;
use larql_vindex::VindexError;

use crate::hook::{HookError, Point};
use crate::state::StateError;

/// Failure to load a model's weights, or to lay edits over them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A weight could not be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's specification asks for something that cannot be computed.
    #[error(transparent)]
    Compute(#[from] larql_compute::ComputeError),
    /// The vindex could not be read, or an edit does not fit it.
    #[error(transparent)]
    Vindex(#[from] VindexError),
}

/// Failure of a forward pass.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// A sequence has no new tokens.
    #[error("the prompt has no tokens; give at least one")]
    NoTokens,
    /// A token id is not in the model's vocabulary.
    #[error(
        "token {token} has no embedding: the model's vocabulary has {vocab_size} tokens; leave it out of the text"
    )]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Number of tokens that the model knows.
        vocab_size: usize,
    },
    /// The model has learned positions and the sequence is longer than they reach.
    #[error("the sequence would be {length} tokens long, but the model has positions for {limit}")]
    ContextExceeded {
        /// Tokens in the sequence with the new ones.
        length: usize,
        /// Positions that the model has.
        limit: usize,
    },
    /// Weights are absent, or a back end failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A hook ended the pass.
    #[error("the hook at {point} failed: {source}")]
    Hook {
        /// The point at which it was called.
        point: Point,
        /// The hook's own error.
        source: HookError,
    },
    /// The state of a sequence could not take new keys and values.
    #[error("the state of a sequence failed in layer {layer}: {source}")]
    State {
        /// The layer.
        layer: usize,
        /// The state's own error.
        source: StateError,
    },
    /// The pass was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Failure of what computes a feed-forward step, embeds tokens or computes logits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The weights are not in what was loaded.
    #[error(
        "{part}{} is not in what was loaded, which is a slice of the model; run with a back end that has it",
        layer.map(|layer| format!(" of layer {layer}")).unwrap_or_default()
    )]
    Absent {
        /// The missing part, with its article.
        part: &'static str,
        /// The layer, if the part is in one.
        layer: Option<usize>,
    },
    /// The back end cannot do this.
    #[error("{operation} is not possible with this back end; run the layer's own weights")]
    Unsupported {
        /// The operation, as a noun.
        operation: &'static str,
    },
    /// The back end failed by an error of its own.
    #[error(transparent)]
    Failed(#[from] Box<dyn Error + Send + Sync>),
}

/// Failure of a backward pass.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GradientError {
    /// The backward pass does not cover a part of the model.
    #[error("layer {layer} has {part}, through which gradients are not computed")]
    NotDifferentiable {
        /// The first layer with such a part.
        layer: usize,
        /// The part.
        part: &'static str,
    },
    /// Weights are absent.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The forward pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
}

/// Inputs whose second moment is not positive definite: they are not finite, or there are too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the calibration text gives no usable statistics of the layer's inputs; it has to have some hundred words, and the \
     model has to compute finite numbers"
)]
pub struct WhiteningError;
