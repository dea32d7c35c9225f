//! A model's weights, resolved by role and ready to run.

use std::path::Path;
use std::sync::Arc;

use larql_compute::attention::AttentionShape;
use larql_compute::{Matrix, Pool, norm, rotary::Rotary};
use larql_models::{
    AttentionSpec, Checkpoint, LayerRole, LayerSpec, ModelSpec, NormKind, NormSpec, Role, WeightSource,
};

use larql_vindex::Vindex;

use crate::InferenceError;
use crate::feed_forward::{DenseFfn, FeedForward, WalkFfn};

/// A model ready to run. Its matrices share the mapped bytes of the source they came from.
#[derive(Debug)]
pub struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) pool: Arc<Pool>,
    pub(crate) embedding: Matrix,
    pub(crate) positions: Option<Matrix>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Norm,
    pub(crate) head: Matrix,
    pub(crate) head_bias: Option<Vec<f32>>,
}

/// One block's weights.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Option<Norm>,
    pub(crate) attention: Attention,
    pub(crate) post_attention_norm: Option<Norm>,
    pub(crate) feed_forward_norm: Option<Norm>,
    pub(crate) feed_forward: FeedForward,
    pub(crate) post_feed_forward_norm: Option<Norm>,
    pub(crate) parallel: bool,
    pub(crate) residual_multiplier: f32,
}

/// The attention branch's weights.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) shape: AttentionShape,
    pub(crate) rotary: Option<Rotary>,
    pub(crate) query: Projection,
    pub(crate) key: Projection,
    pub(crate) value: Projection,
    pub(crate) output: Projection,
    pub(crate) query_norm: Option<Norm>,
    pub(crate) key_norm: Option<Norm>,
}

/// A matrix with the bias that is added to its product.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// A normalisation with its weights.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) spec: NormSpec,
    pub(crate) weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    /// Norms each row of `x`, `[rows, weight]`, in place.
    pub(crate) fn apply(&self, x: &mut [f32]) {
        match self.spec.kind {
            NormKind::Rms => norm::rms_norm(x, &self.weight, self.spec.epsilon, 0.0),
            NormKind::RmsOnePlus => norm::rms_norm(x, &self.weight, self.spec.epsilon, 1.0),
            NormKind::Layer => norm::layer_norm(x, &self.weight, &self.bias, self.spec.epsilon),
        }
    }
}

impl Model {
    /// Resolves every weight that the source's spec calls for.
    ///
    /// # Errors
    /// If the source lacks one of them.
    pub fn load(source: &dyn WeightSource, pool: Arc<Pool>) -> Result<Model, InferenceError> {
        let spec = source.spec().clone();
        let embedding = source.matrix(Role::Embedding)?;
        let head = if spec.tied_head { embedding.clone() } else { source.matrix(Role::Head)? };
        Ok(Model {
            positions: spec.learned_positions.then(|| source.matrix(Role::PositionEmbedding)).transpose()?,
            layers: spec
                .layers
                .iter()
                .enumerate()
                .map(|(index, layer)| LayerLoader { source, index, spec: layer }.load())
                .collect::<Result<_, _>>()?,
            final_norm: load_norm(source, spec.final_norm, Role::FinalNorm, Role::FinalNormBias)?,
            head_bias: spec.head_bias.then(|| source.vector(Role::HeadBias)).transpose()?,
            spec,
            pool,
            embedding,
            head,
        })
    }

    /// The model in a vindex, a GGUF file or a checkpoint directory.
    ///
    /// # Errors
    /// If it cannot be opened or lacks weights.
    pub fn open(path: &Path, pool: Arc<Pool>) -> Result<Model, InferenceError> {
        if Vindex::is_at(path) {
            Model::load(&Vindex::open(path)?, pool)
        } else {
            Model::load(&Checkpoint::open(path)?, pool)
        }
    }

