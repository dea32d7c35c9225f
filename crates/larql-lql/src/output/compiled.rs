//! The answer of COMPILE.

use serde::{Deserialize, Serialize};

use super::InsertedEdge;

/// Result of COMPILE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    /// The directory or file.
    pub path: String,
    /// Features that are other than in the base.
    pub features: usize,
    /// Tensors that were rewritten.
    pub tensors: usize,
    /// Edges that stay in the edge memory.
    pub entries: usize,
    /// Edges that were in the edge memory and are features now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lowered: Vec<InsertedEdge>,
    /// Files that are the base's own, linked or copied.
    pub kept: usize,
    /// Size on disk.
    pub bytes: u64,
    /// Growth over the base.
    pub grown: i64,
    /// Wall time.
    pub seconds: f64,
}
