//! A model's weights, resolved by role and ready to run.

use std::path::Path;
use std::sync::Arc;

use larql_compute::attention::AttentionShape;
use larql_compute::{Activations, Matrix, Pool, Precision, norm, rotary::Rotary};
use larql_models::{
    Activation, AttentionSpec, Checkpoint, FeedForwardSpec, KeysAndValues as KeysAndValuesSpec, LayerRole,
    LayerSpec, LowRank as LowRankSpec, MixtureBranch, MixtureSpec, ModelSpec, NormKind, NormSpec,
    ProjectionRoles, Role, StepRoles, WeightSource,
};
use larql_vindex::Vindex;

use crate::InferenceError;
use crate::attention::{Attention, KeysAndValues, LowRank};
use crate::feed_forward::{Dense, DenseFfn, FeedForward, WalkFfn};
use crate::mixture::{Branch, ExpertRouter, Mixture};
use crate::per_layer_inputs::{PerLayerBranch, PerLayerInputs};

/// A model ready to run. Its matrices share the mapped bytes of the source they came from, so a copy costs little.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) pool: Arc<Pool>,
    pub(crate) embedding: Matrix,
    pub(crate) positions: Option<Matrix>,
    pub(crate) per_layer_inputs: Option<PerLayerInputs>,
    pub(crate) layers: Vec<Arc<Layer>>,
    pub(crate) final_norm: Norm,
    pub(crate) head: Matrix,
    pub(crate) head_bias: Option<Vec<f32>>,
}

/// One block's weights.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Option<Norm>,
    pub(crate) attention: Attention,
    pub(crate) post_attention_norm: Option<Norm>,
    pub(crate) feed_forward_norm: Option<Norm>,
    pub(crate) feed_forward: FeedForward,
    pub(crate) post_feed_forward_norm: Option<Norm>,
    pub(crate) parallel: bool,
    pub(crate) residual_multiplier: f32,
    pub(crate) per_layer_input: Option<PerLayerBranch>,
    pub(crate) output_scale: Option<f32>,
}

