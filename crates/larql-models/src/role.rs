//! Roles of tensors, independent of their names in files.

use std::fmt;

use crate::FeedForwardSpec;

/// The role of a tensor in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Token embeddings `[vocab, hidden]`.
    Embedding,
    /// Learned positions `[context, hidden]`.
    PositionEmbedding,
    /// Tokens' inputs of every layer `[vocab, layers * width]`.
    PerLayerEmbedding,
    /// From embeddings to every layer's inputs `[layers * width, hidden]`.
    PerLayerModelProjection,
    /// Weight of the norm of those inputs.
    PerLayerProjectionNorm,
    /// Weight of the norm before the head.
    FinalNorm,
    /// Bias of the norm before the head.
    FinalNormBias,
    /// Output head `[vocab, hidden]`, where it is not the embedding.
    Head,
    /// Bias of the output head.
    HeadBias,
    /// A tensor of one layer.
    Layer(usize, LayerRole),
}

/// The role of a tensor in its layer.
///
/// Projections are `[outputs, inputs]`; fused ones are split by the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it; `tensor_name` gives the hub's name of each")]
pub enum LayerRole {
    AttentionNorm,
    AttentionNormBias,
    PostAttentionNorm,
    PostAttentionNormBias,
    FeedForwardNorm,
    FeedForwardNormBias,
    PostFeedForwardNorm,
    PostFeedForwardNormBias,
    Query,
    QueryBias,
    QueryNorm,
    /// The norm of one head of queries.
    QueryHeadNorm(usize),
    QueryDown,
    QueryDownNorm,
    Key,
    KeyBias,
    KeyNorm,
    /// The norm of one head of keys.
    KeyHeadNorm(usize),
    Value,
    ValueBias,
    ValueNorm,
    /// To the latent vector and the shared part of keys `[rank + shared, hidden]`.
    KeyValueDown,
    KeyValueNorm,
    /// From the latent vector, for each head the own part of its key, then its value.
    KeyValueUp,
    Sinks,
    AttentionOutput,
    AttentionOutputBias,
    /// In a mixture, of the step that every token passes; so are the other five.
    Gate,
    GateBias,
    Up,
    UpBias,
    Down,
    DownBias,
    /// From the router's input to a logit for each expert `[experts, hidden]`.
    Router,
    RouterBias,
    RouterCorrection,
    RouterInputScale,
    ExpertScale,
    ExpertGate(usize),
    ExpertGateBias(usize),
    ExpertUp(usize),
    ExpertUpBias(usize),
    ExpertDown(usize),
    ExpertDownBias(usize),
    ExpertInputNorm,
    ExpertOutputNorm,
    SharedOutputNorm,
    /// From the feed-forward input to the logit of the shared step's factor.
    SharedGate,
    /// From the residual to the width of a per-layer input, and back.
    PerLayerGate,
    PerLayerProjection,
    PerLayerNorm,
    /// Factor of the residual that leaves the layer.
    OutputScale,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Layer(layer, role) => write!(f, "{role:?} of layer {layer}"),
            role => write!(f, "{role:?}"),
        }
    }
}

impl LayerRole {
    /// Returns true of gate, up and down matrices, whose rows or columns are features.
    pub fn holds_features(self) -> bool {
        use LayerRole::*;
        matches!(self, Gate | Up | Down | ExpertGate(_) | ExpertUp(_) | ExpertDown(_))
    }
}

