//! Resolving a model's weights by role from wherever they come from.

use std::path::Path;
use std::sync::Arc;

use larql_compute::attention::AttentionShape;
use larql_compute::{Pool, rotary::Rotary};
use larql_core::progress::CancelToken;
use larql_models::{
    Activation, AttentionSpec, Checkpoint, FeedForwardSpec, KeysAndValues as KeysAndValuesSpec, LayerRole,
    LayerSpec, LowRank as LowRankSpec, MixtureBranch, MixtureSpec, ModelError, ModelSpec, NormSpec,
    ProjectionRoles, Role, StepRoles, WeightSource,
};
use larql_vindex::Vindex;

use crate::attention::{Attention, KeysAndValues, LowRank};
use crate::ends::LocalEnds;
use crate::feed_forward::{Branch, Dense, ExpertRouter, FeedForward, Mixture, RouterInput};
use crate::layer::Layer;
use crate::norm::{HeadNorms, Norm};
use crate::per_layer_inputs::{PerLayerBranch, PerLayerInputs};
use crate::projection::Projection;
use crate::{LoadError, Model};

/// The parts of a model that a source has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    /// All of them.
    All,
    /// Any: what the source does not hold is left out.
    Held,
}

impl Parts {
    /// A part as it was loaded; `None` if the source does not hold it and need not.
    fn held<T>(self, loaded: Result<T, impl Into<LoadError>>) -> Result<Option<T>, LoadError> {
        match loaded.map_err(Into::into) {
            Ok(part) => Ok(Some(part)),
            Err(LoadError::Model(ModelError::MissingTensor { .. } | ModelError::LeftOut { .. }))
                if self == Parts::Held =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn load(source: &dyn WeightSource, pool: Arc<Pool>, parts: Parts) -> Result<Model, LoadError> {
    let spec = Arc::new(source.spec().clone());
    let embedding = parts.held(source.matrix(Role::Embedding))?;
    let head = match (spec.tied_head, &embedding) {
        (true, Some(embedding)) => Some(embedding.clone()),
        (true, None) => None,
        (false, _) => parts.held(source.matrix(Role::Head))?,
    };
    let head_bias = match spec.head_bias {
        true => parts.held(source.vector(Role::HeadBias))?,
        false => None,
    };
    let positions = match spec.learned_positions {
        true => parts.held(source.matrix(Role::PositionEmbedding))?,
        false => None,
    };
    let final_norm = Norm::load(source, spec.final_norm, Role::FinalNorm, Role::FinalNormBias);
    let ends = LocalEnds {
        embedding,
        positions,
        final_norm: parts.held(final_norm)?,
        head: head.map(|weight| Projection { weight, bias: head_bias }),
        spec: Arc::clone(&spec),
        pool: Arc::clone(&pool),
    };
    let per_layer_inputs = parts.held(PerLayerInputs::load(source))?.flatten().map(Arc::new);
    let layer =
        |(index, layer)| LayerLoader { source, index, model: &spec, spec: layer, parts }.load().map(Arc::new);
    let layers = spec.layers.iter().enumerate().map(layer).collect::<Result<Arc<[_]>, _>>()?;
    Ok(Model { pool, per_layer_inputs, layers, ends: Arc::new(ends), spec, cancel: CancelToken::never() })
}

impl Model {
    /// Resolves every weight that the source's spec calls for.
    ///
    /// # Errors
    /// If the source lacks one of them.
    pub fn load(source: &dyn WeightSource, pool: Arc<Pool>) -> Result<Model, LoadError> {
        load(source, pool, Parts::All)
    }

    /// Resolves the weights that the source holds, which may be a slice of a model. Attention, the feed-forward step of any
    /// layer, the embedding and the output head may be absent; a pass that needs one of them fails unless a back end runs in
    /// its place.
    ///
    /// # Errors
    /// If a weight cannot be read.
    pub fn load_held(source: &dyn WeightSource, pool: Arc<Pool>) -> Result<Model, LoadError> {
        load(source, pool, Parts::Held)
    }

    /// The model in a vindex, a GGUF file or a checkpoint directory.
    ///
    /// # Errors
    /// If it cannot be opened or lacks weights.
    pub fn open(path: &Path, pool: Arc<Pool>) -> Result<Model, LoadError> {
        if Vindex::is_at(path) {
            Model::load(&Vindex::open(path)?, pool)
        } else {
            Model::load(&Checkpoint::open(path)?, pool)
        }
    }
}

/// Reads the weights of one layer.
struct LayerLoader<'a> {
    source: &'a dyn WeightSource,
    index: usize,
    model: &'a ModelSpec,
    spec: &'a LayerSpec,
    parts: Parts,
}

impl LayerLoader<'_> {
    fn load(&self) -> Result<Layer, LoadError> {
        use LayerRole::*;
        let spec = self.spec;
        let router = match &spec.feed_forward {
            FeedForwardSpec::Mixture(mixture) => self.parts.held(self.router(mixture))?.map(Arc::new),
            _ => None,
        };
        Ok(Layer {
            attention_norm: self.optional_norm(spec.attention_norm, AttentionNorm, AttentionNormBias)?,
            attention: self.parts.held(self.attention(&spec.attention))?,
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
            feed_forward: self.parts.held(self.feed_forward(&router))?.unwrap_or(FeedForward::Absent),
            router,
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

    fn attention(&self, spec: &AttentionSpec) -> Result<Attention, LoadError> {
        use LayerRole::*;
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
            query_norm: self.head_norms(spec, spec.heads, QueryNorm, QueryHeadNorm)?,
            norm_after_rotation: spec.query_key_norm.is_some_and(|norm| norm.after_rotation),
            query_growth: spec.query_growth,
            keys_and_values: self.keys_and_values(spec)?,
            output: self.projection(AttentionOutput, spec.output_bias.then_some(AttentionOutputBias))?,
        })
    }

    fn keys_and_values(&self, spec: &AttentionSpec) -> Result<KeysAndValues, LoadError> {
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
                key_norm: self.head_norms(spec, spec.kv_heads, KeyNorm, KeyHeadNorm)?,
                value_norm: match spec.value_norm {
                    Some(norm) if norm.kind.has_weight() => Some(self.norm(norm, ValueNorm)?),
                    Some(norm) => Some(Norm::unit(norm, spec.value_dim)),
                    None => None,
                },
            },
        })
    }

    /// The norms of `heads` heads of queries or keys.
    fn head_norms(
        &self,
        spec: &AttentionSpec,
        heads: usize,
        shared: LayerRole,
        own: fn(usize) -> LayerRole,
    ) -> Result<Option<HeadNorms>, LoadError> {
        let Some(norm) = spec.query_key_norm else { return Ok(None) };
        Ok(Some(match norm.own_weights {
            false => HeadNorms::Shared(self.norm(norm.norm, shared)?),
            true => HeadNorms::Own(
                (0..heads).map(|head| self.norm(norm.norm, own(head))).collect::<Result<_, _>>()?,
            ),
        }))
    }

    fn low_rank(&self, spec: LowRankSpec, down: LayerRole, norm: LayerRole) -> Result<LowRank, LoadError> {
        Ok(LowRank { down: self.projection(down, None)?, norm: self.norm(spec.norm, norm)? })
    }

    fn feed_forward(&self, router: &Option<Arc<ExpertRouter>>) -> Result<FeedForward, LoadError> {
        let spec = &self.spec.feed_forward;
        if let FeedForwardSpec::Mixture(mixture) = spec {
            let Some(router) = router else { return Ok(FeedForward::Absent) };
            return Ok(FeedForward::Mixture(self.mixture(mixture, Arc::clone(router))?));
        }
        Ok(FeedForward::Dense(self.dense(spec.activation(), StepRoles::of_dense(spec))?))
    }

    fn router(&self, spec: &MixtureSpec) -> Result<ExpertRouter, LoadError> {
        use LayerRole::*;
        let vector = |stored: bool, role| if stored { self.vector(role) } else { Ok(Vec::new()) };
        let input = |branch: MixtureBranch| {
            let norm = Norm::unit(branch.router_norm, self.model.hidden_size);
            Ok::<_, LoadError>(RouterInput { norm, scale: self.vector(RouterInputScale)? })
        };
        Ok(ExpertRouter {
            spec: spec.router.clone(),
            logits: self.projection(Router, spec.router_bias.then_some(RouterBias))?,
            correction: vector(spec.score_correction, RouterCorrection)?,
            scale: vector(spec.branch.is_some(), ExpertScale)?,
            input: spec.branch.map(input).transpose()?,
        })
    }

    fn mixture(&self, spec: &MixtureSpec, router: Arc<ExpertRouter>) -> Result<Mixture, LoadError> {
        let shared = spec.shared_features.map(|_| StepRoles::of_shared());
        Ok(Mixture {
            router,
            experts: (0..spec.experts)
                .map(|index| self.dense(spec.activation, StepRoles::of_expert(index, spec.bias)))
                .collect::<Result<_, _>>()?,
            shared: shared.map(|roles| self.dense(spec.activation, roles)).transpose()?,
            shared_gate: spec.shared_gate.then(|| self.vector(LayerRole::SharedGate)).transpose()?,
            branch: spec.branch.map(|branch| self.branch(branch)).transpose()?,
        })
    }

    fn branch(&self, spec: MixtureBranch) -> Result<Branch, LoadError> {
        use LayerRole::*;
        let hidden = self.model.hidden_size;
        Ok(Branch {
            normed_by: match self.spec.feed_forward_norm {
                Some(norm) if norm.kind.has_weight() => self.norm(norm, FeedForwardNorm)?.factors(),
                _ => vec![1.0; hidden],
            },
            input_norm: self.norm(spec.input_norm, ExpertInputNorm)?,
            output_norm: self.norm(spec.output_norm, ExpertOutputNorm)?,
            shared_output_norm: self.norm(spec.shared_output_norm, SharedOutputNorm)?,
        })
    }

    fn dense(&self, activation: Activation, roles: StepRoles) -> Result<Dense, LoadError> {
        let load = |roles: ProjectionRoles| self.projection(roles.weight, roles.bias);
        Ok(Dense {
            activation,
            gate: load(roles.gate)?,
            up: roles.up.map(load).transpose()?,
            down: load(roles.down)?,
            edits: None,
        })
    }

    fn projection(&self, weight: LayerRole, bias: Option<LayerRole>) -> Result<Projection, LoadError> {
        let weight = self.source.matrix(Role::Layer(self.index, weight))?;
        Ok(Projection { weight, bias: bias.map(|role| self.vector(role)).transpose()? })
    }

    fn vector(&self, role: LayerRole) -> Result<Vec<f32>, LoadError> {
        Ok(self.source.vector(Role::Layer(self.index, role))?)
    }

    /// A norm without bias.
    fn norm(&self, spec: NormSpec, weight: LayerRole) -> Result<Norm, LoadError> {
        Ok(Norm::new(spec, self.vector(weight)?, Vec::new()))
    }

    fn optional_norm(
        &self,
        spec: Option<NormSpec>,
        weight: LayerRole,
        bias: LayerRole,
    ) -> Result<Option<Norm>, LoadError> {
        let role = |role| Role::Layer(self.index, role);
        spec.map(|spec| Norm::load(self.source, spec, role(weight), role(bias))).transpose()
    }
}
