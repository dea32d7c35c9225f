//! Contribution of each feature of a layer to a token's logit.
//!
//! The residual that the head reads is a sum over layers, so to first order, with the scale of the final norm held at
//! its value, the logit of token `t` is a sum as well. Feature `f` with activation `a` and down vector `d` adds
//! `a * (d . g)`, where `g` is the head's row of `t` pulled back through the final norm and, where the layer norms
//! its feed-forward output, through that norm too.

use std::sync::{Mutex, PoisonError};

use larql_compute::vector::{axpy, dot};
use larql_compute::{Activations, MatRef, Pool, Precision};
use larql_models::NormKind;

use crate::feed_forward::{Dense, FeedForward};
use crate::norm::Norm;
use crate::{BackendError, Model, PassError};

impl Model {
    /// The direction in the last layer's output, `[hidden]`, along which the logit of `token` grows, at the value
    /// `residual`, `[hidden]`, of that output.
    ///
    /// # Errors
    /// If the final norm or the output head is absent.
    pub fn logit_direction(&self, token: u32, residual: &[f32]) -> Result<Vec<f32>, BackendError> {
        let mut direction = vec![0.0; self.spec.hidden_size];
        self.ends.head()?.weight.view().decode_row(token as usize, &mut direction);
        self.ends.norm()?.pull_back(&mut direction, residual);
        direction.iter_mut().for_each(|d| *d *= self.spec.logit_scale);
        Ok(direction)
    }

    /// Contribution of each feature of a layer, with its activation, along a direction of the last layer's output.
    /// `activations` is `[tokens, features]`, `directions` `[tokens, hidden]`, the result `[tokens, features]`.
    pub fn feature_contributions(&self, layer: usize, activations: &[f32], directions: &[f32]) -> Vec<f32> {
        let (layer, hidden, features) =
            (&self.layers[layer], self.spec.hidden_size, self.layers[layer].feed_forward.feature_count());
        let mut directions = directions.to_vec();
        if let Some(norm) = &layer.post_feed_forward_norm {
            let outputs = self.written(&layer.feed_forward, activations);
            let outputs = outputs.chunks_exact(hidden);
            directions
                .chunks_exact_mut(hidden)
                .zip(outputs)
                .for_each(|(d, output)| norm.pull_back(d, output));
        }
        directions.iter_mut().for_each(|along| *along *= layer.residual_multiplier);
        let mut contributions = vec![0.0; activations.len()];
        let mut first = 0;
        for part in layer.feed_forward.parts() {
            let along = part.along_down(&self.pool, &directions);
            let count = part.feature_count();
            for (all, own) in contributions.chunks_exact_mut(features).zip(along.chunks_exact(count)) {
                all[first..first + count].copy_from_slice(own);
            }
            first += count;
        }
        contributions.iter_mut().zip(activations).for_each(|(along, activation)| *along *= activation);
        contributions
    }

    /// Contribution of each attention head of a layer along a direction of the last layer's output. `head_outputs` is
    /// [`Stage::HeadOutputs`](crate::Stage::HeadOutputs), `[tokens, heads * value_dim]`, `directions` `[tokens, hidden]`, the
    /// result `[tokens, heads]`. Biases of the output projection belong to no head.
    ///
    /// # Errors
    /// If the layer's attention is absent.
    pub fn head_contributions(
        &self,
        layer: usize,
        head_outputs: &[f32],
        directions: &[f32],
    ) -> Result<Vec<f32>, PassError> {
        let weights = &self.layers[layer];
        let attention = weights.attention(layer)?;
        let (hidden, heads) = (self.spec.hidden_size, attention.shape.heads);
        let width = heads * attention.shape.value_dim;
        let mut directions = directions.to_vec();
        if let Some(norm) = &weights.post_attention_norm {
            let input = Activations::new(head_outputs, width);
            let outputs = attention.output.product(&self.pool, &input, Precision::Exact);
            let rows = directions.chunks_exact_mut(hidden).zip(outputs.chunks_exact(hidden));
            rows.for_each(|(direction, output)| norm.pull_back(direction, output));
        }
        directions.iter_mut().for_each(|along| *along *= weights.residual_multiplier);
        let along = along_columns(&self.pool, attention.output.weight.view(), &directions);
        let of_head = |(along, output): (&[f32], &[f32])| dot(along, output);
        let value_dim = attention.shape.value_dim;
        Ok(along.chunks_exact(value_dim).zip(head_outputs.chunks_exact(value_dim)).map(of_head).collect())
    }

