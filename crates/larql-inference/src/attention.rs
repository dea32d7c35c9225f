//! The attention branch of a layer: its weights, and queries, keys and values from normed inputs.

use larql_compute::attention::{AttentionShape, attend, attention_weights};
use larql_compute::rotary::{Rotary, Rotation};
use larql_compute::{Activations, Pool, Precision};

use crate::Cache;
use crate::feed_forward::products;
use crate::forward::Sequence;
use crate::model::{Norm, Projection};

/// The attention branch's weights.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    pub(crate) shape: AttentionShape,
    pub(crate) rotary: Option<Rotary>,
    /// The first dimension of a head that is rotated.
    pub(crate) rotary_start: usize,
    /// The way to the narrow vector that queries are projected from, if there is one.
    pub(crate) query_down: Option<LowRank>,
    pub(crate) query: Projection,
    pub(crate) query_norm: Option<Norm>,
    pub(crate) keys_and_values: KeysAndValues,
    pub(crate) output: Projection,
}

/// A projection to a narrow vector, and its norm.
#[derive(Clone, Debug)]
pub(crate) struct LowRank {
    pub(crate) down: Projection,
    pub(crate) norm: Norm,
}

/// What keys and values are made of.
#[derive(Clone, Debug)]
pub(crate) enum KeysAndValues {
    /// Keys, and values by a projection of their own or as the keys are before norm and rotation.
    Projected { key: Projection, value: Option<Projection>, key_norm: Option<Norm>, value_norm: Option<Norm> },
    /// Those of an earlier layer.
    Borrowed { layer: usize },
    /// Both from one narrow vector; the last `shared_dims` of every key are the same for all heads.
    Latent { latent: LowRank, up: Projection, shared_dims: usize },
}

/// Keys, `[tokens, kv_heads * head_dim]`, and values, `[tokens, kv_heads * value_dim]`.
type KeysThenValues = (Vec<f32>, Vec<f32>);

