//! Model specification: everything that the forward pass needs, layer by layer, independent of the model's family.

use std::path::Path;

use larql_compute::rotary::{Rotary, RotarySpec};
use larql_compute::router::RouterSpec;
use serde::{Deserialize, Serialize};

use crate::family::Family;
use crate::role::{LayerRole, Role};
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

/// Shape of a tensor that a spec calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A vector of this length.
    Vector(usize),
    /// `[rows, cols]`, row-major; a projection has a row for each output.
    Matrix(usize, usize),
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

    /// Checks that the sizes are consistent, so that code that runs the model need not. Every reader of a
    /// spec calls this; `path` is the file that it was read from.
    ///
    /// # Errors
    /// [`ModelError::Contradiction`] with the values that contradict each other.
    pub fn validate(&self, path: &Path) -> Result<(), ModelError> {
        let wrong = |problem: String| Err(ModelError::Contradiction { path: path.into(), problem });
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("vocab_size", self.vocab_size),
            ("context_length", self.context_length),
            ("the number of layers", self.layers.len()),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=LARGEST_SIZE).contains(size)) {
            return wrong(format!("{name} is {size}"));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if let Err(problem) = layer.validate().and_then(|()| self.validate_loan(index)) {
                return wrong(format!("layer {index}: {problem}"));
            }
        }
        let mixtures = self.layers.iter().filter_map(|layer| layer.feed_forward.mixture());
        let experts: usize = mixtures.map(|mixture| mixture.experts).sum();
        if experts > MOST_EXPERTS {
            return wrong(format!(
                "the mixtures of all layers have {experts} experts; at most {MOST_EXPERTS} are read"
            ));
        }
        let Some(inputs) = &self.per_layer_inputs else { return Ok(()) };
        let good = 1..=LARGEST_SIZE;
        if !good.contains(&inputs.width) || !good.contains(&inputs.vocab_size) {
            return wrong(format!(
                "per-layer inputs of width {} for {} tokens",
                inputs.width, inputs.vocab_size
            ));
        }
        match inputs.width.checked_mul(self.layers.len()) {
            Some(width) if width <= LARGEST_SIZE => Ok(()),
            _ => {
                wrong(format!("per-layer inputs of width {} for {} layers", inputs.width, self.layers.len()))
            }
        }
    }

    /// Checks that a layer without its own keys and values refers to an earlier layer with keys and values of its shape.
    fn validate_loan(&self, index: usize) -> Result<(), String> {
        let borrower = &self.layers[index].attention;
        let Some(layer) = borrower.lender() else { return Ok(()) };
        let Some(lender) = self.layers[..index].get(layer).map(|layer| &layer.attention) else {
            return Err(format!("it borrows the keys of layer {layer}, which is not before it"));
        };
        let shape = |attention: &AttentionSpec| (attention.kv_heads, attention.head_dim, attention.value_dim);
        if lender.lender().is_some() || shape(lender) != shape(borrower) {
            return Err(format!("it borrows the keys of layer {layer}, which has none of its shape"));
        }
        Ok(())
    }

    /// Returns the name of a tensor in a vindex; see [`Role::tensor_name`].
    pub fn tensor_name(&self, role: Role) -> String {
        let norms_attention_output = match role {
            Role::Layer(layer, _) => {
                self.layers.get(layer).is_some_and(|layer| layer.post_attention_norm.is_some())
            }
            _ => false,
        };
        role.tensor_name(norms_attention_output)
    }

    /// Every tensor that a model of this spec consists of, with its shape, in a fixed order: embeddings,
    /// layers first to last, final norm, head.
    pub fn tensors(&self) -> Vec<(Role, Shape)> {
        let hidden = self.hidden_size;
        let mut tensors = vec![(Role::Embedding, Shape::Matrix(self.vocab_size, hidden))];
        if self.learned_positions {
            tensors.push((Role::PositionEmbedding, Shape::Matrix(self.context_length, hidden)));
        }
        if let Some(inputs) = &self.per_layer_inputs {
            let width = self.layers.len() * inputs.width;
            tensors.push((Role::PerLayerEmbedding, Shape::Matrix(inputs.vocab_size, width)));
            tensors.push((Role::PerLayerModelProjection, Shape::Matrix(width, hidden)));
            tensors.push((Role::PerLayerProjectionNorm, Shape::Vector(inputs.width)));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if let Some(inputs) = &self.per_layer_inputs {
                let mut push = |role, shape| tensors.push((Role::Layer(index, role), shape));
                push(LayerRole::PerLayerGate, Shape::Matrix(inputs.width, hidden));
                push(LayerRole::PerLayerProjection, Shape::Matrix(hidden, inputs.width));
                push(LayerRole::PerLayerNorm, Shape::Vector(hidden));
            }
            layer.for_each_tensor(hidden, |role, shape| tensors.push((Role::Layer(index, role), shape)));
        }
        tensors.push((Role::FinalNorm, Shape::Vector(hidden)));
        if self.final_norm.kind.has_bias() {
            tensors.push((Role::FinalNormBias, Shape::Vector(hidden)));
        }
        if !self.tied_head {
            tensors.push((Role::Head, Shape::Matrix(self.vocab_size, hidden)));
        }
        if self.head_bias {
            tensors.push((Role::HeadBias, Shape::Vector(self.vocab_size)));
        }
        tensors
    }
}