    /// Output of features with these activations, `[tokens, features]`: `[tokens, hidden]`.
    pub(crate) fn written(&self, feed_forward: &FeedForward, activations: &[f32]) -> Vec<f32> {
        let (features, hidden) = (feed_forward.feature_count(), self.spec.hidden_size);
        let mut total = vec![0.0; activations.len() / features * hidden];
        let mut written = total.clone();
        let mut first = 0;
        for part in feed_forward.parts() {
            let count = part.feature_count();
            let own = activations.chunks_exact(features).flat_map(|row| &row[first..first + count]);
            let own: Vec<f32> = own.copied().collect();
            let rows = Activations::new(activations, features);
            part.write_down(&self.pool, &rows, own, Precision::Exact, &mut written);
            total.iter_mut().zip(&written).for_each(|(total, written)| *total += written);
            first += count;
        }
        total
    }
}

/// Columns of a down matrix that a thread takes at a time; a multiple of every format's block.
const COLUMNS: usize = 256;

/// Products of a matrix's columns, `[hidden, columns]`, with directions, `[tokens, hidden]`: `[tokens, columns]`.
pub(crate) fn along_columns(pool: &Pool, matrix: MatRef<'_>, directions: &[f32]) -> Vec<f32> {
    let (hidden, columns) = (matrix.rows(), matrix.cols());
    let tokens = directions.len() / hidden;
    let pieces = Mutex::new(Vec::new());
    pool.for_each_range(columns, COLUMNS, |range| {
        let mut row = vec![0.0; range.len()];
        let mut sums = vec![0.0; tokens * range.len()];
        for r in 0..hidden {
            matrix.decode_part(r, range.clone(), &mut row);
            for (token, sums) in sums.chunks_exact_mut(range.len()).enumerate() {
                axpy(directions[token * hidden + r], &row, sums);
            }
        }
        pieces.lock().unwrap_or_else(PoisonError::into_inner).push((range, sums));
    });
    let mut along = vec![0.0; tokens * columns];
    for (range, sums) in pieces.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let rows = along.chunks_exact_mut(columns).zip(sums.chunks_exact(range.len()));
        rows.for_each(|(row, sums)| row[range.clone()].copy_from_slice(sums));
    }
    along
}

impl Dense {
    /// Products of each feature's down vector with directions, `[tokens, hidden]`: `[tokens, features]`.
    pub(crate) fn along_down(&self, pool: &Pool, directions: &[f32]) -> Vec<f32> {
        let mut along = along_columns(pool, self.down.weight.view(), directions);
        if let Some(edits) = &self.edits {
            edits.put(&mut along, &edits.step.along_down(pool, directions));
        }
        along
    }
}

impl Norm {
    /// Turns a direction of the norm's output into one of its input, `[hidden]`, with the norm's scale as it is at
    /// `input`.
    pub(crate) fn pull_back(&self, direction: &mut [f32], input: &[f32]) {
        direction.iter_mut().zip(self.factors()).for_each(|(d, factor)| *d *= factor);
        if self.spec.kind == NormKind::Layer {
            let mean_direction = direction.iter().sum::<f32>() / input.len() as f32;
            direction.iter_mut().for_each(|d| *d -= mean_direction);
        }
        let scale = self.scale(input);
        direction.iter_mut().for_each(|d| *d *= scale);
    }

    /// The factor by which the norm scales all values of `input`, `[hidden]`, alike.
    pub(crate) fn scale(&self, input: &[f32]) -> f32 {
        let count = input.len() as f32;
        let mut spread = input.iter().map(|x| x * x).sum::<f32>() / count;
        if self.spec.kind == NormKind::Layer {
            let mean = input.iter().sum::<f32>() / count;
            spread -= mean * mean;
        }
        (spread + self.spec.epsilon).sqrt().recip()
    }
}
