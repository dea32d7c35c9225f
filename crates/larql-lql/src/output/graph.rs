//! Answer of EXPLAIN INFER … GRAPH.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::Prediction;

/// Attribution graph of an answer: the heads and features that bring it about, and what goes from one to another. Influences
/// and weights are parts of the answer's logit above the mean logit of all tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttributionGraph {
    /// The prompt.
    pub prompt: String,
    /// Its tokens.
    pub tokens: Vec<String>,
    /// The answer that is explained: the likeliest, or the one that was asked for.
    pub answer: Prediction,
    /// The answer's logit less the mean logit of all tokens, without soft cap.
    pub logit: f32,
    /// Share of what goes into the answer that the nodes give, 0 to 1.
    pub explained: f32,
    /// Share of the answer that can be followed from node to node back to the tokens of the prompt, 0 to 1.
    pub traced: f32,
    /// Attention sinks: positions whose heads and features are in the rest, since they serve every answer alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<usize>,
    /// The tokens, then heads and features in the order of the pass, then the rest, and at last the answer.
    pub nodes: Vec<GraphNode>,
    /// Greatest first.
    pub edges: Vec<GraphEdge>,
    /// The file that it was written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<String>,
}

/// Kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphNodeKind {
    /// The embedding of a token of the prompt.
    Token,
    /// An attention head.
    Head,
    /// A feature of a feed-forward step.
    Feature,
    /// Everything that is not in the graph: the error of the graph.
    Rest,
    /// The answer's logit.
    Answer,
}

/// A node of a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Its number in the graph.
    pub id: usize,
    /// Its kind.
    pub kind: GraphNodeKind,
    /// The layer of a head or feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// Number of the head or feature in its layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// The position that it writes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The token at that position; of the answer its token.
    pub token: String,
    /// The tokens that a feature writes, strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<String>,
    /// The relation that a feature is labelled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Activation of a feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<f32>,
    /// The part of the logit that goes through it.
    pub influence: f32,
}

/// An edge of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphEdge {
    /// The node that it comes from.
    pub source: usize,
    /// The node that it goes to.
    pub target: usize,
    /// The part of the logit that goes along it.
    pub weight: f32,
}

/// `L12 F345`, `L10 H3`, or the token.
impl Display for GraphNode {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let layer = self.layer.unwrap_or_default();
        let number = self.number.unwrap_or_default();
        match self.kind {
            GraphNodeKind::Head => write!(f, "L{layer} H{number}"),
            GraphNodeKind::Feature => write!(f, "L{layer} F{number}"),
            GraphNodeKind::Token => write!(f, "token"),
            GraphNodeKind::Rest => write!(f, "rest"),
            GraphNodeKind::Answer => write!(f, "answer"),
        }
    }
}
