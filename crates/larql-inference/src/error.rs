//! Errors of loading a model and of running it.

use std::error::Error;
use std::path::PathBuf;

use larql_core::progress::Cancelled;
use larql_models::{ChatError, ModelError, TokenizerError};
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
        "token {token} is outside the model's vocabulary of {vocab_size}; the tokenizer belongs to another model"
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

/// What can go wrong while a model runs.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model could not be run.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Weights are absent, or a back end failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A weight could not be had.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's specification asks for something that cannot be computed.
    #[error(transparent)]
    Compute(#[from] larql_compute::ComputeError),
    /// There is nothing to run.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// A sampling option is outside its range.
    #[error("{option} is {found}, expected {expected}")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// What was given.
        found: String,
        /// What is possible.
        expected: &'static str,
    },
    /// A file of reference outputs does not have the expected content.
    #[error("{}: {problem}", path.display())]
    Reference {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The vindex could not be read.
    #[error(transparent)]
    Vindex(#[from] VindexError),
    /// Text could not be turned into tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template does not render.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// There is a model but no tokenizer, so it takes token ids only.
    #[error("{} has no tokenizer; put its tokenizer.json there", path.display())]
    NoTokenizer {
        /// The checkpoint or vindex.
        path: std::path::PathBuf,
    },
    /// The tokenizer has tokens that the model does not know.
    #[error(
        "the tokenizer of {} has {tokens} tokens, but the model knows {vocab_size}; it belongs to another model",
        path.display()
    )]
    WrongTokenizer {
        /// The checkpoint or vindex.
        path: std::path::PathBuf,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// The model was not made for conversations.
    #[error("the model has no chat template; use `larql run MODEL PROMPT` to complete a text")]
    NoChatTemplate,
    /// A fact cannot be written into the weights of such a model.
    #[error(
        "layer {layer} has {part}, through which gradients are not computed; use MODE KNN to insert facts"
    )]
    NotDifferentiable {
        /// The first layer in the way.
        layer: usize,
        /// What it has.
        part: &'static str,
    },
    /// There is nothing to learn from a text about what is ordinary.
    #[error(
        "the calibration text gives no usable statistics of the layer's inputs; it has to have some hundred words, and \
         the model has to compute finite numbers"
    )]
    NoStatistics,
    /// Kept statistics cannot be used.
    #[error("statistics of layer {layer}: {problem}; measure them again")]
    BadStatistics {
        /// The layer that they are to be of.
        layer: usize,
        /// What is wrong with them.
        problem: String,
    },
    /// A target has no tokens of its own.
    #[error("`{target}` after `{prompt}` does not make tokens of its own; state a target that is a word")]
    NoTarget {
        /// What comes before.
        prompt: String,
        /// The target.
        target: String,
    },
    /// Every feature of the layer holds something that was written.
    #[error("none of the {features} features of layer {layer} is left to be written over; use another layer")]
    NoFeatureLeft {
        /// The layer.
        layer: usize,
        /// Its features.
        features: usize,
    },
    /// What was found could not be kept for later.
    #[error("what was found cannot be kept: {0}")]
    CannotKeep(#[source] std::io::Error),
    /// What a probe left in the vindex cannot be used.
    #[error(transparent)]
    ProbeFile(#[from] ProbeFileError),
    /// Somebody asked the work to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Why what a probe left cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFileError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not of its form.
    #[error("{}: {part}: expected {expected}, found {found}; run `larql probe` again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        part: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
}
