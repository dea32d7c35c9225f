//! Files of traces. All numbers are little-endian.
//!
//! | Store | File begins with | Holds |
//! |---|---|---|
//! | [`ChainStore`] | `TRAC` | for each token the whole chain of waypoints |
//! | [`BoundaryStore`] | `BNDX` | for each window of tokens the residual at its end |
//! | [`ContextStore`] | `CTXT` | for each window the residual and, by tier, the deltas of layers |
//!
//! A writer writes the data first and the header's count last, so a file holds what its header counts: bytes beyond are the
//! rest of an append that did not finish, and are cut off when the file is opened to append. Readers map the file.

mod boundary;
mod chain;
mod context;
mod file;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use boundary::{BoundaryStore, BoundaryWriter};
pub use chain::{ChainStore, ChainWriter};
pub use context::{ContextContents, ContextStore, ContextWriter, Tier};

/// Identity of the model that a trace was made with: SHA-256 of a description of its weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelDigest(pub [u8; 32]);

impl ModelDigest {
    /// The digest of what identifies the weights, such as the digests of their files.
    pub fn of(description: &str) -> ModelDigest {
        ModelDigest(Sha256::digest(description.as_bytes()).into())
    }

    /// Returns true if the model is not known: files of other programs say nothing of it.
    pub fn is_unknown(&self) -> bool {
        self.0 == [0; 32]
    }

    /// Returns true if both are known and differ.
    pub fn differs(&self, other: &ModelDigest) -> bool {
        !self.is_unknown() && !other.is_unknown() && self != other
    }
}

/// Failure to read or write a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not such a store.
    #[error("{} is no {kind} store: it begins with {found:?}, not with {expected:?}", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// The kind of store.
        kind: &'static str,
        /// The first bytes expected.
        expected: &'static str,
        /// The first bytes found.
        found: String,
    },
    /// The file has another version.
    #[error("{} has version {found}; this program reads version 1", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The header does not make sense.
    #[error("{}: the header gives {what} {found}; expected {expected}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The values that are possible.
        expected: String,
    },
    /// The file is shorter than its header says.
    #[error("{} has {found} bytes, but its header counts {expected}; it was cut off: copy it again", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Bytes that the header counts.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The file was made with another model.
    #[error("{} was made with another model than this one; open it with the model it was made with", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
    },
    /// The file keeps the deltas of other layers.
    #[error("{} keeps the deltas of layers {found:?}, not of {expected:?}; name these layers, or another file", path.display())]
    OtherLayers {
        /// The file.
        path: PathBuf,
        /// Layers of the file.
        found: Vec<u8>,
        /// Layers of the append.
        expected: Vec<u8>,
    },
    /// A vector has another length than those of the store.
    #[error("{what} has {found} values; this store has {expected}")]
    Length {
        /// Name of the vector.
        what: &'static str,
        /// Values expected.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// The index has no slot left.
    #[error("the index of {} is full with {limit} entries; make a store with a greater limit", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Number of slots.
        limit: usize,
    },
    /// The file would be too large for the format's 32-bit offsets.
    #[error("{} would exceed 4 GiB, which the format cannot address; begin another file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    fn io(path: &Path, source: std::io::Error) -> StoreError {
        StoreError::Io { path: path.into(), source }
    }
}
