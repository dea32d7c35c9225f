//! The attention branch of a layer: its weights, and queries, keys and values from normed inputs.

use std::ops::Range;

use larql_compute::attention::{AttentionJob, AttentionShape, attend, attention_pattern, mix_values};
use larql_compute::rotary::{Rotary, Rotation};
use larql_compute::{Activations, Pool, Precision};
use larql_models::QueryGrowth;

use crate::batch::{Rows, Sequence};
use crate::hook::Stage;
use crate::norm::{HeadNorms, Norm, apply};
use crate::projection::{Projection, products};
use crate::state::NewKeysAndValues;
use crate::watch::Watch;
use crate::{PassError, SequenceState};

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
    pub(crate) query_norm: Option<HeadNorms>,
    /// True if queries and keys are normed after the rotation.
    pub(crate) norm_after_rotation: bool,
    /// Growth of the rotated queries with their position.
    pub(crate) query_growth: Option<QueryGrowth>,
    pub(crate) keys_and_values: KeysAndValues,
    pub(crate) output: Projection,
}

/// A projection to a narrow vector, and its norm.
#[derive(Clone, Debug)]
pub(crate) struct LowRank {
    pub(crate) down: Projection,
    pub(crate) norm: Norm,
}

/// Source of keys and values.
#[derive(Clone, Debug)]
pub(crate) enum KeysAndValues {
    /// Keys, and values by a projection of their own or as the keys are before norm and rotation.
    Projected {
        key: Projection,
        value: Option<Projection>,
        key_norm: Option<HeadNorms>,
        value_norm: Option<Norm>,
    },
    /// Keys and values of an earlier layer.
    Borrowed { layer: usize },
    /// Both from one narrow vector; the last `shared_dims` of every key are the same for all heads.
    Latent { latent: LowRank, up: Projection, shared_dims: usize },
}

/// Keys, `[tokens, kv_heads * head_dim]`, and values, `[tokens, kv_heads * value_dim]`.
type KeysThenValues = (Vec<f32>, Vec<f32>);

