//! The forward pass: tokens of one or several sequences through every layer, once.

use larql_compute::attention::{attend, attention_weights};
use larql_compute::rotary::Rotation;
use larql_compute::{Activations, Pool, Precision, activation, matmul};

use crate::feed_forward::FfnBackend;
use crate::hook::{Hook, Point, Stage};
use crate::model::{Attention, Layer, Model, Norm};
use crate::{Cache, InferenceError};

/// New tokens of one sequence, and what it remembers of the earlier ones.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// Grows by the new tokens.
    pub cache: &'a mut Cache,
    /// At least one.
    pub tokens: &'a [u32],
}

/// Which tokens' logits a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// The last token of each sequence: `[sequences, vocab]`.
    LastToken,
    /// Every new token, sequence by sequence: `[tokens, vocab]`.
    AllTokens,
}

/// One way to run a model: with which feed-forward step, how exactly, and who watches.
pub struct Pass<'a> {
    /// The weights.
    pub model: &'a Model,
    /// The feed-forward step.
    pub feed_forward: &'a dyn FfnBackend,
    /// How products treat activations.
    pub precision: Precision,
    /// Sees every point of the pass.
    pub hook: &'a mut dyn Hook,
}

impl Pass<'_> {
    /// Runs the new tokens of all sequences through the model together: prefill is one sequence with many
    /// tokens, decoding is many sequences with one token each. Returns logits.
    ///
    /// # Errors
    /// If a sequence has no tokens, or a token or position is outside the model. Caches are unchanged then.
    pub fn run(
        &mut self,
        sequences: &mut [Sequence<'_>],
        logits: LogitsFor,
    ) -> Result<Vec<f32>, InferenceError> {
        let residual = self.residual(sequences)?;
        let hidden = self.model.spec.hidden_size;
        let wanted = match logits {
            LogitsFor::AllTokens => residual,
            LogitsFor::LastToken => {
                let mut end = 0;
                let mut last = Vec::with_capacity(sequences.len() * hidden);
                for sequence in sequences {
                    end += sequence.tokens.len();
                    last.extend_from_slice(&residual[(end - 1) * hidden..end * hidden]);
                }
                last
            }
        };
        Ok(self.model.logits(wanted, self.precision))
    }

    /// As [`Pass::run`], up to the last layer's output, before the final norm: `[tokens, hidden]`.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn residual(&mut self, sequences: &mut [Sequence<'_>]) -> Result<Vec<f32>, InferenceError> {
        let mut residual = self.model.embed(sequences)?;
        let layers = || self.model.layers.iter().enumerate();
        let result =
            layers().try_for_each(|(index, layer)| self.layer(index, layer, sequences, &mut residual));
        for sequence in sequences {
            let cache = &mut sequence.cache;
            match result {
                Ok(()) => cache.length += sequence.tokens.len(),
                Err(_) => cache.truncate(cache.length),
            }
        }
        result.map(|()| residual)
    }

    fn layer(
        &mut self,
        index: usize,
        layer: &Layer,
        sequences: &mut [Sequence<'_>],
        residual: &mut [f32],
    ) -> Result<(), InferenceError> {
        let mut watch = |stage, values: &mut [f32]| self.hook.at(Point { layer: index, stage }, values);
        watch(Stage::LayerInput, residual);
        let normed = normed(&layer.attention_norm, residual);

        let mut branch = self.model.attention(index, &layer.attention, &normed, self.precision, sequences);
        finish_branch(layer, &layer.post_attention_norm, &mut branch);
        watch(Stage::AttentionOutput, &mut branch);

        let mut input = if layer.parallel {
            normed
        } else {
            add(residual, &branch);
            crate::forward::normed(&layer.feed_forward_norm, residual)
        };
        watch(Stage::FeedForwardInput, &mut input);
        let mut output = vec![0.0; residual.len()];
        let activations = Activations::new(&input, self.model.spec.hidden_size);
        self.feed_forward.forward(index, &activations, self.precision, &mut output)?;
        finish_branch(layer, &layer.post_feed_forward_norm, &mut output);
        watch(Stage::FeedForwardOutput, &mut output);
        if layer.parallel {
            add(residual, &branch);
        }
        add(residual, &output);
        watch(Stage::LayerOutput, residual);
        Ok(())
    }
}

fn normed(norm: &Option<Norm>, residual: &[f32]) -> Vec<f32> {
    let mut values = residual.to_vec();
    if let Some(norm) = norm {
        norm.apply(&mut values);
    }
    values
}

/// What happens to a branch's output before it is added to the residual.
fn finish_branch(layer: &Layer, norm: &Option<Norm>, branch: &mut [f32]) {
    if let Some(norm) = norm {
        norm.apply(branch);
    }
    if layer.residual_multiplier != 1.0 {
        branch.iter_mut().for_each(|v| *v *= layer.residual_multiplier);
    }
}

fn add(residual: &mut [f32], branch: &[f32]) {
    for (r, b) in residual.iter_mut().zip(branch) {
        *r += b;
    }
}

