//! Errors of knowledge editing.

use larql_core::progress::Cancelled;
use larql_inference::{BackendError, GradientError, LoadError, PassError, WhiteningError};
use larql_knowledge::{Hint, KnowledgeError};
use larql_models::TokenizerError;

/// Failure to edit what a model knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// Gradients through the model cannot be computed.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// The model could not be run.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Weights are absent.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The edits do not fit the model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Text could not be turned into tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model's knowledge could not be read, or a target has no tokens.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// The inputs of the layer cannot be whitened.
    #[error(transparent)]
    Whitening(#[from] WhiteningError),
    /// Statistics that were kept do not fit the model.
    #[error("statistics of layer {layer}: {problem}; measure them again")]
    BadStatistics {
        /// The layer.
        layer: usize,
        /// The problem.
        problem: String,
    },
    /// A wording has no template.
    #[error("the wording of the relation has no template; give at least one")]
    NoTemplate,
    /// A statement lacks a part.
    #[error("the statement has {found}, expected {expected}")]
    IncompleteStatement {
        /// The part as it is.
        found: &'static str,
        /// The part as it should be.
        expected: &'static str,
    },
    /// A target has no tokens of its own.
    #[error("`{target}` after `{prompt}` does not make tokens of its own; state a target that is a word")]
    NoTarget {
        /// Text before the target.
        prompt: String,
        /// The target.
        target: String,
    },
    /// Every feature of the layer was written before.
    #[error("none of the {features} features of layer {layer} is left to be written over; use another layer")]
    NoFeatureLeft {
        /// The layer.
        layer: usize,
        /// Number of its features.
        features: usize,
    },
    /// No update of a layer replaces the features of the facts.
    #[error("no update of layer {layer} does what the features of the facts do: {problem}")]
    Unsolvable {
        /// The layer.
        layer: usize,
        /// The problem.
        problem: &'static str,
    },
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl EditError {
    /// Next step, if there is one that depends on the surface.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            EditError::Gradient(GradientError::NotDifferentiable { .. }) => Some(Hint::InsertIntoMemory),
            EditError::Knowledge(error) => error.hint(),
            _ => None,
        }
    }

    /// Reports that the work was cancelled.
    pub fn is_cancelled(&self) -> bool {
        match self {
            EditError::Cancelled(_)
            | EditError::Pass(PassError::Cancelled(_))
            | EditError::Gradient(GradientError::Pass(PassError::Cancelled(_))) => true,
            EditError::Knowledge(error) => error.is_cancelled(),
            _ => false,
        }
    }
}