/// A matrix with the bias that is added to its product.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// A normalisation with its weights.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) spec: NormSpec,
    pub(crate) weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    /// A norm of rows of `width` values that has no weight.
    pub(crate) fn unit(spec: NormSpec, width: usize) -> Norm {
        Norm { spec, weight: vec![1.0; width], bias: Vec::new() }
    }

    /// What normed values are multiplied by.
    pub(crate) fn factors(&self) -> Vec<f32> {
        let offset = if self.spec.kind == NormKind::RmsOnePlus { 1.0 } else { 0.0 };
        self.weight.iter().map(|weight| offset + weight).collect()
    }

    /// Norms each row of `x`, `[rows, weight]`, in place.
    pub(crate) fn apply(&self, x: &mut [f32]) {
        match self.spec.kind {
            NormKind::Rms | NormKind::RmsUnit => norm::rms_norm(x, &self.weight, self.spec.epsilon, 0.0),
            NormKind::RmsOnePlus => norm::rms_norm(x, &self.weight, self.spec.epsilon, 1.0),
            NormKind::Layer => norm::layer_norm(x, &self.weight, &self.bias, self.spec.epsilon),
        }
    }

    /// Turns the gradient of the norm's output into that of its input `x`, in place; both `[rows, weight]`.
    pub(crate) fn gradient(&self, x: &[f32], gradient: &mut [f32]) {
        let (weight, epsilon) = (&self.weight, self.spec.epsilon);
        match self.spec.kind {
            NormKind::Rms | NormKind::RmsUnit => norm::rms_norm_gradient(x, weight, epsilon, 0.0, gradient),
            NormKind::RmsOnePlus => norm::rms_norm_gradient(x, weight, epsilon, 1.0, gradient),
            NormKind::Layer => norm::layer_norm_gradient(x, weight, epsilon, gradient),
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
            per_layer_inputs: PerLayerInputs::load(source)?,
            layers: (0..spec.layers.len())
                .map(|index| {
                    LayerLoader { source, index, model: &spec, spec: &spec.layers[index] }
                        .load()
                        .map(Arc::new)
                })
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
    /// `act(gate) * up`, or `act(gate)` without an up projection, and in a mixture times the weight of its expert;
    /// `[tokens, features]`. A feature's down vector times this is what it adds to the residual.
    pub fn feature_activations(&self, layer: usize, input: &[f32]) -> Vec<f32> {
        let input = Activations::new(input, self.spec.hidden_size);
        match &self.layers[layer].feed_forward {
            FeedForward::Dense(dense) => dense.features(&self.pool, &input, Precision::Exact),
            FeedForward::Mixture(mixture) => mixture.features(&self.pool, &input, Precision::Exact),
        }
    }

    /// The gate rows of a layer times a feed-forward input `[hidden]`: `[features]`.
    pub fn gate_scores(&self, layer: usize, input: &[f32]) -> Vec<f32> {
        let input = Activations::new(input, self.spec.hidden_size);
        match &self.layers[layer].feed_forward {
            FeedForward::Dense(dense) => dense.gate_scores(&self.pool, &input, Precision::Exact),
            FeedForward::Mixture(mixture) => mixture.gate_scores(&self.pool, &input),
        }
    }

    /// Applies the final norm and the output head to residuals `[tokens, hidden]`: logits `[tokens, vocab]`,
    /// exact. This is the logit lens when the residuals are not the last layer's.
    pub fn logit_lens(&self, residuals: &[f32]) -> Vec<f32> {
        self.logits(residuals.to_vec(), Precision::Exact)
    }
}

pub(crate) fn load_norm(
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
    model: &'a ModelSpec,
    spec: &'a LayerSpec,
}

impl LayerLoader<'_> {
    fn load(&self) -> Result<Layer, InferenceError> {
        use LayerRole::*;
        let spec = self.spec;
        Ok(Layer {
            attention_norm: self.optional_norm(spec.attention_norm, AttentionNorm, AttentionNormBias)?,
            attention: self.attention(&spec.attention)?,
            post_attention_norm: self.optional_norm(
                spec.post_attention_norm,
                PostAttentionNorm,
                PostAttentionNormBias,
            )?,
            feed_forward_norm: self.optional_norm(
                spec.feed_forward_norm,
                FeedForwardNorm,
                FeedForwardNormBias,
            )?,
            feed_forward: self.feed_forward()?,
            post_feed_forward_norm: self.optional_norm(
                spec.post_feed_forward_norm,
                PostFeedForwardNorm,
                PostFeedForwardNormBias,
            )?,
            parallel: spec.parallel,
            residual_multiplier: spec.residual_multiplier,
            per_layer_input: match &self.model.per_layer_inputs {
                Some(inputs) => Some(PerLayerBranch {
                    activation: inputs.activation,
                    gate: self.projection(PerLayerGate, None)?,
                    projection: self.projection(PerLayerProjection, None)?,
                    norm: self.norm(inputs.norm, PerLayerNorm)?,
                }),
                None => None,
            },
            output_scale: match spec.output_scale {
                true => self.vector(OutputScale)?.first().copied(),
                false => None,
            },
        })
    }

    fn attention(&self, spec: &AttentionSpec) -> Result<Attention, InferenceError> {
        use LayerRole::*;
        let query_norm = spec.query_key_norm.map(|norm| norm.norm);
        Ok(Attention {
            shape: AttentionShape {
                heads: spec.heads,
                kv_heads: spec.kv_heads,
                head_dim: spec.head_dim,
                value_dim: spec.value_dim,
                window: spec.window,
                scale: spec.score_scale,
                soft_cap: spec.score_soft_cap,
                sinks: if spec.sinks { self.vector(Sinks)? } else { Vec::new() },
            },
            rotary: spec.rotary.as_ref().map(Rotary::new).transpose()?,
            rotary_start: spec.rotary_start(),
            query_down: match spec.query_rank {
                Some(rank) => Some(self.low_rank(rank, QueryDown, QueryDownNorm)?),
                None => None,
            },
            query: self.projection(Query, spec.qkv_bias.then_some(QueryBias))?,
            query_norm: query_norm.map(|norm| self.norm(norm, QueryNorm)).transpose()?,
            keys_and_values: self.keys_and_values(spec)?,
            output: self.projection(AttentionOutput, spec.output_bias.then_some(AttentionOutputBias))?,
        })
    }

    fn keys_and_values(&self, spec: &AttentionSpec) -> Result<KeysAndValues, InferenceError> {
        use LayerRole::*;
        let bias = |role| spec.qkv_bias.then_some(role);
        Ok(match spec.keys_and_values {
            KeysAndValuesSpec::Borrowed { layer } => KeysAndValues::Borrowed { layer },
            KeysAndValuesSpec::Latent { latent, shared_dims } => KeysAndValues::Latent {
                latent: self.low_rank(latent, KeyValueDown, KeyValueNorm)?,
                up: self.projection(KeyValueUp, None)?,
                shared_dims,
            },
            KeysAndValuesSpec::Projected | KeysAndValuesSpec::SharedProjection => KeysAndValues::Projected {
                key: self.projection(Key, bias(KeyBias))?,
                value: match spec.keys_and_values {
                    KeysAndValuesSpec::Projected => Some(self.projection(Value, bias(ValueBias))?),
                    _ => None,
                },
                key_norm: spec.query_key_norm.map(|norm| self.norm(norm.norm, KeyNorm)).transpose()?,
                value_norm: match spec.value_norm {
                    Some(norm) if norm.kind.has_weight() => Some(self.norm(norm, ValueNorm)?),
                    Some(norm) => Some(Norm::unit(norm, spec.value_dim)),
                    None => None,
                },
            },
        })
    }

    fn low_rank(
        &self,
        spec: LowRankSpec,
        down: LayerRole,
        norm: LayerRole,
    ) -> Result<LowRank, InferenceError> {
        Ok(LowRank { down: self.projection(down, None)?, norm: self.norm(spec.norm, norm)? })
    }

    fn feed_forward(&self) -> Result<FeedForward, InferenceError> {
        let spec = &self.spec.feed_forward;
        if let FeedForwardSpec::Mixture(mixture) = spec {
            return Ok(FeedForward::Mixture(self.mixture(mixture)?));
        }
        Ok(FeedForward::Dense(self.dense(spec.activation(), StepRoles::of_dense(spec))?))
    }

    fn mixture(&self, spec: &MixtureSpec) -> Result<Mixture, InferenceError> {
        use LayerRole::*;
        let shared = spec.shared_features.map(|_| StepRoles::of_shared());
        let vector = |stored: bool, role| if stored { self.vector(role) } else { Ok(Vec::new()) };
        Ok(Mixture {
            router: ExpertRouter {
                spec: spec.router.clone(),
                logits: self.projection(Router, spec.router_bias.then_some(RouterBias))?,
                correction: vector(spec.score_correction, RouterCorrection)?,
                scale: vector(spec.branch.is_some(), ExpertScale)?,
            },
            experts: (0..spec.experts)
                .map(|index| self.dense(spec.activation, StepRoles::of_expert(index, spec.bias)))
                .collect::<Result<_, _>>()?,
            shared: shared.map(|roles| self.dense(spec.activation, roles)).transpose()?,
            branch: spec.branch.map(|branch| self.branch(branch)).transpose()?,
        })
    }

    fn branch(&self, spec: MixtureBranch) -> Result<Branch, InferenceError> {
        use LayerRole::*;
        let hidden = self.model.hidden_size;
        Ok(Branch {
            normed_by: match self.spec.feed_forward_norm {
                Some(norm) if norm.kind.has_weight() => self.norm(norm, FeedForwardNorm)?.factors(),
                _ => vec![1.0; hidden],
            },
            router_epsilon: spec.router_norm.epsilon,
            router_scale: self.vector(RouterInputScale)?,
            input_norm: self.norm(spec.input_norm, ExpertInputNorm)?,
            output_norm: self.norm(spec.output_norm, ExpertOutputNorm)?,
            shared_output_norm: self.norm(spec.shared_output_norm, SharedOutputNorm)?,
        })
    }

    fn dense(&self, activation: Activation, roles: StepRoles) -> Result<Dense, InferenceError> {
        let load = |roles: ProjectionRoles| self.projection(roles.weight, roles.bias);
        Ok(Dense {
            activation,
            gate: load(roles.gate)?,
            up: roles.up.map(load).transpose()?,
            down: load(roles.down)?,
            edits: None,
        })
    }

    fn projection(&self, weight: LayerRole, bias: Option<LayerRole>) -> Result<Projection, InferenceError> {
        let weight = self.source.matrix(Role::Layer(self.index, weight))?;
        Ok(Projection { weight, bias: bias.map(|role| self.vector(role)).transpose()? })
    }

    fn vector(&self, role: LayerRole) -> Result<Vec<f32>, InferenceError> {
        Ok(self.source.vector(Role::Layer(self.index, role))?)
    }

    /// A norm without bias.
    fn norm(&self, spec: NormSpec, weight: LayerRole) -> Result<Norm, InferenceError> {
        Ok(Norm { spec, weight: self.vector(weight)?, bias: Vec::new() })
    }

    fn optional_norm(
        &self,
        spec: Option<NormSpec>,
        weight: LayerRole,
        bias: LayerRole,
    ) -> Result<Option<Norm>, InferenceError> {
        let role = |role| Role::Layer(self.index, role);
        spec.map(|spec| load_norm(self.source, spec, role(weight), role(bias))).transpose()
    }
}
