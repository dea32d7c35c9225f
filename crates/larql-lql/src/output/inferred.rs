//! Answers of INFER and EXPLAIN INFER.

use serde::{Deserialize, Serialize};

use super::FeatureRow;

/// The likeliest next tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inferred {
    /// The prompt.
    pub prompt: String,
    /// The inserted edge that answers instead of the model, if one does.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Overridden>,
    /// Predictions of the model itself: by the walk, and with COMPARE by the dense feed-forward step too.
    pub runs: Vec<Run>,
    /// Effect of the intervention, if one was declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervention: Option<InterventionReceipt>,
}

/// Effect of a declared intervention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterventionReceipt {
    /// The file that declares it.
    pub file: String,
    /// SHA-256 of the declaration, in hexadecimal digits.
    pub digest: String,
    /// For each part of the declaration the number of rows that it changed.
    pub fired: Vec<usize>,
    /// For each capture of the declaration the values, `[rows * width]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captured: Vec<Vec<f32>>,
}

/// One run of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The feed-forward step that ran: `walk`, `dense`.
    pub ffn: String,
    /// Wall time of the forward pass.
    pub latency_ms: f64,
    /// The likeliest next tokens, likeliest first.
    pub predictions: Vec<Prediction>,
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Its text, with the leading blank if it has one.
    pub token: String,
    /// Its number in the vocabulary.
    pub token_id: u32,
    /// 0 to 1.
    pub probability: f64,
    /// The word or phrase that it begins, where the model goes on with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrase: Option<String>,
}

/// An inserted edge whose key matched the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overridden {
    /// Its entity.
    pub entity: String,
    /// Its relation.
    pub relation: String,
    /// Its target.
    pub target: String,
    /// The layer of the key.
    pub layer: usize,
    /// Match of the key: cosine of centred, whitened vectors.
    pub cosine: f32,
    /// The least cosine with which it answers.
    pub threshold: f32,
}

/// Result of EXPLAIN INFER.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedInference {
    /// The prompt.
    pub prompt: String,
    /// The likeliest next tokens, likeliest first.
    pub predictions: Vec<Prediction>,
    /// The answer that is explained: the likeliest, or the one that was asked for.
    pub answer: Prediction,
    /// The layers in order.
    pub layers: Vec<ExplainedLayer>,
}

/// Contribution of one layer to the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedLayer {
    /// The layer.
    pub layer: usize,
    /// The likeliest token after this layer, by the logit lens.
    pub lens_token: String,
    /// Its probability there, 0 to 1.
    pub lens_probability: f64,
    /// The probability of the explained answer after this layer, by the logit lens, 0 to 1.
    pub answer_probability: f64,
    /// The features that push the answer most, either way.
    pub rows: Vec<FeatureRow>,
    /// The positions that attention reads most from the last one, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<Attended>,
}

/// A place that an attention head looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attended {
    /// The head.
    pub head: usize,
    /// The position of the token.
    pub position: usize,
    /// The token.
    pub token: String,
    /// The attention weight, 0 to 1.
    pub weight: f32,
}