impl Attention {
    /// Runs the branch on normed inputs `[rows, hidden]`: appends keys and values to the states, and returns the output
    /// `[rows, hidden]`.
    pub(crate) fn forward(
        &self,
        (pool, layer): (&Pool, usize),
        input: &Activations<'_>,
        precision: Precision,
        sequences: &mut [Sequence<'_>],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<f32>, PassError> {
        let (mut queries, mut own) = self.project(pool, input, precision);
        self.prepare_rows(watch.rows, &mut queries, own.as_mut().map(|(keys, _)| keys));
        watch.at(layer, Stage::Queries, &mut queries)?;
        if let Some((keys, values)) = &mut own {
            watch.at(layer, Stage::Keys, keys)?;
            watch.at(layer, Stage::Values, values)?;
            let [key_width, value_width] =
                [self.shape.head_dim, self.shape.value_dim].map(|dim| self.shape.kv_heads * dim);
            for (index, sequence) in sequences.iter_mut().enumerate() {
                let rows = watch.rows.of(index);
                let new = NewKeysAndValues {
                    keys: &keys[rows.start * key_width..rows.end * key_width],
                    values: &values[rows.start * value_width..rows.end * value_width],
                };
                let failed = |source| PassError::State { layer, source };
                sequence.state.append(layer, new, precision).map_err(failed)?;
            }
        }
        let mut mixed = self.attend((pool, layer), &queries, sequences, watch)?;
        watch.at(layer, Stage::HeadOutputs, &mut mixed)?;
        let mixed = input.with_values(&mixed, self.shape.heads * self.shape.value_dim);
        Ok(self.output.product(pool, &mixed, precision))
    }

    /// The output of every head, `[rows, heads * value_dim]`, for rotated queries `[rows, heads * head_dim]`.
    fn attend(
        &self,
        (pool, layer): (&Pool, usize),
        queries: &[f32],
        sequences: &[Sequence<'_>],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<f32>, PassError> {
        let (shape, rows) = (&self.shape, watch.rows);
        let holder = self.keys_and_values.holder(layer);
        let mut mixed = vec![0.0; rows.len() * shape.heads * shape.value_dim];
        let outputs = rows.split_mut(&mut mixed, shape.heads * shape.value_dim);
        let queries = rows.split(queries, shape.heads * shape.head_dim);
        let jobs = sequences.iter().zip(queries).zip(outputs);
        let mut jobs: Vec<AttentionJob<'_>> = jobs
            .map(|((sequence, queries), out)| AttentionJob {
                cached: sequence.state.view(holder),
                queries,
                out,
            })
            .collect();
        if !watch.wants(layer, Stage::AttentionPattern) {
            attend(pool, shape, &mut jobs);
            return Ok(mixed);
        }
        let patterns = jobs.iter().map(|job| attention_pattern(pool, shape, job.cached, job.queries));
        let mut patterns: Vec<f32> = patterns.flatten().collect();
        watch.at(layer, Stage::AttentionPattern, &mut patterns)?;
        for (job, part) in jobs.iter_mut().zip(rows.patterns(shape.heads)) {
            mix_values(pool, shape, job.cached, &patterns[part], job.out);
        }
        Ok(mixed)
    }

    /// Norms and rotates queries and keys, each `[rows, its width]`, by the positions of their rows.
    fn prepare_rows(&self, rows: &Rows, queries: &mut [f32], keys: Option<&mut Vec<f32>>) {
        let [query_width, key_width] =
            [self.shape.heads, self.shape.kv_heads].map(|heads| heads * self.shape.head_dim);
        let mut keys = keys.map(|keys| rows.split_mut(keys, key_width));
        for (sequence, queries) in rows.split_mut(queries, query_width).enumerate() {
            let positions = rows.positions(sequence);
            let rotation = match rows.is_draft(sequence) {
                true => self.rotary.as_ref().map(|rotary| rotary.rotation_of_last(positions.clone())),
                false => self.rotation(positions.clone(), rows.length(sequence)),
            };
            self.turn(&self.query_norm, rotation.as_ref(), queries, query_width);
            self.grow(positions, queries);
            if let Some(keys) = keys.as_mut().and_then(Iterator::next) {
                self.turn(self.keys_and_values.key_norm(), rotation.as_ref(), keys, key_width);
            }
        }
    }

    /// Norms and rotates projections of one kind, `[tokens, width]`, in the layer's order.
    fn turn(&self, norm: &Option<HeadNorms>, rotation: Option<&Rotation>, values: &mut [f32], width: usize) {
        let norms = |values: &mut [f32]| norm.iter().for_each(|norm| norm.apply(values));
        if !self.norm_after_rotation {
            norms(values);
        }
        if let Some(rotation) = rotation {
            self.rotate(rotation, values, width);
        }
        if self.norm_after_rotation {
            norms(values);
        }
    }

    /// Multiplies the queries of consecutive positions by their growth; also their gradients, by the same.
    fn grow(&self, positions: Range<usize>, queries: &mut [f32]) {
        let Some(growth) = self.query_growth else { return };
        let width = self.shape.heads * self.shape.head_dim;
        for (position, query) in positions.zip(queries.chunks_exact_mut(width)) {
            let factor = growth.factor(position);
            query.iter_mut().for_each(|value| *value *= factor);
        }
    }

    /// Norms, rotates and grows the raw queries of consecutive positions, `[tokens, heads * head_dim]`.
    pub(crate) fn prepare_queries(
        &self,
        positions: Range<usize>,
        rotation: Option<&Rotation>,
        queries: &mut [f32],
    ) {
        self.turn(&self.query_norm, rotation, queries, self.shape.heads * self.shape.head_dim);
        self.grow(positions, queries);
    }

    /// Turns the gradient of prepared queries into that of the `raw` ones, in place.
    pub(crate) fn prepare_queries_gradient(
        &self,
        positions: Range<usize>,
        rotation: Option<&Rotation>,
        raw: &[f32],
        gradient: &mut [f32],
    ) {
        self.grow(positions, gradient);
        self.turn_gradient(&self.query_norm, rotation, raw, gradient, self.shape.heads * self.shape.head_dim);
    }

    /// Turns the gradient of normed and rotated projections into that of the `raw` ones, in place; both
    /// `[tokens, width]`.
    pub(crate) fn turn_gradient(
        &self,
        norm: &Option<HeadNorms>,
        rotation: Option<&Rotation>,
        raw: &[f32],
        gradient: &mut [f32],
        width: usize,
    ) {
        if self.norm_after_rotation
            && let Some(norm) = norm
        {
            let mut rotated = raw.to_vec();
            rotation.iter().for_each(|rotation| self.rotate(rotation, &mut rotated, width));
            norm.gradient(&rotated, gradient);
        }
        if let Some(rotation) = rotation {
            self.rotate_gradient(rotation, gradient, width);
        }
        if !self.norm_after_rotation
            && let Some(norm) = norm
        {
            norm.gradient(raw, gradient);
        }
    }

    /// The weights that the heads give to each position, `[heads, positions]`, for the normed input `[hidden]` of the last
    /// token of `state`.
    pub(crate) fn weights_of_last(
        &self,
        (pool, layer): (&Pool, usize),
        input: &Activations<'_>,
        state: &dyn SequenceState,
    ) -> Vec<f32> {
        let mut queries = self.project_queries(pool, input, Precision::Exact);
        let last = state.len() - 1..state.len();
        let rotation = self.rotation(last.clone(), state.len());
        self.prepare_queries(last, rotation.as_ref(), &mut queries);
        attention_pattern(pool, &self.shape, state.view(self.keys_and_values.holder(layer)), &queries)
    }

    /// Queries, `[tokens, heads * head_dim]`, and the layer's own keys, both before norm and rotation, and values.
    fn project(
        &self,
        pool: &Pool,
        input: &Activations<'_>,
        precision: Precision,
    ) -> (Vec<f32>, Option<KeysThenValues>) {
        let (queries, mut own) = match (&self.query_down, &self.keys_and_values) {
            // One job of the threads in place of three.
            (None, KeysAndValues::Projected { key, value: Some(value), .. }) => {
                let [queries, keys, values] = products(pool, [&self.query, key, value], input, precision);
                (queries, Some((keys, values)))
            }
            _ => (self.project_queries(pool, input, precision), self.project_own(pool, input, precision)),
        };
        if let KeysAndValues::Projected { value_norm, .. } = &self.keys_and_values
            && let Some((_, values)) = &mut own
        {
            apply(value_norm, values);
        }
        (queries, own)
    }

    /// The queries before their norm and rotation.
    fn project_queries(&self, pool: &Pool, input: &Activations<'_>, precision: Precision) -> Vec<f32> {
        let Some(low_rank) = &self.query_down else { return self.query.product(pool, input, precision) };
        let (mut narrow, width) = (low_rank.down.product(pool, input, precision), low_rank.width());
        low_rank.norm.apply(&mut narrow);
        self.query.product(pool, &input.with_values(&narrow, width), precision)
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
                Some(self.expand(
                    pool,
                    (latent, up, *shared_dims),
                    &input.with_values(&down, down.len() / input.batch()),
                    precision,
                ))
            }
        }
    }

