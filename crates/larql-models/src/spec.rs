//! A model is data: everything the forward pass must know, layer by layer, with no name of a family in it.

use std::path::Path;

use larql_compute::rotary::{Rotary, RotarySpec};
use serde::{Deserialize, Serialize};

use crate::family::Family;
use crate::role::{LayerRole, Role};
use crate::{Config, ModelError};

/// A whole model. Computed once from `config.json` or GGUF metadata and stored in a vindex's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Name of the family file that made this spec; for people, never asked by code that runs the model.
    pub family: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Rows of the embedding matrix.
    pub vocab_size: usize,
    /// Longest sequence that the model was made for, in tokens.
    pub context_length: usize,
    /// What the embedding rows are multiplied by on the way in.
    pub embedding_scale: f32,
    /// Whether learned position vectors are added to the embeddings.
    pub learned_positions: bool,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// The norm before the output head.
    pub final_norm: NormSpec,
    /// Whether the output head is the embedding matrix.
    pub tied_head: bool,
    /// Whether the output head has a bias.
    pub head_bias: bool,
    /// What the logits are multiplied by.
    pub logit_scale: f32,
    /// Logits `z` become `cap * tanh(z / cap)`.
    pub logit_soft_cap: Option<f32>,
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
    /// Whether both branches read the same input and are added together, instead of one after the other.
    pub parallel: bool,
    /// What a branch's output is multiplied by before it is added to the residual.
    pub residual_multiplier: f32,
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
    /// `(x - mean(x)) / std(x) * w + b`
    Layer,
}

/// The attention branch of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; consecutive query heads share one.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rotation of queries and keys; none for models with learned positions.
    pub rotary: Option<RotarySpec>,
    /// A token sees itself and at most `window - 1` tokens before it.
    pub window: Option<usize>,
    /// What the scores `q . k` are multiplied by.
    pub score_scale: f32,
    /// Scores `s` become `cap * tanh(s / cap)` before the mask.
    pub score_soft_cap: Option<f32>,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// Norm on queries and keys before the rotation.
    pub query_key_norm: Option<QueryKeyNorm>,
}

/// A norm on queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryKeyNorm {
    /// The formula.
    pub norm: NormSpec,
    /// Whether each head is normed by itself, or the whole projection at once.
    pub per_head: bool,
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
        /// Whether the projections have biases.
        bias: bool,
    },
    /// `down(act(gate(x)))`: the input projection plays the gate's role, there is no up projection.
    Plain {
        /// Number of features.
        features: usize,
        /// Applied to the input projection.
        activation: Activation,
        /// Whether the projections have biases.
        bias: bool,
    },
}

/// Non-linearity of a feed-forward branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// `x * Phi(x)`, exact, through the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

impl FeedForwardSpec {
    /// Number of features.
    pub fn features(&self) -> usize {
        match self {
            FeedForwardSpec::Gated { features, .. } | FeedForwardSpec::Plain { features, .. } => *features,
        }
    }

    /// The non-linearity.
    pub fn activation(&self) -> Activation {
        match self {
            FeedForwardSpec::Gated { activation, .. } | FeedForwardSpec::Plain { activation, .. } => {
                *activation
            }
        }
    }

    /// Whether there is an up projection.
    pub fn is_gated(&self) -> bool {
        matches!(self, FeedForwardSpec::Gated { .. })
    }

    /// Gives the projections biases or takes them away.
    pub fn set_bias(&mut self, has_bias: bool) {
        match self {
            FeedForwardSpec::Gated { bias, .. } | FeedForwardSpec::Plain { bias, .. } => *bias = has_bias,
        }
    }

    /// Whether the projections have biases.
    pub fn has_bias(&self) -> bool {
        match self {
            FeedForwardSpec::Gated { bias, .. } | FeedForwardSpec::Plain { bias, .. } => *bias,
        }
    }
}

impl AttentionSpec {
    /// Width of the concatenated query heads.
    pub fn query_size(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    pub fn kv_size(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Shape of a tensor that a spec calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// So many values.
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

    /// Checks that the sizes go together, so that code that runs the model need not. Whoever reads a spec
    /// from a file calls this; `path` is that file.
    ///
    /// # Errors
    /// [`ModelError::Contradiction`] with the values that do not go together.
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
            if let Err(problem) = layer.validate() {
                return wrong(format!("layer {index}: {problem}"));
            }
        }
        Ok(())
    }