impl Role {
    /// The name of this tensor in a vindex: that of Llama-like hub checkpoints without the leading `model.`.
    ///
    /// `post_attention_layernorm` means the feed-forward norm, except in layers that also norm attention's
    /// output (`norms_attention_output`), where it means that norm, as on the hub.
    pub fn tensor_name(self, norms_attention_output: bool) -> String {
        use LayerRole::*;
        let (layer, role) = match self {
            Role::Embedding => return "embed_tokens.weight".into(),
            Role::PositionEmbedding => return "embed_positions.weight".into(),
            Role::PerLayerEmbedding => return "embed_tokens_per_layer.weight".into(),
            Role::PerLayerModelProjection => return "per_layer_model_projection.weight".into(),
            Role::PerLayerProjectionNorm => return "per_layer_projection_norm.weight".into(),
            Role::FinalNorm => return "norm.weight".into(),
            Role::FinalNormBias => return "norm.bias".into(),
            Role::Head => return "lm_head.weight".into(),
            Role::HeadBias => return "lm_head.bias".into(),
            Role::Layer(layer, role) => (layer, role),
        };
        let expert_tensor = |expert, tensor| format!("layers.{layer}.mlp.experts.{expert}.{tensor}");
        let suffix = match role {
            AttentionNorm => "input_layernorm.weight",
            AttentionNormBias => "input_layernorm.bias",
            PostAttentionNorm => "post_attention_layernorm.weight",
            PostAttentionNormBias => "post_attention_layernorm.bias",
            FeedForwardNorm if norms_attention_output => "pre_feedforward_layernorm.weight",
            FeedForwardNorm => "post_attention_layernorm.weight",
            FeedForwardNormBias if norms_attention_output => "pre_feedforward_layernorm.bias",
            FeedForwardNormBias => "post_attention_layernorm.bias",
            PostFeedForwardNorm => "post_feedforward_layernorm.weight",
            PostFeedForwardNormBias => "post_feedforward_layernorm.bias",
            Query => "self_attn.q_proj.weight",
            QueryBias => "self_attn.q_proj.bias",
            QueryNorm => "self_attn.q_norm.weight",
            QueryHeadNorm(head) => {
                return format!("layers.{layer}.self_attn.q_layernorm.norms.{head}.weight");
            }
            QueryDown => "self_attn.q_a_proj.weight",
            QueryDownNorm => "self_attn.q_a_layernorm.weight",
            Key => "self_attn.k_proj.weight",
            KeyBias => "self_attn.k_proj.bias",
            KeyNorm => "self_attn.k_norm.weight",
            KeyHeadNorm(head) => return format!("layers.{layer}.self_attn.k_layernorm.norms.{head}.weight"),
            Value => "self_attn.v_proj.weight",
            ValueBias => "self_attn.v_proj.bias",
            ValueNorm => "self_attn.v_norm.weight",
            KeyValueDown => "self_attn.kv_a_proj_with_mqa.weight",
            KeyValueNorm => "self_attn.kv_a_layernorm.weight",
            KeyValueUp => "self_attn.kv_b_proj.weight",
            Sinks => "self_attn.sinks",
            AttentionOutput => "self_attn.o_proj.weight",
            AttentionOutputBias => "self_attn.o_proj.bias",
            Gate => "mlp.gate_proj.weight",
            GateBias => "mlp.gate_proj.bias",
            Up => "mlp.up_proj.weight",
            UpBias => "mlp.up_proj.bias",
            Down => "mlp.down_proj.weight",
            DownBias => "mlp.down_proj.bias",
            Router => "mlp.gate.weight",
            RouterBias => "mlp.gate.bias",
            RouterCorrection => "mlp.gate.e_score_correction_bias",
            RouterInputScale => "router.scale",
            ExpertScale => "router.per_expert_scale",
            ExpertGate(expert) => return expert_tensor(expert, "gate_proj.weight"),
            ExpertGateBias(expert) => return expert_tensor(expert, "gate_proj.bias"),
            ExpertUp(expert) => return expert_tensor(expert, "up_proj.weight"),
            ExpertUpBias(expert) => return expert_tensor(expert, "up_proj.bias"),
            ExpertDown(expert) => return expert_tensor(expert, "down_proj.weight"),
            ExpertDownBias(expert) => return expert_tensor(expert, "down_proj.bias"),
            ExpertInputNorm => "pre_feedforward_layernorm_2.weight",
            ExpertOutputNorm => "post_feedforward_layernorm_2.weight",
            SharedOutputNorm => "post_feedforward_layernorm_1.weight",
            SharedGate => "mlp.shared_expert_gate.weight",
            PerLayerGate => "per_layer_input_gate.weight",
            PerLayerProjection => "per_layer_projection.weight",
            PerLayerNorm => "post_per_layer_input_norm.weight",
            OutputScale => "layer_scalar",
        };
        format!("layers.{layer}.{suffix}")
    }
}

