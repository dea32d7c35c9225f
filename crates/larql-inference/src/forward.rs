//! The forward pass: tokens of one or several sequences through every layer, once.

use std::ops::Range;

use larql_compute::{Activations, Precision, activation, matmul};

use crate::feed_forward::{FeedForward, FfnBackend, FfnInput};
use crate::hook::{Hook, Point, Stage};
use crate::model::{Layer, Model, Norm};
use crate::per_layer_inputs::{PerLayerInputs, TokenInputs};
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
        self.below(self.model.layers.len(), sequences)
    }

    /// As [`Pass::residual`], of the layers below `end` alone. The caches of the others know nothing of the tokens, so
    /// with another `end` than all they are good for nothing but to be looked at.
    pub(crate) fn below(
        &mut self,
        end: usize,
        sequences: &mut [Sequence<'_>],
    ) -> Result<Vec<f32>, InferenceError> {
        let mut residual = self.model.embed(sequences)?;
        let embeddings = Activations::new(&residual, self.model.spec.hidden_size);
        let inputs = self
            .model
            .per_layer_inputs
            .as_ref()
            .map(|inputs| inputs.of_tokens(&self.model.pool, sequences, &embeddings, self.precision));
        let result = self.layers(0..end, inputs.as_ref(), sequences, &mut residual);
        for sequence in sequences {
            let cache = &mut sequence.cache;
            match result {
                Ok(()) => cache.length += sequence.tokens.len(),
                Err(_) => cache.truncate(cache.length),
            }
        }
        result.map(|()| residual)
    }

    /// Runs residuals, `[tokens, hidden]`, that enter the first of `layers` through these. Their caches grow, but not the
    /// length of the sequences: that is for whoever has run the layers below as well.
    pub(crate) fn layers(
        &mut self,
        layers: Range<usize>,
        inputs: Option<&TokenInputs>,
        sequences: &mut [Sequence<'_>],
        residual: &mut [f32],
    ) -> Result<(), InferenceError> {
        let model = self.model;
        layers
            .into_iter()
            .try_for_each(|index| self.layer(index, &model.layers[index], inputs, sequences, residual))
    }

    fn layer(
        &mut self,
        index: usize,
        layer: &Layer,
        inputs: Option<&TokenInputs>,
        sequences: &mut [Sequence<'_>],
        residual: &mut [f32],
    ) -> Result<(), InferenceError> {
        let (pool, hidden) = (&self.model.pool, self.model.spec.hidden_size);
        let mut watch = |stage, values: &mut [f32]| self.hook.at(Point { layer: index, stage }, values);
        watch(Stage::LayerInput, residual);
        let normed = normed(&layer.attention_norm, residual);

        let input = Activations::new(&normed, hidden);
        let mut branch = layer.attention.forward(pool, index, &input, self.precision, sequences);
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
        let normed = Activations::new(&input, hidden);
        let mut expert_weights = match &layer.feed_forward {
            FeedForward::Mixture(mixture) => mixture.expert_weights(pool, &normed, residual),
            FeedForward::Dense(_) => Vec::new(),
        };
        if !expert_weights.is_empty() {
            watch(Stage::ExpertWeights, &mut expert_weights);
        }
        let input = FfnInput { normed, residual, expert_weights: &expert_weights };
        self.feed_forward.forward(index, &input, self.precision, &mut output)?;
        finish_branch(layer, &layer.post_feed_forward_norm, &mut output);
        watch(Stage::FeedForwardOutput, &mut output);
        if layer.parallel {
            add(residual, &branch);
        }
        add(residual, &output);
        if let (Some(branch), Some(inputs)) = (&layer.per_layer_input, inputs) {
            let input = Activations::new(residual, hidden);
            let output = branch.forward(pool, index, inputs, &input, self.precision);
            add(residual, &output);
        }
        if let Some(scale) = layer.output_scale {
            residual.iter_mut().for_each(|v| *v *= scale);
        }
        watch(Stage::LayerOutput, residual);
        Ok(())
    }
}

pub(crate) fn normed(norm: &Option<Norm>, residual: &[f32]) -> Vec<f32> {
    let mut values = residual.to_vec();
    if let Some(norm) = norm {
        norm.apply(&mut values);
    }
    values
}

/// What happens to a branch's output before it is added to the residual.
pub(crate) fn finish_branch(layer: &Layer, norm: &Option<Norm>, branch: &mut [f32]) {
    if let Some(norm) = norm {
        norm.apply(branch);
    }
    if layer.residual_multiplier != 1.0 {
        branch.iter_mut().for_each(|v| *v *= layer.residual_multiplier);
    }
}

pub(crate) fn add(residual: &mut [f32], branch: &[f32]) {
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
            let per_layer = self.per_layer_inputs.as_ref().map(PerLayerInputs::vocab_size);
            let vocab_size = self.embedding.rows().min(per_layer.unwrap_or(usize::MAX));
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

    /// Logits `[tokens, vocab]` of the last layer's outputs `[tokens, hidden]`.
    pub fn logits(&self, mut residual: Vec<f32>, precision: Precision) -> Vec<f32> {
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

impl Model {
    /// How much the heads of a layer look at each position from the last one: `[heads, positions]`. `residual`,
    /// `[hidden]`, is what entered the layer at the last position, and `cache` the sequence after the pass.
    pub fn attention_weights(&self, layer: usize, residual: &[f32], cache: &Cache) -> Vec<f32> {
        let Layer { attention, attention_norm, .. } = &*self.layers[layer];
        let input = normed(attention_norm, residual);
        attention.weights(&self.pool, layer, &Activations::new(&input, self.spec.hidden_size), cache)
    }
}
