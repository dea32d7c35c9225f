//! Model specification: everything that the forward pass needs, layer by layer, independent of the model's family. Its
//! tensors are listed in `tensors` and its sizes checked in `validation`.

mod tensors;
mod validation;

use larql_compute::rotary::RotarySpec;
use larql_compute::router::RouterSpec;
use serde::{Deserialize, Serialize};

pub use self::tensors::Shape;
pub(crate) use self::validation::LARGEST_SIZE;
use crate::family::Family;
use crate::{Activation, Config, ModelError};

/// A whole model. Computed once from `config.json` or GGUF metadata and stored in a vindex's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Name of the family that this spec comes from, for people; code that runs the model does not read it.
    pub family: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Rows of the embedding matrix.
    pub vocab_size: usize,
    /// Longest sequence that the model was made for, in tokens.
    pub context_length: usize,
    /// Factor of the embedding rows before the first layer.
    pub embedding_scale: f32,
    /// True if learned position vectors are added to the embeddings.
    pub learned_positions: bool,
    /// Per-layer inputs of tokens, if the model has them.
    pub per_layer_inputs: Option<PerLayerInputSpec>,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// The norm before the output head.
    pub final_norm: NormSpec,
    /// True if the output head is the embedding matrix.
    pub tied_head: bool,
    /// True if the output head has a bias.
    pub head_bias: bool,
    /// Factor of the logits.
    pub logit_scale: f32,
    /// Logits `z` become `cap * tanh(z / cap)`.
    pub logit_soft_cap: Option<f32>,
}

/// Besides the residual, each layer reads a small vector of its own (Gemma 3n and 4, `Gemma4TextModel` of
/// transformers): the token's row of a second embedding table, scaled by the root of the width, plus the normed
/// projection of the scaled token embedding, both divided by the root of 2. After the feed-forward branch a layer
/// adds `norm(projection(act(gate(residual)) * input))` to the residual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerLayerInputSpec {
    /// Width of each layer's input.
    pub width: usize,
    /// Rows of its embedding table.
    pub vocab_size: usize,
    /// Applied to the gate.
    pub activation: Activation,
    /// The norm of the projected embedding, and that of each layer's output of this branch.
    pub norm: NormSpec,
}

/// One block of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSpec {
    /// The attention branch.
    pub attention: AttentionSpec,
    /// The feed-forward branch.
    pub feed_forward: FeedForwardSpec,
    /// Norm on attention's input.
    pub attention_norm: Option<NormSpec>,
    /// Norm on attention's output, before it is added to the residual.
    pub post_attention_norm: Option<NormSpec>,
    /// Norm on the feed-forward input. Absent with a parallel block: there `attention_norm` feeds both.
    pub feed_forward_norm: Option<NormSpec>,
    /// Norm on the feed-forward output, before it is added to the residual.
    pub post_feed_forward_norm: Option<NormSpec>,
    /// True if both branches read the same input and are added together, instead of one after the other.
    pub parallel: bool,
    /// Factor of a branch's output before it is added to the residual.
    pub residual_multiplier: f32,
    /// True if the residual that leaves the layer is multiplied by a stored number (Gemma 4).
    pub output_scale: bool,
}

/// A normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormSpec {
    /// The formula.
    pub kind: NormKind,
    /// Added to the variance or the mean square.
    pub epsilon: f32,
}

/// Formulas of normalisation, with `w` the stored weight and `b` the stored bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// `x / rms(x) * w`
    Rms,
    /// `x / rms(x) * (1 + w)`
    RmsOnePlus,
    /// `x / rms(x)`, without a weight.
    RmsUnit,
    /// `(x - mean(x)) / std(x) * w + b`
    Layer,
    /// `(x - mean(x)) / std(x) * w` (Cohere, `Cohere2LayerNorm` of transformers).
    LayerUnbiased,
    /// `(x - mean(x)) / std(x) * (1 + w) + b` (Nemotron, `NemotronLayerNorm1P` of transformers).
    LayerOnePlus,
}

/// The attention branch of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; consecutive query heads share one.
    pub kv_heads: usize,
    /// Width of a head's queries and keys.
    pub head_dim: usize,
    /// Width of a head's values.
    pub value_dim: usize,
    /// Rotation of queries and keys; none for models with learned positions. It turns the leading dimensions of a
    /// head, except with latent keys, where it turns the last ones.
    pub rotary: Option<RotarySpec>,
    /// A token sees itself and at most `window - 1` tokens before it.
    pub window: Option<usize>,
    /// Factor of the scores `q . k`.
    pub score_scale: f32,
    /// Scores `s` become `cap * tanh(s / cap)` before the mask.
    pub score_soft_cap: Option<f32>,
    /// True if the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// True if the output projection has a bias.
    pub output_bias: bool,
    /// Norm on queries and keys.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// Norm on each head of the values.
    pub value_norm: Option<NormSpec>,
    /// True if each head has a learned score that joins the softmax and is dropped after it.
    pub sinks: bool,
    /// Queries pass through a narrow vector first: a projection to it, a norm, and a projection from it.
    pub query_rank: Option<LowRank>,
    /// Projection of keys and values.
    pub keys_and_values: KeysAndValues,
    /// Growth of the queries with the position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_growth: Option<QueryGrowth>,
}