    /// Keys and values of every head from `down`, `[tokens, rank + shared_dims]`: the narrow vector and the part of
    /// keys that all heads share.
    fn expand(
        &self,
        pool: &Pool,
        (latent, up, shared_dims): (&LowRank, &Projection, usize),
        down: &Activations<'_>,
        precision: Precision,
    ) -> KeysThenValues {
        let AttentionShape { kv_heads, head_dim, value_dim, .. } = self.shape;
        let (rank, own_dims) = (up.weight.cols(), head_dim - shared_dims);
        let tokens = down.values().chunks_exact(rank + shared_dims);
        let mut narrow: Vec<f32> = tokens.clone().flat_map(|token| &token[..rank]).copied().collect();
        latent.norm.apply(&mut narrow);
        let expanded = up.product(pool, &down.with_values(&narrow, rank), precision);
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

    /// The rotation of some positions in a sequence of `length` tokens.
    pub(crate) fn rotation(&self, positions: Range<usize>, length: usize) -> Option<Rotation> {
        self.rotary.as_ref().map(|rotary| rotary.rotation(positions, length))
    }

    /// Rotates every head of every token; `values` is `[tokens, width]`.
    pub(crate) fn rotate(&self, rotation: &Rotation, values: &mut [f32], width: usize) {
        for (index, token) in values.chunks_exact_mut(width).enumerate() {
            let heads = token.chunks_exact_mut(self.shape.head_dim);
            heads.for_each(|head| rotation.rotate(index, &mut head[self.rotary_start..]));
        }
    }

    /// As [`Attention::rotate`], back.
    fn rotate_gradient(&self, rotation: &Rotation, values: &mut [f32], width: usize) {
        for (index, token) in values.chunks_exact_mut(width).enumerate() {
            let heads = token.chunks_exact_mut(self.shape.head_dim);
            heads.for_each(|head| rotation.rotate_gradient(index, &mut head[self.rotary_start..]));
        }
    }
}

impl KeysAndValues {
    /// The norm of the layer's own keys.
    fn key_norm(&self) -> &Option<HeadNorms> {
        match self {
            KeysAndValues::Projected { key_norm, .. } => key_norm,
            KeysAndValues::Borrowed { .. } | KeysAndValues::Latent { .. } => &None,
        }
    }

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