/// No size in a model comes near this; below it, products of two sizes fit a machine word.
pub(crate) const LARGEST_SIZE: usize = 1 << 31;
/// More experts than the layers of any model have together; each has tensors of its own, which are listed.
const MOST_EXPERTS: usize = 1 << 17;

impl LayerSpec {
    fn validate(&self) -> Result<(), String> {
        self.attention.validate()?;
        self.feed_forward.validate()
    }

    fn for_each_tensor(&self, hidden: usize, mut emit: impl FnMut(LayerRole, Shape)) {
        use LayerRole::*;

        let norms = [
            (self.attention_norm, AttentionNorm, AttentionNormBias),
            (self.post_attention_norm, PostAttentionNorm, PostAttentionNormBias),
            (self.feed_forward_norm, FeedForwardNorm, FeedForwardNormBias),
            (self.post_feed_forward_norm, PostFeedForwardNorm, PostFeedForwardNormBias),
        ];
        for (norm, weight, bias) in norms {
            let Some(norm) = norm else { continue };
            emit(weight, Shape::Vector(hidden));
            if norm.kind.has_bias() {
                emit(bias, Shape::Vector(hidden));
            }
        }
        self.attention.for_each_tensor(hidden, &mut emit);
        self.feed_forward.for_each_tensor(hidden, &mut emit);
        if self.output_scale {
            emit(OutputScale, Shape::Vector(1));
        }
    }
}

