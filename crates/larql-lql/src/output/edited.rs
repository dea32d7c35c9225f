//! Answers of statements that edit: patches, DELETE, UPDATE, MERGE and DIFF.

use serde::{Deserialize, Serialize};

/// What became of a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchChanged {
    /// What was done.
    pub action: PatchAction,
    /// The patch.
    pub patch: String,
    /// How many operations it holds.
    pub operations: usize,
}

/// What can be done with a patch.
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

/// How many edges were changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// What was done to them.
    pub change: Change,
    /// How many.
    pub count: usize,
    /// The patch that has the change; none if nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// Whether the patch has no file yet, so that the change ends with the session.
    pub automatic: bool,
    /// Of inserted edges, what became of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inserted: Vec<InsertedEdge>,
}

/// An edge that was inserted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InsertedEdge {
    /// What it is about.
    pub entity: String,
    /// What it says of it.
    pub relation: String,
    /// The answer.
    pub target: String,
    /// What carries it now.
    #[serde(flatten)]
    pub stored: Stored,
}

/// What carries an inserted edge.
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
        /// The centred, white cosine from which on it answers.
        threshold: f32,
    },
}

/// What can be done to edges.
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

/// What one vindex says otherwise than another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// The vindex that is compared.
    pub base: String,
    /// What it is compared with.
    pub other: String,
    /// How many features and edges beside the weights differ.
    pub count: usize,
    /// What differs, features by layer and then edges beside the weights; not more than were asked for.
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
    /// Whom an edge beside the weights is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Its label in the other, or else in the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// What it writes most in the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it writes most in the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Cosine of the two gate rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_cosine: Option<f32>,
}