/// Tensors of one projection: a matrix and the bias that is added to its products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectionRoles {
    /// The matrix `[outputs, inputs]`.
    pub weight: LayerRole,
    /// The bias `[outputs]`, where the model has one.
    pub bias: Option<LayerRole>,
}

/// Tensors of one feed-forward step: that of a dense layer, of an expert, or the step of a mixture that every token passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepRoles {
    /// Gate rows `[features, hidden]`; in a plain step the rows before its non-linearity.
    pub gate: ProjectionRoles,
    /// Up rows `[features, hidden]`, where the step is gated.
    pub up: Option<ProjectionRoles>,
    /// Down vectors as columns `[hidden, features]`.
    pub down: ProjectionRoles,
}

impl StepRoles {
    /// Returns the steps of a layer with the number of their features, in the order in which features are numbered:
    /// experts first, then the step that every token passes.
    pub fn of_layer(feed_forward: &FeedForwardSpec) -> Vec<(StepRoles, usize)> {
        let Some(mixture) = feed_forward.mixture() else {
            return vec![(StepRoles::of_dense(feed_forward), feed_forward.features())];
        };
        let experts = (0..mixture.experts).map(|expert| StepRoles::of_expert(expert, mixture.bias));
        let shared = mixture.shared_features.map(|features| (StepRoles::of_shared(), features));
        experts.map(|step| (step, mixture.features)).chain(shared).collect()
    }

    /// Returns the step that a feature of a layer belongs to, and the feature's number there.
    pub fn of_feature(feed_forward: &FeedForwardSpec, feature: usize) -> (StepRoles, usize) {
        match feed_forward.mixture() {
            Some(mixture) if feature < mixture.experts * mixture.features => {
                let (expert, feature) = (feature / mixture.features, feature % mixture.features);
                (StepRoles::of_expert(expert, mixture.bias), feature)
            }
            Some(mixture) => (StepRoles::of_shared(), feature - mixture.experts * mixture.features),
            None => (StepRoles::of_dense(feed_forward), feature),
        }
    }

    /// Returns the one step of a layer that is not a mixture.
    pub fn of_dense(feed_forward: &FeedForwardSpec) -> StepRoles {
        let gated = StepRoles::named_plainly(feed_forward.has_bias());
        StepRoles { up: gated.up.filter(|_| feed_forward.is_gated()), ..gated }
    }

    /// Returns one expert of a mixture.
    pub fn of_expert(expert: usize, has_bias: bool) -> StepRoles {
        StepRoles::new(
            (LayerRole::ExpertGate(expert), LayerRole::ExpertGateBias(expert)),
            (LayerRole::ExpertUp(expert), LayerRole::ExpertUpBias(expert)),
            (LayerRole::ExpertDown(expert), LayerRole::ExpertDownBias(expert)),
            has_bias,
        )
    }

    /// Returns the step of a mixture that every token passes. No mixture has biases there.
    pub fn of_shared() -> StepRoles {
        StepRoles::named_plainly(false)
    }

    /// Returns the gated step of the roles that carry no expert's number.
    fn named_plainly(has_bias: bool) -> StepRoles {
        StepRoles::new(
            (LayerRole::Gate, LayerRole::GateBias),
            (LayerRole::Up, LayerRole::UpBias),
            (LayerRole::Down, LayerRole::DownBias),
            has_bias,
        )
    }

    fn new(
        gate: (LayerRole, LayerRole),
        up: (LayerRole, LayerRole),
        down: (LayerRole, LayerRole),
        has_bias: bool,
    ) -> StepRoles {
        let projection = |(weight, bias)| ProjectionRoles { weight, bias: has_bias.then_some(bias) };
        StepRoles { gate: projection(gate), up: Some(projection(up)), down: projection(down) }
    }
}
