use larql_models::ModelError;

/// What can go wrong while a model runs.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// A weight could not be had.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's specification asks for something that cannot be computed.
    #[error(transparent)]
    Compute(#[from] larql_compute::ComputeError),
    /// A token id is not in the model's vocabulary.
    #[error(
        "token {token} is outside the model's vocabulary of {vocab_size}; the tokenizer belongs to another model"
    )]
    TokenOutOfRange {
        /// The token asked for.
        token: u32,
        /// Tokens that the model knows.
        vocab_size: usize,
    },
    /// There is nothing to run.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// The model has learned positions and the sequence is longer than they reach.
    #[error("the sequence would be {length} tokens long, but the model has positions for {limit}")]
    ContextExceeded {
        /// Tokens in the sequence with the new ones.
        length: usize,
        /// Positions that the model has.
        limit: usize,
    },
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
    /// Somebody asked the work to stop.
    #[error("interrupted")]
    Interrupted,
}
