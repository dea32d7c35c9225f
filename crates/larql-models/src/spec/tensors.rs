//! The tensors that a model consists of, with their names and shapes.

use super::{AttentionSpec, FeedForwardSpec, KeysAndValues, LayerSpec, LowRank, MixtureSpec, ModelSpec};
use crate::role::{LayerRole, Role};

/// Shape of a tensor that a spec calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A vector of this length.
    Vector(usize),
    /// `[rows, cols]`, row-major; a projection has a row for each output.
    Matrix(usize, usize),
}

impl ModelSpec {
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

    /// Returns true if the rows of a tensor lie in another order in `other`: those of queries and keys where rotary positions
    /// turn other pairs of them, as in a GGUF file of a Llama beside its checkpoint.
    pub fn orders_rows_otherwise(&self, other: &ModelSpec, role: Role) -> bool {
        use LayerRole::{Key, KeyBias, Query, QueryBias};
        let Role::Layer(layer, Query | QueryBias | Key | KeyBias) = role else { return false };
        let pairing = |spec: &ModelSpec| Some(spec.layers.get(layer)?.attention.rotary.as_ref()?.pairing);
        pairing(self) != pairing(other)
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

impl LayerSpec {
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
