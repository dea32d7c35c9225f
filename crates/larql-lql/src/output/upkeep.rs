//! Answers of REBALANCE, COMPACT MAJOR and SHOW COMPACT STATUS.

use serde::{Deserialize, Serialize};

/// REBALANCE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rebalanced {
    /// Number of times that all edges were scaled.
    pub rounds: usize,
    /// The least probability that a target was to have.
    pub floor: f64,
    /// The greatest.
    pub ceiling: f64,
    /// The edges that features carry.
    pub rows: Vec<BalancedEdge>,
    /// The patch that has the change; none if nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
}

/// An edge that was balanced with the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BalancedEdge {
    /// Its entity.
    pub entity: String,
    /// Its relation.
    pub relation: String,
    /// Its target.
    pub target: String,
    /// The least probability of a token of the target before, 0 to 1.
    pub before: f32,
    /// The same now.
    pub after: f32,
    /// Factor of what its features write, relative to before.
    pub scale: f32,
    /// True if the probability lies in the range now.
    pub converged: bool,
}

/// COMPACT MAJOR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Solved {
    /// Weight of changes on background text.
    pub lambda: f64,
    /// The edges that were solved for together.
    pub rows: Vec<SolvedEdge>,
    /// The layers whose features write otherwise.
    pub layers: Vec<ChangedLayer>,
    /// The patch that has the change; none if nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// True if the patch has no file yet, so that the change ends with the session.
    pub automatic: bool,
}

/// An edge that was solved for with others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SolvedEdge {
    /// Its entity.
    pub entity: String,
    /// Its relation.
    pub relation: String,
    /// Its target.
    pub target: String,
    /// The least probability of a token of the target with features of its own, 0 to 1.
    pub before: f32,
    /// The same now.
    pub after: f32,
}

/// A layer whose features write otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangedLayer {
    /// Its number.
    pub layer: usize,
    /// The length of the change as a share of that of all its down vectors (Frobenius norms).
    pub change: f64,
}

/// SHOW COMPACT STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactStatus {
    /// Edges of the edge memory, which COMPACT MINOR turns into features.
    pub entries: usize,
    /// Bytes of their keys.
    pub entry_bytes: u64,
    /// Inserted edges that features carry.
    pub edges: usize,
    /// Number of those that were in the edge memory before.
    pub compacted: usize,
    /// Number of those that were solved for together.
    pub solved: usize,
    /// Edited features, whether or not they carry an edge.
    pub features: usize,
    /// Bytes of their vectors.
    pub feature_bytes: u64,
}
