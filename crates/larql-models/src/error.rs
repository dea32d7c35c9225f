use std::path::PathBuf;

use larql_compute::ComputeError;

use crate::Role;

/// What can go wrong while a model is read. Every message names the file and what was expected in it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be opened, read or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The source does not hold a tensor that the model needs.
    #[error("the {role} (`{name}`) is missing from {}", path.display())]
    MissingTensor {
        /// What the tensor is for.
        role: Role,
        /// What it would be called there.
        name: String,
        /// File or directory that was searched.
        path: PathBuf,
    },
    /// The bytes do not make the matrix that they should.
    #[error("{}: `{tensor}`: {source}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor in it.
        tensor: String,
        /// What is wrong with its size or type.
        source: ComputeError,
    },
}