/// Factor `1 + slope * ln(1 + floor(position / context))` of the rotated queries, so that attention stays sharp beyond
/// the first context (Ministral 3, `get_llama_4_attn_scale` of transformers; `llama_4_scaling_beta`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryGrowth {
    /// Factor of the logarithm.
    pub slope: f32,
    /// Tokens without growth.
    pub context: usize,
}

impl QueryGrowth {
    /// Factor of the query at a position.
    pub fn factor(&self, position: usize) -> f32 {
        let contexts = (position / self.context) as f32;
        1.0 + self.slope * (1.0 + contexts).ln()
    }
}

/// Projection of a layer's keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KeysAndValues {
    /// A projection for each.
    Projected,
    /// One projection: values are keys before their norm and rotation (Gemma 4, `attention_k_eq_v`).
    SharedProjection,
    /// None: the layer attends to keys and values of an earlier layer (Gemma 3n and 4, `num_kv_shared_layers`).
    Borrowed {
        /// The earlier layer.
        layer: usize,
    },
    /// A narrow vector for all heads from which keys and values are projected, and a rotated part that the keys of
    /// all heads share (multi-head latent attention, arXiv 2405.04434).
    Latent {
        /// The narrow vector, with its norm.
        latent: LowRank,
        /// Dimensions of the shared part, which are the last of each head's.
        shared_dims: usize,
    },
}

/// A narrow vector between two projections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LowRank {
    /// Its width.
    pub rank: usize,
    /// Its norm.
    pub norm: NormSpec,
}

/// A norm on queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryKeyNorm {
    /// The formula.
    pub norm: NormSpec,
    /// True if each head is normed by itself, false if the whole projection is normed at once.
    pub per_head: bool,
    /// True if each head has a weight of its own (StableLM 2, `StableLmLayerNormPerHead` of transformers), with
    /// `per_head`; false if all heads share one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub own_weights: bool,
    /// True if rotated queries and keys are normed (Hunyuan, `HunYuanDenseV1Attention` of transformers), false if the
    /// norm comes before the rotation.
    #[serde(default, skip_serializing_if = "is_false")]
    pub after_rotation: bool,
}

impl QueryKeyNorm {
    /// A norm of each head, with one weight for all, before the rotation.
    pub fn of_heads(norm: NormSpec) -> QueryKeyNorm {
        QueryKeyNorm { norm, per_head: true, own_weights: false, after_rotation: false }
    }

    /// A norm of the whole projection, before the rotation.
    pub fn of_projection(norm: NormSpec) -> QueryKeyNorm {
        QueryKeyNorm { per_head: false, ..QueryKeyNorm::of_heads(norm) }
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The feed-forward branch of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeedForwardSpec {
    /// `down(act(gate(x)) * up(x))`
    Gated {
        /// Number of features.
        features: usize,
        /// Applied to the gate.
        activation: Activation,
        /// True if the projections have biases.
        bias: bool,
    },
    /// `down(act(gate(x)))`: the input projection plays the gate's role, there is no up projection.
    Plain {
        /// Number of features.
        features: usize,
        /// Applied to the input projection.
        activation: Activation,
        /// True if the projections have biases.
        bias: bool,
    },
    /// A few of many gated steps, chosen for each token.
    Mixture(MixtureSpec),
}

/// A mixture of experts: a router chooses for each token which of the experts, gated feed-forward steps all alike,
/// it passes, and what their outputs are multiplied by before they are added up.
///
/// Features are numbered expert by expert; those of the shared step come last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixtureSpec {
    /// Number of experts.
    pub experts: usize,
    /// Features of each expert.
    pub features: usize,
    /// Applied to gates.
    pub activation: Activation,
    /// True if the experts' projections have biases.
    pub bias: bool,
    /// Choice of experts.
    pub router: RouterSpec,
    /// True if the router's logits have a bias.
    pub router_bias: bool,
    /// True if a stored number for each expert is added to its score while choosing.
    pub score_correction: bool,
    /// Features of a gated step without biases that every token passes besides (shared experts, arXiv 2401.06066).
    pub shared_features: Option<usize>,
    /// True if the shared step's output is multiplied by the sigmoid of its input's product with a stored vector
    /// (Qwen 2, `shared_expert_gate` of `Qwen2MoeSparseMoeBlock` in transformers).
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared_gate: bool,
    /// Settings of a mixture that is a branch of its own, parallel to the shared step.
    pub branch: Option<MixtureBranch>,
}

/// A mixture that reads the residual itself instead of the feed-forward input (Gemma 4, `Gemma4TextDecoderLayer` of
/// transformers). Its router reads the residual after a norm without weight, times a stored vector, divided by the
/// root of the hidden size; and each expert's weight is multiplied by a stored number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixtureBranch {
    /// The norm of the router's input.
    pub router_norm: NormSpec,
    /// The norm of the experts' input.
    pub input_norm: NormSpec,
    /// The norm of the experts' sum.
    pub output_norm: NormSpec,
    /// The norm of the shared step's output.
    pub shared_output_norm: NormSpec,
}

