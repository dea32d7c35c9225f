//! Answers of TRACE.

use serde::{Deserialize, Serialize};

use super::Overridden;
use crate::ast::TraceFormat;

/// The residual stream of a prompt, layer by layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traced {
    /// The prompt.
    pub prompt: String,
    /// Its tokens.
    pub tokens: Vec<String>,
    /// Their numbers in the vocabulary.
    pub token_ids: Vec<u32>,
    /// Number of layers of the model.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Wall time of the pass.
    pub latency_ms: f64,
    /// The figures that the rows are to show.
    pub view: TraceView,
    /// The answer that is followed, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<TracedAnswer>,
    /// The waypoints: position by position, in each the embedding and then the layers.
    pub rows: Vec<TracedRow>,
    /// The file that took the residuals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<SavedTrace>,
    /// The inserted edge that INFER would answer with instead of the model.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Overridden>,
}

/// Figures that the rows of a trace show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceView {
    /// The likeliest token after each layer.
    Summary,
    /// An answer's rank, probability and who moved its logit.
    Answer,
    /// Norms and contributions of attention and of the feed-forward step.
    Decomposition,
}

/// The answer that a trace follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TracedAnswer {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<String>,
    /// The token that is followed: the first that differs from the model's own answer, or the first of all.
    pub token: String,
    /// Its number in the vocabulary.
    pub token_id: u32,
    /// Its number in the answer, counted from 0.
    pub index: usize,
}

/// One waypoint of one position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TracedRow {
    /// The position.
    pub position: usize,
    /// The layer; -1 is the embedding.
    pub layer: i64,
    /// The likeliest next token by the logit lens.
    pub top1_token: String,
    /// Its number in the vocabulary.
    pub top1_token_id: u32,
    /// Its probability.
    pub top1_prob: f32,
    /// Norm of the residual.
    pub residual_norm: f32,
    /// Norm of what attention added.
    pub attn_delta_norm: f32,
    /// Norm of what else the layer added.
    pub ffn_delta_norm: f32,
    /// The answer at this waypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerFigures>,
}

/// An answer's figures at a waypoint. Logits are before soft-capping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerFigures {
    /// Rank of its token; 1 is the likeliest.
    pub rank: usize,
    /// Probability of its token.
    pub prob: f32,
    /// Probability of the whole answer, where it has several tokens and the position is the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_prob: Option<f32>,
    /// Logit of its token.
    pub logit: f32,
    /// Contribution of attention to the logit.
    pub attn_logit: f32,
    /// Contribution of the rest of the layer to the logit.
    pub ffn_logit: f32,
    /// The change of the logit because the residual's norm changes. The three add up to the logit's change.
    pub norm_logit: f32,
    /// Part of the layer that moves the logit: `embedding`, `both_up`, `attention_up`, `feed_forward_up`, `both_down`, `attention_down`,
    /// `feed_forward_down` or `neither`.
    pub who: String,
}

/// A file of residuals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedTrace {
    /// The file.
    pub path: String,
    /// Its format.
    pub format: TraceFormat,
    /// Chains or windows that were added.
    pub added: usize,
    /// Chains or windows in the file.
    pub entries: usize,
    /// Greatest error of what is stored in 8 bits, as a share of its vector's root mean square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_error: Option<f32>,
}

/// The residual streams of two prompts at their last tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceDifference {
    /// The first prompt.
    pub prompt: String,
    /// The other.
    pub other: String,
    /// The waypoints.
    pub rows: Vec<TraceDifferenceRow>,
}

/// One waypoint of two prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceDifferenceRow {
    /// The layer; -1 is the embedding.
    pub layer: i64,
    /// Cosine of the residuals.
    pub cosine: f32,
    /// Norm of their difference.
    pub delta_norm: f32,
    /// The likeliest next token of the first.
    pub top1_token: String,
    /// Its probability.
    pub top1_prob: f32,
    /// The likeliest next token of the other.
    pub other_top1_token: String,
    /// Its probability.
    pub other_top1_prob: f32,
}
