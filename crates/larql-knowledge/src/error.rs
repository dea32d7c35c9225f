//! Errors of opening language models, of reading and of probing, and hints that go with them.

use std::path::PathBuf;

use larql_compute::ComputeError;
use larql_core::progress::Cancelled;
use larql_inference::{
    BackendError, DecodeError, DraftError, GenerateError, LoadError, PassError, WhiteningError,
};
use larql_models::{ChatError, ModelError, TokenizerError};
use larql_vindex::VindexError;

/// Next step after an error, which each surface words in its own terms.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Complete a text instead of chatting.
    CompleteText,
    /// Probe the vindex again.
    ProbeAgain,
    /// Insert facts as entries of the edge memory.
    InsertIntoMemory,
    /// Allow a longer context than the model was made for.
    LongerContext,
}

/// Failure to open a language model, or to read what it knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnowledgeError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The checkpoint could not be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The vindex could not be read.
    #[error(transparent)]
    Vindex(#[from] VindexError),
    /// The model could not be run.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Weights are absent.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Text could not be generated.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Text could not be turned into tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template does not render.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The model has no tokenizer, so it takes token ids only.
    #[error("{} has no tokenizer; put its tokenizer.json there", path.display())]
    NoTokenizer {
        /// The checkpoint or vindex.
        path: PathBuf,
    },
    /// A text has a token that the tokenizer knows and the model does not.
    #[error(
        "the text has the token `{text}` (id {token}), but the model's embedding has only {rows} rows; leave it out"
    )]
    NoEmbedding {
        /// Text of the token.
        text: String,
        /// The token.
        token: u32,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The model was not made for conversations.
    #[error("the model has no chat template")]
    NoChatTemplate,
    /// A prompt does not fit into the context.
    #[error("the prompt is {tokens} tokens long, but the context holds {context}; shorten the prompt")]
    ContextExceeded {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that the context holds.
        context: usize,
        /// True if the model can run longer contexts, though it was not made for them.
        extensible: bool,
    },
    /// The draft model's tokens stand for other texts.
    #[error(
        "the draft model has another vocabulary: token {token} is {other}, and {own} in the model; give a smaller model of the same family"
    )]
    OtherVocabulary {
        /// The first token that differs.
        token: u32,
        /// Its text in the model.
        own: String,
        /// Its text in the draft model.
        other: String,
    },
    /// The keys of a layer cannot be whitened.
    #[error(transparent)]
    Whitening(#[from] WhiteningError),
    /// The keys of a layer cannot be encoded.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// A target has no tokens of its own.
    #[error("`{target}` after `{prompt}` does not make tokens of its own; state a target that is a word")]
    NoTarget {
        /// Text before the target.
        prompt: String,
        /// The target.
        target: String,
    },
}

impl KnowledgeError {
    /// Next step, if there is one that depends on the surface.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            KnowledgeError::NoChatTemplate => Some(Hint::CompleteText),
            KnowledgeError::ContextExceeded { extensible: true, .. } => Some(Hint::LongerContext),
            _ => None,
        }
    }

    /// Reports that the work was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            KnowledgeError::Pass(PassError::Cancelled(_))
                | KnowledgeError::Generate(
                    GenerateError::Pass(PassError::Cancelled(_))
                        | GenerateError::Draft(DraftError::Pass(PassError::Cancelled(_)))
                )
        )
    }
}

impl From<DecodeError> for KnowledgeError {
    fn from(error: DecodeError) -> Self {
        GenerateError::from(error).into()
    }
}

impl From<Cancelled> for KnowledgeError {
    fn from(cancelled: Cancelled) -> Self {
        PassError::from(cancelled).into()
    }
}

/// Failure of a probe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The model could not be asked.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// Answers could not be kept for a later probe.
    #[error("what was found cannot be kept: {0}")]
    CannotKeep(#[source] std::io::Error),
    /// The results of a probe could not be read or written.
    #[error(transparent)]
    File(#[from] ProbeFileError),
    /// The probe was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl ProbeError {
    /// Next step, if there is one that depends on the surface.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            ProbeError::Knowledge(error) => error.hint(),
            ProbeError::File(error) => error.hint(),
            _ => None,
        }
    }

    /// Reports that the probe was cancelled.
    pub fn is_cancelled(&self) -> bool {
        match self {
            ProbeError::Cancelled(_) => true,
            ProbeError::Knowledge(error) => error.is_cancelled(),
            _ => false,
        }
    }
}

/// Failure to read or write the results of a probe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeFileError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// A file is not of its form.
    #[error("{}: {part}: expected {expected}, found {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Place in it.
        part: &'static str,
        /// Expected content.
        expected: String,
        /// Content that was found.
        found: String,
    },
}

impl ProbeFileError {
    /// Next step, if there is one that depends on the surface.
    pub fn hint(&self) -> Option<Hint> {
        matches!(self, ProbeFileError::Damaged { .. }).then_some(Hint::ProbeAgain)
    }
}
