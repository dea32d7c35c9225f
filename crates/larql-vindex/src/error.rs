use std::fmt;
use std::path::PathBuf;

use larql_compute::{ComputeError, Format};
use larql_core::progress::Cancelled;
use larql_models::ModelError;
use larql_vindex_spec::{ExtractLevel, ManifestError};

use crate::component::Component;
use crate::holdings::MissingComponents;
use crate::slice::SlicePreset;

/// Errors of reading and writing vindexes. Every message names the file, and the next step where there is a
/// choice.
#[derive(Debug, thiserror::Error)]
pub enum VindexError {
    /// A file could not be opened, read, mapped or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// There is no vindex at this place.
    #[error("{} is not a vindex: {problem}", path.display())]
    NotAVindex {
        /// Path that was searched.
        path: PathBuf,
        /// Content found.
        problem: String,
    },
    /// A manifest is invalid.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Description of the damage.
        source: ManifestError,
    },
    /// A file is damaged, or contradicts the manifest.
    #[error("{}: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Description of the damage.
        damage: Damage,
    },
    /// A tensor's bytes do not form a matrix of its shape and format.
    #[error("{}: `{tensor}`: {source}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Error in its size or type.
        source: ComputeError,
    },
    /// The source of an extraction could not be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The target exists. Vindexes are never overwritten.
    #[error("{} exists; choose another name, or delete it first", path.display())]
    AlreadyExists {
        /// Type found.
        path: PathBuf,
    },
    /// An extraction to the same place has not finished.
    #[error("{} is an extraction that has not finished; resume it, or delete it first", path.display())]
    Unfinished {
        /// The unfinished vindex.
        path: PathBuf,
    },
    /// An unfinished extraction cannot be resumed.
    #[error(
        "{} is an extraction of another source or with other options; repeat it as it was begun, or delete it first",
        path.display()
    )]
    OtherExtraction {
        /// The unfinished vindex.
        path: PathBuf,
    },
    /// Another process writes the same vindex.
    #[error("another process is writing {}", path.display())]
    Busy {
        /// The unfinished vindex.
        path: PathBuf,
    },
    /// The requested layers do not exist.
    #[error("layers {first} to {last} were asked for, but the model has layers 0 to {}", layers.saturating_sub(1))]
    NoSuchLayers {
        /// The first requested layer.
        first: usize,
        /// The last requested layer.
        last: usize,
        /// Number of layers of the model.
        layers: usize,
    },
    /// A value is too large for the format that it is to be stored in.
    #[error("`{tensor}` holds {value:e}, which {format} cannot hold; store the model as bf16 or f32")]
    OutOfRange {
        /// Name of the tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// The format.
        format: Format,
    },
    /// The work was cancelled.
    #[error("stopped")]
    Cancelled,
    /// An operation needs components that the vindex does not hold.
    #[error("{what} is not in {}, which {}", path.display(), MissingComponents { level: *level, missing })]
    NotHeld {
        /// The subject of the message.
        what: String,
        /// The vindex.
        path: PathBuf,
        /// The level that its manifest names; all of a slice, whose lack is no matter of levels.
        level: ExtractLevel,
        /// The missing components.
        missing: Vec<Component>,
    },
    /// A slice would have no weights.
    #[error("{} has nothing of the parts {parts}; `larql show` lists what it holds", path.display())]
    NothingToSlice {
        /// The vindex.
        path: PathBuf,
        /// The parts that were asked for.
        parts: String,
    },
    /// A slice of experts was asked for, and there are none.
    #[error("{} is not a mixture of experts, and {preset} slices are for those; slice it as `server`", path.display())]
    NotAMixture {
        /// The vindex.
        path: PathBuf,
        /// The slice that was asked for.
        preset: SlicePreset,
    },
    /// A file that the manifest names is not there.
    #[error("{} is missing; `larql verify` lists other missing or damaged files", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// An edit does not fit the model.
    #[error("edit of feature {feature} of layer {layer}: {problem}")]
    BadEdit {
        /// The layer.
        layer: usize,
        /// The feature in it.
        feature: usize,
        /// Description of the conflict.
        problem: Damage,
    },
    /// A patch was made for other weights.
    #[error(
        "patch {patch} does not fit {}: the weights differ ({differing}); it was made for {model}",
        path.display()
    )]
    OtherBase {
        /// The patch.
        patch: String,
        /// The model that it was made for.
        model: String,
        /// The vindex.
        path: PathBuf,
        /// The files whose digests differ.
        differing: String,
    },
    /// An operation of a patch does not fit the model.
    #[error("patch {patch}, operation {operation}: {problem}")]
    BadOperation {
        /// The patch.
        patch: String,
        /// The operation, counted from 1.
        operation: usize,
        /// Description of the conflict.
        problem: Damage,
    },
    /// Two patches edit one feature, and conflicts are refused.
    #[error("patches {} and {} both edit feature {feature} of layer {layer}; say which one counts", patches[0], patches[1])]
    PatchConflict {
        /// The layer.
        layer: usize,
        /// The feature in it.
        feature: usize,
        /// The patches, earlier one first.
        patches: [String; 2],
    },
    /// The query has no tokens.
    #[error("the text has no tokens; give at least one")]
    NoTokens,
    /// A token has no embedding.
    #[error(
        "{}: token {token} has no embedding: the model's vocabulary has {vocab_size} tokens; leave it out of the text",
        path.display()
    )]
    TokenOutOfRange {
        /// The vindex.
        path: PathBuf,
        /// The token asked for.
        token: u32,
        /// Tokens that have an embedding.
        vocab_size: usize,
    },
}

impl VindexError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl Fn(std::io::Error) -> VindexError {
        let path = path.into();
        move |source| VindexError::Io { path: path.clone(), source }
    }

    pub(crate) fn manifest(path: impl Into<PathBuf>) -> impl Fn(ManifestError) -> VindexError {
        let path = path.into();
        move |source| VindexError::Manifest { path: path.clone(), source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>) -> impl Fn(Damage) -> VindexError {
        let path = path.into();
        move |damage| VindexError::Damaged { path: path.clone(), damage }
    }
}

/// Damage of a file, found by functions that know only its bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: expected {expected}, found {found}")]
pub struct Damage {
    /// Part of the file: a field, a tensor, a layer.
    pub part: String,
    /// Expected content.
    pub expected: String,
    /// Content found.
    pub found: String,
}

impl Damage {
    pub(crate) fn new(
        part: impl Into<String>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Damage {
        Damage { part: part.into(), expected: expected.to_string(), found: found.to_string() }
    }
}

impl From<Cancelled> for VindexError {
    fn from(_: Cancelled) -> VindexError {
        VindexError::Cancelled
    }
}