    /// What this model is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The threads that it runs on.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Its own feed-forward step: every feature of every layer.
    pub fn dense_ffn(&self) -> DenseFfn<'_> {
        DenseFfn::new(self)
    }

    /// Its feed-forward step as retrieval of the `k` strongest features a layer.
    pub fn walk_ffn(&self, k: usize) -> WalkFfn<'_> {
        WalkFfn::new(self, k)
    }

    /// What every feature of a layer contributes for feed-forward inputs `[tokens, hidden]` (after the norm):
    /// `act(gate) * up`, or `act(gate)` without an up projection; `[tokens, features]`. A feature's down vector
    /// times this is what it adds to the residual.
    pub fn feature_activations(&self, layer: usize, input: &[f32]) -> Vec<f32> {
        let activations = larql_compute::Activations::new(input, self.spec.hidden_size);
        self.layers[layer].feed_forward.features(&self.pool, &activations, larql_compute::Precision::Exact)
    }

    /// The gate rows of a layer times a feed-forward input `[hidden]`: `[features]`.
    pub fn gate_scores(&self, layer: usize, input: &[f32]) -> Vec<f32> {
        let input = larql_compute::Activations::new(input, self.spec.hidden_size);
        self.layers[layer].feed_forward.gate.product(&self.pool, &input, larql_compute::Precision::Exact)
    }

    /// Applies the final norm and the output head to residuals `[tokens, hidden]`: logits `[tokens, vocab]`,
    /// exact. This is the logit lens when the residuals are not the last layer's.
    pub fn logit_lens(&self, residuals: &[f32]) -> Vec<f32> {
        self.logits(residuals.to_vec(), larql_compute::Precision::Exact)
    }
}

fn load_norm(
    source: &dyn WeightSource,
    spec: NormSpec,
    weight: Role,
    bias: Role,
) -> Result<Norm, InferenceError> {
    let bias = if spec.kind == NormKind::Layer { source.vector(bias)? } else { Vec::new() };
    Ok(Norm { spec, weight: source.vector(weight)?, bias })
}

/// Reads the weights of one layer.
struct LayerLoader<'a> {
    source: &'a dyn WeightSource,
    index: usize,
    spec: &'a LayerSpec,
}

impl LayerLoader<'_> {
    fn load(&self) -> Result<Layer, InferenceError> {
        use LayerRole::*;
        let spec = self.spec;
        Ok(Layer {
            attention_norm: self.norm(spec.attention_norm, AttentionNorm, AttentionNormBias)?,
            attention: self.attention(&spec.attention)?,
            post_attention_norm: self.norm(
                spec.post_attention_norm,
                PostAttentionNorm,
                PostAttentionNormBias,
            )?,
            feed_forward_norm: self.norm(spec.feed_forward_norm, FeedForwardNorm, FeedForwardNormBias)?,
            feed_forward: self.feed_forward()?,
            post_feed_forward_norm: self.norm(
                spec.post_feed_forward_norm,
                PostFeedForwardNorm,
                PostFeedForwardNormBias,
            )?,
            parallel: spec.parallel,
            residual_multiplier: spec.residual_multiplier,
        })
    }

    fn attention(&self, spec: &AttentionSpec) -> Result<Attention, InferenceError> {
        use LayerRole::*;
        let query_key_norm = spec.query_key_norm.map(|norm| norm.norm);
        Ok(Attention {
            shape: AttentionShape {
                heads: spec.heads,
                kv_heads: spec.kv_heads,
                head_dim: spec.head_dim,
                window: spec.window,
                scale: spec.score_scale,
                soft_cap: spec.score_soft_cap,
            },
            rotary: spec.rotary.as_ref().map(Rotary::new).transpose()?,
            query: self.projection(Query, spec.qkv_bias.then_some(QueryBias))?,
            key: self.projection(Key, spec.qkv_bias.then_some(KeyBias))?,
            value: self.projection(Value, spec.qkv_bias.then_some(ValueBias))?,
            output: self.projection(AttentionOutput, spec.output_bias.then_some(AttentionOutputBias))?,
            query_norm: self.norm(query_key_norm, QueryNorm, QueryNorm)?,
            key_norm: self.norm(query_key_norm, KeyNorm, KeyNorm)?,
        })
    }

    fn feed_forward(&self) -> Result<FeedForward, InferenceError> {
        use LayerRole::*;
        let spec = &self.spec.feed_forward;
        let bias = |role| spec.has_bias().then_some(role);
        Ok(FeedForward {
            activation: spec.activation(),
            gate: self.projection(Gate, bias(GateBias))?,
            up: spec.is_gated().then(|| self.projection(Up, bias(UpBias))).transpose()?,
            down: self.projection(Down, bias(DownBias))?,
        })
    }

    fn projection(&self, weight: LayerRole, bias: Option<LayerRole>) -> Result<Projection, InferenceError> {
        Ok(Projection {
            weight: self.source.matrix(Role::Layer(self.index, weight))?,
            bias: bias.map(|role| self.source.vector(Role::Layer(self.index, role))).transpose()?,
        })
    }

    fn norm(
        &self,
        spec: Option<NormSpec>,
        weight: LayerRole,
        bias: LayerRole,
    ) -> Result<Option<Norm>, InferenceError> {
        let role = |role| Role::Layer(self.index, role);
        spec.map(|spec| load_norm(self.source, spec, role(weight), role(bias))).transpose()
    }
}
