//! Answers of statements that edit: patches, DELETE, UPDATE, MERGE and DIFF.

use serde::{Deserialize, Serialize};

/// Result of a statement about a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchChanged {
    /// The action.
    pub action: PatchAction,
    /// The patch.
    pub patch: String,
    /// Number of its operations.
    pub operations: usize,
}

/// Action on a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchAction {
    /// It takes the edits from now on.
    Begun,
    /// Its file has all of it.
    Saved,
    /// It lies over the vindex.
    Applied,
    /// It lies over the vindex no more.
    Removed,
}

/// Result of changing edges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The kind of change.
    pub change: Change,
    /// Number of edges.
    pub count: usize,
    /// The patch that has the change; none if nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// True if the patch has no file yet, so that the change ends with the session.
    pub automatic: bool,
    /// The inserted edges, each with what carries it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inserted: Vec<InsertedEdge>,
}

/// An edge that was inserted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InsertedEdge {
    /// Its entity.
    pub entity: String,
    /// Its relation.
    pub relation: String,
    /// Its target.
    pub target: String,
    /// Its carrier.
    #[serde(flatten)]
    pub stored: Stored,
}

/// Carrier of an inserted edge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Stored {
    /// Features of the model.
    Compose {
        /// The least probability, from 0 to 1, of a token of the target in any of the wordings that were tried, where
        /// the edge's features fire only in part.
        probability: f32,
    },
    /// A key beside the weights.
    Knn {
        /// The layer whose residual it is.
        layer: usize,
        /// The least cosine of centred, whitened vectors with which it answers.
        threshold: f32,
    },
}

/// Kind of change of edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// They are there now.
    Inserted,
    /// They are gone.
    Deleted,
    /// They say something else.
    Updated,
    /// They were taken over from elsewhere.
    Merged,
    /// They are features now.
    Compacted,
}

/// Differences between two vindexes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// The vindex that is compared.
    pub base: String,
    /// The vindex that it is compared with.
    pub other: String,
    /// Number of features and edges beside the weights that differ.
    pub count: usize,
    /// The differences, features by layer and then edges beside the weights; not more than were asked for.
    pub rows: Vec<Difference>,
    /// The patch file that makes the other out of the base, if one was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
}

/// A feature, or an edge beside the weights, that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its layer.
    pub layer: usize,
    /// The feature's number there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<usize>,
    /// The parts that differ: gate, up, down, tokens, label; of an edge beside the weights key or target.
    pub parts: Vec<String>,
    /// The entity of an edge beside the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Its label in the other, or else in the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// The word that it writes most in the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The word that it writes most in the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Cosine of the two gate rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_cosine: Option<f32>,
}