impl AttentionSpec {
    fn validate(&self) -> Result<(), String> {
        let AttentionSpec { heads, kv_heads, head_dim, value_dim, .. } = *self;
        let mut sizes = vec![
            ("heads", heads),
            ("kv_heads", kv_heads),
            ("head_dim", head_dim),
            ("value_dim", value_dim),
            ("query_rank", self.query_rank.map_or(1, |low| low.rank)),
        ];
        if let KeysAndValues::Latent { latent, shared_dims } = self.keys_and_values {
            sizes.extend([("the rank of keys and values", latent.rank), ("shared_dims", shared_dims)]);
            if kv_heads != heads || shared_dims > head_dim {
                return Err(format!(
                    "latent keys take as many key heads as query heads and share part of a head, but there are \
                     {kv_heads} for {heads}, and {shared_dims} of {head_dim} dimensions are shared"
                ));
            }
        }
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=LARGEST_SIZE).contains(size)) {
            return Err(format!("{name} is {size}"));
        }
        if heads % kv_heads != 0 {
            return Err(format!("{heads} query heads cannot share {kv_heads} key/value heads evenly"));
        }
        if self.keys_and_values == KeysAndValues::SharedProjection && value_dim != head_dim {
            return Err(format!("values of width {value_dim} cannot be keys of width {head_dim}"));
        }
        if self.window == Some(0) {
            return Err("the attention window is 0 tokens".into());
        }
        if let Some(growth) = self.query_growth
            && (growth.context == 0 || !growth.slope.is_finite())
        {
            return Err(format!("queries grow by {} for every {} tokens", growth.slope, growth.context));
        }
        if let Some(norm) = self.query_key_norm {
            if norm.norm.kind.has_bias() {
                return Err("norms of queries and keys have no bias".into());
            }
            if norm.own_weights && !norm.per_head {
                return Err("heads have norms of their own, but are normed at once".into());
            }
        }
        let Some(rotary) = &self.rotary else { return Ok(()) };
        let width = head_dim - self.rotary_start();
        if rotary.dims > width {
            return Err(format!(
                "{} dimensions of a head that has {width} to rotate cannot be rotated",
                rotary.dims
            ));
        }
        Rotary::new(rotary).map(|_| ()).map_err(|error| error.to_string())
    }

    fn for_each_tensor(&self, hidden: usize, emit: &mut impl FnMut(LayerRole, Shape)) {
        use LayerRole::*;
        use Shape::{Matrix, Vector};

        let (queries, keys, values) = (self.query_size(), self.key_size(), self.value_size());
        if let Some(LowRank { rank, .. }) = self.query_rank {
            emit(QueryDown, Matrix(rank, hidden));
            emit(QueryDownNorm, Vector(rank));
        }
        emit(Query, Matrix(queries, self.query_rank.map_or(hidden, |low| low.rank)));
        match self.keys_and_values {
            KeysAndValues::Projected => {
                emit(Key, Matrix(keys, hidden));
                emit(Value, Matrix(values, hidden));
            }
            KeysAndValues::SharedProjection => emit(Key, Matrix(keys, hidden)),
            KeysAndValues::Borrowed { .. } => {}
            KeysAndValues::Latent { latent: LowRank { rank, .. }, shared_dims } => {
                emit(KeyValueDown, Matrix(rank + shared_dims, hidden));
                emit(KeyValueNorm, Vector(rank));
                let outputs = self.heads * (self.head_dim - shared_dims + self.value_dim);
                emit(KeyValueUp, Matrix(outputs, rank));
            }
        }
        emit(AttentionOutput, Matrix(hidden, self.mixed_size()));
        if self.qkv_bias {
            emit(QueryBias, Vector(queries));
            if self.has_keys() {
                emit(KeyBias, Vector(keys));
            }
            if self.keys_and_values == KeysAndValues::Projected {
                emit(ValueBias, Vector(values));
            }
        }
        if self.output_bias {
            emit(AttentionOutputBias, Vector(hidden));
        }
        if self.query_key_norm.is_some_and(|norm| norm.own_weights) {
            (0..self.heads).for_each(|head| emit(QueryHeadNorm(head), Vector(self.head_dim)));
            if self.has_keys() {
                (0..self.kv_heads).for_each(|head| emit(KeyHeadNorm(head), Vector(self.head_dim)));
            }
        } else if let Some(norm) = self.query_key_norm {
            let (query, key) = if norm.per_head { (self.head_dim, self.head_dim) } else { (queries, keys) };
            emit(QueryNorm, Vector(query));
            if self.has_keys() {
                emit(KeyNorm, Vector(key));
            }
        }
        if self.value_norm.is_some_and(|norm| norm.kind.has_weight()) {
            emit(ValueNorm, Vector(self.value_dim));
        }
        if self.sinks {
            emit(Sinks, Vector(self.heads));
        }
    }

    /// True if there is a key projection.
    fn has_keys(&self) -> bool {
        matches!(self.keys_and_values, KeysAndValues::Projected | KeysAndValues::SharedProjection)
    }
}