impl Attention {
    /// The branch's output `[tokens, hidden]` for normed inputs `[tokens, hidden]`; appends to the caches.
    pub(crate) fn forward(
        &self,
        pool: &Pool,
        layer: usize,
        input: &Activations<'_>,
        precision: Precision,
        sequences: &mut [Sequence<'_>],
    ) -> Vec<f32> {
        let shape = &self.shape;
        let (mut queries, mut own) = self.project(pool, input, precision);
        let query_width = shape.heads * shape.head_dim;
        let (key_width, value_width) = (shape.kv_heads * shape.head_dim, shape.kv_heads * shape.value_dim);
        let mixed_width = shape.heads * shape.value_dim;
        let mut mixed = vec![0.0; input.batch() * mixed_width];
        let mut first = 0;
        for sequence in sequences {
            let new = first..first + sequence.tokens.len();
            let queries = &mut queries[new.start * query_width..new.end * query_width];
            let start = sequence.cache.len();
            let rotation = self.rotation(start..start + new.len());
            if let Some(rotation) = &rotation {
                self.rotate(rotation, queries, query_width);
            }
            let cached = match (&mut own, &self.keys_and_values) {
                (Some((keys, values)), _) => {
                    let keys = &mut keys[new.start * key_width..new.end * key_width];
                    if let Some(rotation) = &rotation {
                        self.rotate(rotation, keys, key_width);
                    }
                    let cached = &mut sequence.cache.layers[layer];
                    cached.append(keys, &values[new.start * value_width..new.end * value_width], precision);
                    &*cached
                }
                (None, kind) => &sequence.cache.layers[kind.holder(layer)],
            };
            let mixed = &mut mixed[new.start * mixed_width..new.end * mixed_width];
            attend(pool, shape, cached, queries, mixed);
            first = new.end;
        }
        self.output.product(pool, &Activations::new(&mixed, mixed_width), precision)
    }

    /// How much the heads look at each position from the last one, `[heads, positions]`, for its normed input
    /// `[hidden]` and the sequence after the pass.
    pub(crate) fn weights(
        &self,
        pool: &Pool,
        layer: usize,
        input: &Activations<'_>,
        cache: &Cache,
    ) -> Vec<f32> {
        let mut queries = self.project_queries(pool, input, Precision::Exact);
        apply(&self.query_norm, &mut queries);
        if let Some(rotation) = self.rotation(cache.len() - 1..cache.len()) {
            let width = queries.len();
            self.rotate(&rotation, &mut queries, width);
        }
        attention_weights(&self.shape, &cache.layers[self.keys_and_values.holder(layer)], &queries)
    }

    /// Queries, `[tokens, heads * head_dim]`, and the layer's own keys and values, all before rotation.
    fn project(
        &self,
        pool: &Pool,
        input: &Activations<'_>,
        precision: Precision,
    ) -> (Vec<f32>, Option<KeysThenValues>) {
        let (mut queries, mut own) = match (&self.query_down, &self.keys_and_values) {
            // One job of the threads in place of three.
            (None, KeysAndValues::Projected { key, value: Some(value), .. }) => {
                let [queries, keys, values] = products(pool, [&self.query, key, value], input, precision);
                (queries, Some((keys, values)))
            }
            _ => (self.project_queries(pool, input, precision), self.project_own(pool, input, precision)),
        };
        apply(&self.query_norm, &mut queries);
        if let KeysAndValues::Projected { key_norm, value_norm, .. } = &self.keys_and_values
            && let Some((keys, values)) = &mut own
        {
            apply(key_norm, keys);
            apply(value_norm, values);
        }
        (queries, own)
    }

    /// The queries before their norm and rotation.
    fn project_queries(&self, pool: &Pool, input: &Activations<'_>, precision: Precision) -> Vec<f32> {
        let Some(low_rank) = &self.query_down else { return self.query.product(pool, input, precision) };
        let (mut narrow, width) = (low_rank.down.product(pool, input, precision), low_rank.width());
        low_rank.norm.apply(&mut narrow);
        self.query.product(pool, &Activations::new(&narrow, width), precision)
    }

    /// The layer's own keys and values before their norms.
    fn project_own(
        &self,
        pool: &Pool,
        input: &Activations<'_>,
        precision: Precision,
    ) -> Option<KeysThenValues> {
        match &self.keys_and_values {
            KeysAndValues::Projected { key, value, .. } => {
                let keys = key.product(pool, input, precision);
                let values = value.as_ref().map(|value| value.product(pool, input, precision));
                Some((keys.clone(), values.unwrap_or(keys)))
            }
            KeysAndValues::Borrowed { .. } => None,
            KeysAndValues::Latent { latent, up, shared_dims } => {
                let down = latent.down.product(pool, input, precision);
                Some(self.expand(pool, latent, up, &down, *shared_dims, precision))
            }
        }
    }

    /// Keys and values of every head from `down`, `[tokens, rank + shared_dims]`: the narrow vector and the part of
    /// keys that all heads share.
    fn expand(
        &self,
        pool: &Pool,
        latent: &LowRank,
        up: &Projection,
        down: &[f32],
        shared_dims: usize,
        precision: Precision,
    ) -> KeysThenValues {
        let AttentionShape { kv_heads, head_dim, value_dim, .. } = self.shape;
        let (rank, own_dims) = (up.weight.cols(), head_dim - shared_dims);
        let tokens = down.chunks_exact(rank + shared_dims);
        let mut narrow: Vec<f32> = tokens.clone().flat_map(|token| &token[..rank]).copied().collect();
        latent.norm.apply(&mut narrow);
        let expanded = up.product(pool, &Activations::new(&narrow, rank), precision);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let expanded = expanded.chunks_exact(kv_heads * (own_dims + value_dim));
        for (heads, token) in expanded.zip(tokens) {
            for head in heads.chunks_exact(own_dims + value_dim) {
                keys.extend_from_slice(&head[..own_dims]);
                keys.extend_from_slice(&token[rank..]);
                values.extend_from_slice(&head[own_dims..]);
            }
        }
        (keys, values)
    }

    pub(crate) fn rotation(&self, positions: std::ops::Range<usize>) -> Option<Rotation> {
        let length = positions.end;
        self.rotary.as_ref().map(|rotary| rotary.rotation(positions, length))
    }

    /// Rotates every head of every token; `values` is `[tokens, width]`.
    pub(crate) fn rotate(&self, rotation: &Rotation, values: &mut [f32], width: usize) {
        for (index, token) in values.chunks_exact_mut(width).enumerate() {
            let heads = token.chunks_exact_mut(self.shape.head_dim);
            heads.for_each(|head| rotation.rotate(index, &mut head[self.rotary_start..]));
        }
    }
}

pub(crate) fn apply(norm: &Option<Norm>, values: &mut [f32]) {
    if let Some(norm) = norm {
        norm.apply(values);
    }
}

impl KeysAndValues {
    /// The layer whose cache holds what layer `own` attends to.
    fn holder(&self, own: usize) -> usize {
        match self {
            KeysAndValues::Borrowed { layer } => *layer,
            _ => own,
        }
    }
}

impl LowRank {
    fn width(&self) -> usize {
        self.down.weight.rows()
    }
}