    /// Every tensor that a model of this spec consists of, with its shape, in a fixed order: embeddings,
    /// layers first to last, final norm, head.
    pub fn tensors(&self) -> Vec<(Role, Shape)> {
        let hidden = self.hidden_size;
        let mut tensors = vec![(Role::Embedding, Shape::Matrix(self.vocab_size, hidden))];
        if self.learned_positions {
            tensors.push((Role::PositionEmbedding, Shape::Matrix(self.context_length, hidden)));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer.for_each_tensor(hidden, |role, shape| tensors.push((Role::Layer(index, role), shape)));
        }
        tensors.push((Role::FinalNorm, Shape::Vector(hidden)));
        if self.final_norm.kind == NormKind::Layer {
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

impl LayerSpec {
    fn validate(&self) -> Result<(), String> {
        let AttentionSpec { heads, kv_heads, head_dim, .. } = self.attention;
        let features = self.feed_forward.features();
        let sizes =
            [("heads", heads), ("kv_heads", kv_heads), ("head_dim", head_dim), ("features", features)];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=LARGEST_SIZE).contains(size)) {
            return Err(format!("{name} is {size}"));
        }
        if heads % kv_heads != 0 {
            return Err(format!("{heads} query heads cannot share {kv_heads} key/value heads evenly"));
        }
        if self.attention.window == Some(0) {
            return Err("the attention window is 0 tokens".into());
        }
        let Some(rotary) = &self.attention.rotary else { return Ok(()) };
        if rotary.dims > head_dim {
            return Err(format!(
                "{} dimensions of a head that has {head_dim} cannot be rotated",
                rotary.dims
            ));
        }
        Rotary::new(rotary).map(|_| ()).map_err(|error| error.to_string())
    }

    fn for_each_tensor(&self, hidden: usize, mut emit: impl FnMut(LayerRole, Shape)) {
        use LayerRole::*;
        use Shape::{Matrix, Vector};

        let norms = [
            (self.attention_norm, AttentionNorm, AttentionNormBias),
            (self.post_attention_norm, PostAttentionNorm, PostAttentionNormBias),
            (self.feed_forward_norm, FeedForwardNorm, FeedForwardNormBias),
            (self.post_feed_forward_norm, PostFeedForwardNorm, PostFeedForwardNormBias),
        ];
        for (norm, weight, bias) in norms {
            let Some(norm) = norm else { continue };
            emit(weight, Vector(hidden));
            if norm.kind == NormKind::Layer {
                emit(bias, Vector(hidden));
            }
        }

        let attention = &self.attention;
        let (queries, keys) = (attention.query_size(), attention.kv_size());
        emit(Query, Matrix(queries, hidden));
        emit(Key, Matrix(keys, hidden));
        emit(Value, Matrix(keys, hidden));
        emit(AttentionOutput, Matrix(hidden, queries));
        if attention.qkv_bias {
            emit(QueryBias, Vector(queries));
            emit(KeyBias, Vector(keys));
            emit(ValueBias, Vector(keys));
        }
        if attention.output_bias {
            emit(AttentionOutputBias, Vector(hidden));
        }
        if let Some(norm) = attention.query_key_norm {
            let (query, key) =
                if norm.per_head { (attention.head_dim, attention.head_dim) } else { (queries, keys) };
            emit(QueryNorm, Vector(query));
            emit(KeyNorm, Vector(key));
        }

        let feed_forward = &self.feed_forward;
        let features = feed_forward.features();
        emit(Gate, Matrix(features, hidden));
        if feed_forward.is_gated() {
            emit(Up, Matrix(features, hidden));
        }
        emit(Down, Matrix(hidden, features));
        if feed_forward.has_bias() {
            emit(GateBias, Vector(features));
            if feed_forward.is_gated() {
                emit(UpBias, Vector(features));
            }
            emit(DownBias, Vector(hidden));
        }
    }
}