impl FeedForwardSpec {
    fn validate(&self) -> Result<(), String> {
        if let Some(problem) = self.activation().problem() {
            return Err(problem);
        }
        let good = 1..=LARGEST_SIZE;
        let features = match self {
            FeedForwardSpec::Gated { features, .. } | FeedForwardSpec::Plain { features, .. } => *features,
            FeedForwardSpec::Mixture(mixture) => {
                let MixtureSpec { experts, features, shared_features, .. } = mixture;
                let shared = shared_features.unwrap_or(1);
                let together = experts.checked_mul(*features);
                if ![*experts, *features, shared, together.unwrap_or(0)]
                    .iter()
                    .all(|size| good.contains(size))
                {
                    return Err(format!("a mixture of {experts} experts with {features} features each"));
                }
                if mixture.shared_gate && shared_features.is_none() {
                    return Err("a step that every token passes is gated, but there is none".into());
                }
                if mixture.branch.is_some() && shared_features.is_none() {
                    return Err(
                        "a mixture stands beside a step that every token passes, but there is none".into()
                    );
                }
                if let Some(problem) = mixture.router.problem(*experts) {
                    return Err(problem);
                }
                *features
            }
        };
        if good.contains(&features) { Ok(()) } else { Err(format!("features is {features}")) }
    }

    fn for_each_tensor(&self, hidden: usize, emit: &mut impl FnMut(LayerRole, Shape)) {
        use LayerRole::*;
        use Shape::{Matrix, Vector};

        let mixture = self.mixture();
        if let Some(mixture) = mixture {
            mixture.for_each_tensor(hidden, emit);
        }
        let features = self.dense_features();
        if features == 0 {
            return;
        }
        emit(Gate, Matrix(features, hidden));
        if self.is_gated() {
            emit(Up, Matrix(features, hidden));
        }
        emit(Down, Matrix(hidden, features));
        if mixture.is_none() && self.has_bias() {
            emit(GateBias, Vector(features));
            if self.is_gated() {
                emit(UpBias, Vector(features));
            }
            emit(DownBias, Vector(hidden));
        }
    }
}

impl MixtureSpec {
    fn for_each_tensor(&self, hidden: usize, emit: &mut impl FnMut(LayerRole, Shape)) {
        use LayerRole::*;
        use Shape::{Matrix, Vector};

        emit(Router, Matrix(self.experts, hidden));
        if self.router_bias {
            emit(RouterBias, Vector(self.experts));
        }
        if self.score_correction {
            emit(RouterCorrection, Vector(self.experts));
        }
        if self.shared_gate {
            emit(SharedGate, Vector(hidden));
        }
        if let Some(branch) = self.branch {
            emit(RouterInputScale, Vector(hidden));
            emit(ExpertScale, Vector(self.experts));
            let norms = [
                (branch.input_norm, ExpertInputNorm),
                (branch.output_norm, ExpertOutputNorm),
                (branch.shared_output_norm, SharedOutputNorm),
            ];
            let weighted = norms.into_iter().filter(|(norm, _)| norm.kind.has_weight());
            weighted.for_each(|(_, role)| emit(role, Vector(hidden)));
        }
        for expert in 0..self.experts {
            emit(ExpertGate(expert), Matrix(self.features, hidden));
            emit(ExpertUp(expert), Matrix(self.features, hidden));
            emit(ExpertDown(expert), Matrix(hidden, self.features));
            if self.bias {
                emit(ExpertGateBias(expert), Vector(self.features));
                emit(ExpertUpBias(expert), Vector(self.features));
                emit(ExpertDownBias(expert), Vector(hidden));
            }
        }
    }
}
