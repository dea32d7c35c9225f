//! The answer of STATS.

use larql_vindex_spec::{ExtractLevel, FloatType, Quant};
use serde::{Deserialize, Serialize};

use super::{LabelSource, PatchRow};

/// Figures of what is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Its path.
    pub path: String,
    /// The model that it is of.
    pub model: String,
    /// The model's family.
    pub family: String,
    /// Its level; a checkpoint has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<ExtractLevel>,
    /// The encoding of plain floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<FloatType>,
    /// Block format of the weights, if they are stored as blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quant: Option<Quant>,
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Number of features in all layers.
    pub features: usize,
    /// Size on disk.
    pub bytes: u64,
    /// Its files, by name.
    pub files: Vec<FileRow>,
    /// Number of labelled features, by source.
    pub labels: Vec<LabelCount>,
    /// The patches that lie over it.
    pub patches: Vec<PatchRow>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
}

/// Number of labels from one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCount {
    /// The source.
    pub source: LabelSource,
    /// Number of features.
    pub count: usize,
}
