//! Answers of USE and EXTRACT.

use larql_vindex_spec::{ExtractLevel, FloatType, Quant};
use serde::{Deserialize, Serialize};

/// Result of USE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its path.
    pub path: String,
    /// Its kind.
    pub opened_as: OpenedAs,
    /// The model that it is of.
    pub model: String,
    /// Its level; a checkpoint has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<ExtractLevel>,
    /// Number of layers.
    pub layers: usize,
    /// Number of features in all layers.
    pub features: usize,
    /// Number of different relations that features are labelled with.
    pub relations: usize,
}

/// The kinds of things that USE opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenedAs {
    /// A vindex.
    Vindex,
    /// A checkpoint, read live.
    Model,
    /// A server.
    Remote,
}

/// Result of EXTRACT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extracted {
    /// The model.
    pub model: String,
    /// The directory.
    pub path: String,
    /// Level of the vindex.
    pub level: ExtractLevel,
    /// The encoding of plain floats.
    pub dtype: FloatType,
    /// Block format of the weights, if they are stored as blocks.
    pub quant: Quant,
    /// Number of layers.
    pub layers: usize,
    /// Number of features in all layers.
    pub features: usize,
    /// Size on disk.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
}
