use std::path::{Path, PathBuf};

use larql_compute::ComputeError;

use crate::{ChatError, Role, TokenizerError};

/// Errors of reading a model. Every message names the file and what was expected in it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The source was written without this tensor, on purpose.
    #[error("the {role} is not in {}: {advice}", path.display())]
    LeftOut {
        /// Role of the tensor.
        role: Role,
        /// The source.
        path: PathBuf,
        /// Content of the file instead, and how to get one with tensors.
        advice: String,
    },
    /// A file could not be opened, read or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// There is no checkpoint at this place.
    #[error(
        "{} is not a checkpoint: {problem}; expected a .gguf file, or a directory with config.json and \
         model.safetensors (or shards with model.safetensors.index.json)",
        path.display()
    )]
    NotACheckpoint {
        /// Path that was searched.
        path: PathBuf,
        /// Content found.
        problem: String,
    },
    /// Something else is at this place.
    #[error("{} is {found}; {advice}", path.display())]
    OtherFile {
        /// The file or directory.
        path: PathBuf,
        /// Kind of the file.
        found: String,
        /// Next step.
        advice: String,
    },
    /// A file is damaged, or not what it claims to be.
    #[error("{}: {field}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Part of the file: a header field, a key, a tensor.
        field: String,
        /// Expected value.
        expected: String,
        /// Value found.
        found: String,
    },
    /// A sound file that uses something this program does not read.
    #[error("{}: {feature} is not supported; {advice}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The unsupported property.
        feature: String,
        /// A way around it.
        advice: String,
    },
    /// The model belongs to no family that is known here.
    #[error("{}: `{key}` is \"{found}\"; supported: {supported}", path.display())]
    UnknownFamily {
        /// The file that says which family it is.
        path: PathBuf,
        /// `model_type` or `general.architecture`.
        key: &'static str,
        /// Value found.
        found: String,
        /// Supported values.
        supported: String,
    },
    /// A configuration lacks a value that has no default.
    #[error("{}: `{key}` is missing; expected {expected}", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// Full name of the key.
        key: String,
        /// Expected content.
        expected: &'static str,
    },
    /// A configuration holds a value of the wrong type, or one that cannot be.
    #[error("{}: `{key}`: expected {expected}, found {found}", path.display())]
    WrongValue {
        /// The file.
        path: PathBuf,
        /// Full name of the key.
        key: String,
        /// Expected content.
        expected: String,
        /// Content found.
        found: String,
    },
    /// The values of a configuration do not go together.
    #[error("{}: {problem}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Both values, by name.
        problem: String,
    },
    /// The source does not hold a tensor that the model needs.
    #[error("the {role} (`{name}`) is missing from {}", path.display())]
    MissingTensor {
        /// Role of the tensor.
        role: Role,
        /// Name that it would have there.
        name: String,
        /// File or directory that was searched.
        path: PathBuf,
    },
    /// A tensor has another shape than the configuration makes it.
    #[error(
        "{}: the {role} (`{name}`) should be {expected:?} by the model's configuration, but is {found:?}",
        path.display()
    )]
    WrongShape {
        /// Role of the tensor.
        role: Role,
        /// Its name.
        name: String,
        /// The shape that follows from the configuration, outermost dimension first.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
        /// File that holds it.
        path: PathBuf,
    },
    /// There are tensors that the model has no use for, so the family may have been misread.
    #[error(
        "{}: a {family} model has no place for {examples} ({count} in all); \
         it may be of another kind, and its answers would be wrong without them",
        path.display()
    )]
    UnknownTensors {
        /// The checkpoint.
        path: PathBuf,
        /// Family it was read as.
        family: String,
        /// Number of tensors.
        count: usize,
        /// Names of the first few.
        examples: String,
    },
    /// The tokenizer cannot be made.
    #[error("the tokenizer of {}: {source}", path.display())]
    Tokenizer {
        /// The checkpoint.
        path: PathBuf,
        /// Description of the damage.
        source: TokenizerError,
    },
    /// The chat template cannot be read.
    #[error("the chat template of {}: {source}", path.display())]
    ChatTemplate {
        /// The checkpoint.
        path: PathBuf,
        /// Description of the damage.
        source: ChatError,
    },
    /// The bytes do not make the matrix that they should.
    #[error("{}: `{tensor}`: {source}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor in it.
        tensor: String,
        /// Error in its size or type.
        source: ComputeError,
    },
}

impl ModelError {
    pub(crate) fn malformed(
        path: &Path,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> ModelError {
        ModelError::Malformed {
            path: path.into(),
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(crate) fn unsupported(
        path: &Path,
        feature: impl Into<String>,
        advice: impl Into<String>,
    ) -> ModelError {
        ModelError::Unsupported { path: path.into(), feature: feature.into(), advice: advice.into() }
    }
}
