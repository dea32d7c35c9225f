//! Errors of evaluations.

use std::path::PathBuf;

use larql_core::progress::Cancelled;
use larql_edit::EditError;
use larql_inference::{GradientError, LoadError, PassError};
use larql_knowledge::{Hint, KnowledgeError};
use larql_models::{ModelError, TokenizerError};
use larql_vindex::VindexError;

/// Failure of an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A weight could not be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The vindex could not be read.
    #[error(transparent)]
    Vindex(#[from] VindexError),
    /// The model could not be run.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// A logit could not be attributed.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// Text could not be turned into tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model's knowledge could not be read.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// The model could not be edited.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A file of reference outputs does not have the expected content.
    #[error("{}: {problem}", path.display())]
    Reference {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// An edit set does not describe the relation of an edge.
    #[error("the edit set does not describe the relation `{relation}`")]
    UnknownRelation {
        /// The relation.
        relation: String,
    },
    /// The model knows none of the edges that are to be updated or deleted.
    #[error(
        "the model answers none of the {edges} edges of the set with its true target; give a set of facts that it knows"
    )]
    NothingKnown {
        /// Number of edges of the set.
        edges: usize,
    },
    /// The model has no such layer.
    #[error("layer is {layer}, expected the number of a layer of the model")]
    NoSuchLayer {
        /// The layer.
        layer: usize,
    },
    /// The evaluation was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl EvalError {
    /// Next step, if there is one that depends on the surface.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            EvalError::Knowledge(error) => error.hint(),
            EvalError::Edit(error) => error.hint(),
            _ => None,
        }
    }

    /// Reports that the evaluation was cancelled.
    pub fn is_cancelled(&self) -> bool {
        match self {
            EvalError::Cancelled(_) | EvalError::Pass(PassError::Cancelled(_)) => true,
            EvalError::Knowledge(error) => error.is_cancelled(),
            EvalError::Edit(error) => error.is_cancelled(),
            _ => false,
        }
    }
}