impl FeedForwardSpec {
    /// Number of features, those of all experts together.
    pub fn features(&self) -> usize {
        match self {
            FeedForwardSpec::Gated { features, .. } | FeedForwardSpec::Plain { features, .. } => *features,
            FeedForwardSpec::Mixture(mixture) => mixture.all_features(),
        }
    }

    /// The non-linearity.
    pub fn activation(&self) -> Activation {
        match self {
            FeedForwardSpec::Gated { activation, .. } | FeedForwardSpec::Plain { activation, .. } => {
                *activation
            }
            FeedForwardSpec::Mixture(mixture) => mixture.activation,
        }
    }

    /// True if there is an up projection.
    pub fn is_gated(&self) -> bool {
        !matches!(self, FeedForwardSpec::Plain { .. })
    }

    /// Sets whether the projections have biases.
    pub fn set_bias(&mut self, has_bias: bool) {
        match self {
            FeedForwardSpec::Gated { bias, .. } | FeedForwardSpec::Plain { bias, .. } => *bias = has_bias,
            FeedForwardSpec::Mixture(mixture) => mixture.bias = has_bias,
        }
    }

    /// True if the projections (of a mixture, its experts') have biases.
    pub fn has_bias(&self) -> bool {
        match self {
            FeedForwardSpec::Gated { bias, .. } | FeedForwardSpec::Plain { bias, .. } => *bias,
            FeedForwardSpec::Mixture(mixture) => mixture.bias,
        }
    }

    /// The mixture, if it is one.
    pub fn mixture(&self) -> Option<&MixtureSpec> {
        match self {
            FeedForwardSpec::Mixture(mixture) => Some(mixture),
            _ => None,
        }
    }

    /// Features of the step that every token passes, with the roles `Gate`, `Up` and `Down`; none in a mixture
    /// without one.
    pub fn dense_features(&self) -> usize {
        self.mixture().map_or_else(|| self.features(), |mixture| mixture.shared_features.unwrap_or(0))
    }
}

impl MixtureSpec {
    /// Features of all experts, and of the shared step.
    pub fn all_features(&self) -> usize {
        self.experts * self.features + self.shared_features.unwrap_or(0)
    }
}

impl NormKind {
    /// True if a weight is stored for it.
    pub fn has_weight(self) -> bool {
        self != NormKind::RmsUnit
    }

    /// True if a bias is stored for it.
    pub fn has_bias(self) -> bool {
        matches!(self, NormKind::Layer | NormKind::LayerOnePlus)
    }

    /// The summand of its stored weight.
    pub fn weight_offset(self) -> f32 {
        match self {
            NormKind::RmsOnePlus | NormKind::LayerOnePlus => 1.0,
            NormKind::Rms | NormKind::RmsUnit | NormKind::Layer | NormKind::LayerUnbiased => 0.0,
        }
    }

    /// The formula that gives the same with the sum of offset and weight stored.
    pub(crate) fn with_finished_weight(self) -> NormKind {
        match self {
            NormKind::RmsOnePlus => NormKind::Rms,
            NormKind::LayerOnePlus => NormKind::Layer,
            other => other,
        }
    }
}

impl AttentionSpec {
    /// Width of the concatenated query heads.
    pub fn query_size(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the concatenated key heads.
    pub fn key_size(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of the concatenated value heads.
    pub fn value_size(&self) -> usize {
        self.kv_heads * self.value_dim
    }

    /// Width of the concatenated outputs of all heads.
    pub fn mixed_size(&self) -> usize {
        self.heads * self.value_dim
    }

    /// The layer whose keys and values it attends to, if they are not its own.
    pub fn lender(&self) -> Option<usize> {
        match self.keys_and_values {
            KeysAndValues::Borrowed { layer } => Some(layer),
            _ => None,
        }
    }

    /// The first dimension of a head that is rotated.
    pub fn rotary_start(&self) -> usize {
        match self.keys_and_values {
            KeysAndValues::Latent { shared_dims, .. } => self.head_dim - shared_dims,
            _ => 0,
        }
    }
}

impl ModelSpec {
    /// The model that a configuration describes; of a multimodal one, its text part.
    ///
    /// # Errors
    /// [`ModelError::UnknownFamily`] if `model_type` names a family that is not known here; otherwise the
    /// key that is missing, wrong or in contradiction to another.
    pub fn from_config(config: &Config) -> Result<ModelSpec, ModelError> {
        Family::of(config)?.read_spec(config)
    }
}