impl Model {
    /// What enters the first layer, `[tokens, hidden]`. Judges every token and position first.
    fn embed(&self, sequences: &[Sequence<'_>]) -> Result<Vec<f32>, InferenceError> {
        let hidden = self.spec.hidden_size;
        for sequence in sequences {
            if sequence.tokens.is_empty() {
                return Err(InferenceError::EmptyPrompt);
            }
            let vocab_size = self.embedding.rows();
            if let Some(&token) = sequence.tokens.iter().find(|t| **t as usize >= vocab_size) {
                return Err(InferenceError::TokenOutOfRange { token, vocab_size });
            }
            let length = sequence.cache.len() + sequence.tokens.len();
            if let Some(positions) = &self.positions
                && length > positions.rows()
            {
                return Err(InferenceError::ContextExceeded { length, limit: positions.rows() });
            }
        }
        let tokens: usize = sequences.iter().map(|s| s.tokens.len()).sum();
        let mut residual = vec![0.0; tokens * hidden];
        let mut rows = residual.chunks_exact_mut(hidden);
        let mut position_row = vec![0.0; hidden];
        for sequence in sequences {
            for ((offset, &token), row) in sequence.tokens.iter().enumerate().zip(&mut rows) {
                self.embedding.view().decode_row(token as usize, row);
                row.iter_mut().for_each(|v| *v *= self.spec.embedding_scale);
                if let Some(positions) = &self.positions {
                    positions.view().decode_row(sequence.cache.len() + offset, &mut position_row);
                    add(row, &position_row);
                }
            }
        }
        Ok(residual)
    }

    /// The attention branch of one layer for normed inputs `[tokens, hidden]`; appends to the caches.
    fn attention(
        &self,
        layer: usize,
        attention: &Attention,
        input: &[f32],
        precision: Precision,
        sequences: &mut [Sequence<'_>],
    ) -> Vec<f32> {
        let shape = &attention.shape;
        let input = Activations::new(input, self.spec.hidden_size);
        let mut queries = attention.queries(&self.pool, &input, precision);
        let mut keys = attention.key.product(&self.pool, &input, precision);
        let values = attention.value.product(&self.pool, &input, precision);
        if let Some(norm) = &attention.key_norm {
            norm.apply(&mut keys);
        }

        let (query_width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let mut mixed = vec![0.0; queries.len()];
        let mut first = 0;
        for sequence in sequences {
            let count = sequence.tokens.len();
            let queries = &mut queries[first * query_width..(first + count) * query_width];
            let new = first * kv_width..(first + count) * kv_width;
            if let Some(rotary) = &attention.rotary {
                let start = sequence.cache.len();
                let rotation = rotary.rotation(start..start + count, start + count);
                rotate_heads(&rotation, queries, query_width, shape.head_dim);
                rotate_heads(&rotation, &mut keys[new.clone()], kv_width, shape.head_dim);
            }
            let cache = &mut sequence.cache.layers[layer];
            cache.append(&keys[new.clone()], &values[new]);
            let mixed = &mut mixed[first * query_width..(first + count) * query_width];
            attend(&self.pool, shape, cache, queries, mixed);
            first += count;
        }
        let mixed = Activations::new(&mixed, query_width);
        attention.output.product(&self.pool, &mixed, precision)
    }

    /// Logits `[tokens, vocab]` of the last layer's outputs `[tokens, hidden]`.
    pub(crate) fn logits(&self, mut residual: Vec<f32>, precision: Precision) -> Vec<f32> {
        self.final_norm.apply(&mut residual);
        let input = Activations::new(&residual, self.spec.hidden_size);
        let mut logits = vec![0.0; input.batch() * self.head.rows()];
        matmul(&self.pool, self.head.view(), &input, precision, &mut logits);
        if let Some(bias) = &self.head_bias {
            logits.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
        }
        if self.spec.logit_scale != 1.0 {
            logits.iter_mut().for_each(|z| *z *= self.spec.logit_scale);
        }
        if let Some(cap) = self.spec.logit_soft_cap {
            logits.iter_mut().for_each(|z| *z = activation::soft_cap(*z, cap));
        }
        logits
    }
}

impl Attention {
    /// The queries of normed inputs `[tokens, hidden]` before their rotation: `[tokens, heads * head_dim]`.
    fn queries(&self, pool: &Pool, input: &Activations<'_>, precision: Precision) -> Vec<f32> {
        let mut queries = self.query.product(pool, input, precision);
        if let Some(norm) = &self.query_norm {
            norm.apply(&mut queries);
        }
        queries
    }
}

impl Model {
    /// How much the heads of a layer look at each position from the last one: `[heads, positions]`. `residual`,
    /// `[hidden]`, is what entered the layer at the last position, and `cache` the sequence after the pass.
    pub fn attention_weights(&self, layer: usize, residual: &[f32], cache: &Cache) -> Vec<f32> {
        let Layer { attention, attention_norm, .. } = &self.layers[layer];
        let input = normed(attention_norm, residual);
        let input = Activations::new(&input, self.spec.hidden_size);
        let mut queries = attention.queries(&self.pool, &input, Precision::Exact);
        if let Some(rotary) = &attention.rotary {
            let rotation = rotary.rotation(cache.len() - 1..cache.len(), cache.len());
            let width = queries.len();
            rotate_heads(&rotation, &mut queries, width, attention.shape.head_dim);
        }
        attention_weights(&attention.shape, &cache.layers[layer], &queries)
    }
}

/// Rotates every head of every token; `values` is `[tokens, width]`.
fn rotate_heads(rotation: &Rotation, values: &mut [f32], width: usize, head_dim: usize) {
    for (index, token) in values.chunks_exact_mut(width).enumerate() {
        token.chunks_exact_mut(head_dim).for_each(|head| rotation.rotate(index, head));
    }
}
