//! The answer of DESCRIBE.

use serde::{Deserialize, Serialize};

use super::{Edge, is_zero};
use crate::ast::Detail;

/// Result of DESCRIBE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// The entity.
    pub entity: String,
    /// Detail in which each edge is shown.
    pub detail: Detail,
    /// Name of the 4-bit format of gate rows, where it makes their scores approximate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate_in: Option<String>,
    /// The bands that were asked for, in order.
    pub bands: Vec<BandEdges>,
    /// Next step to learn more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A band of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// The early layers: form.
    Syntax,
    /// The middle layers: facts.
    Knowledge,
    /// The late layers: the next token.
    Output,
    /// All layers.
    All,
}

/// The edges of one band of layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BandEdges {
    /// The band.
    pub band: Band,
    /// Its first layer.
    pub layer: usize,
    /// Its last layer.
    pub layer_max: usize,
    /// The edges: those that patches state, then the surest first, then those without a confidence, strongest first.
    pub edges: Vec<Edge>,
    /// Number of edges with a relation that follow these.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// Number of features that fire too, no evidence says for what, and that are not among the edges.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlabelled: usize,
}

impl Described {
    /// The entity and the targets of its edges.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let targets = self.bands.iter().flat_map(|band| band.edges.iter().map(|edge| &*edge.target));
        std::iter::once(&*self.entity).chain(targets)
    }
}
