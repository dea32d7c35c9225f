//! Answers of WALK and EXPLAIN WALK.

use serde::{Deserialize, Serialize};

use super::{Band, LabelSource};
use crate::ast::WalkMode;

/// The features that a prompt's last token fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Walked {
    /// The prompt.
    pub prompt: String,
    /// Its last token, which was looked up.
    pub token: String,
    /// Name of the 4-bit format of gate rows, where it makes their scores approximate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate_in: Option<String>,
    /// One ranking, or with COMPARE two.
    pub rankings: Vec<Ranked>,
}

/// Features in the order of one way of ranking them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The ranking.
    pub mode: WalkMode,
    /// The features, layer by layer, in each the strongest first.
    pub rows: Vec<FeatureRow>,
}

/// A feature, with as much as the statement found out about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureRow {
    /// Its layer.
    pub layer: usize,
    /// Its number in the layer.
    pub feature: usize,
    /// Its gate row times the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<f32>,
    /// Its activation: `act(gate) * up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<f32>,
    /// Its contribution to the answer's logit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contribution: Option<f32>,
    /// The logit with which it writes its first token, as extraction noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The tokens that it writes, strongest first.
    pub tokens: Vec<String>,
    /// The relation that it is labelled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Origin of the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<LabelSource>,
}

/// Result of EXPLAIN WALK.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedWalk {
    /// The prompt.
    pub prompt: String,
    /// Its last token, which was looked up.
    pub token: String,
    /// Name of the 4-bit format of gate rows, where it makes their scores approximate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate_in: Option<String>,
    /// The layers in order.
    pub layers: Vec<WalkedLayer>,
}

/// Features of one layer that answer the query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WalkedLayer {
    /// The layer.
    pub layer: usize,
    /// The band that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub band: Option<Band>,
    /// The Euclidean norm of the query, as this layer sees it.
    pub query_norm: f32,
    /// Number of the layer's features.
    pub features: usize,
    /// The features that answer most, strongest first.
    pub rows: Vec<FeatureRow>,
}
