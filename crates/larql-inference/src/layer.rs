//! One block of a model: its weights, and how they run.

use std::sync::Arc;

use larql_compute::{Pool, Precision};

use crate::attention::Attention;
use crate::batch::Sequence;
use crate::feed_forward::{ExpertRouter, FeedForward, FfnBackend, FfnInput};
use crate::hook::Stage;
use crate::norm::{Norm, apply, normed};
use crate::per_layer_inputs::{PerLayerBranch, TokenInputs};
use crate::projection::add;
use crate::watch::Watch;
use crate::{BackendError, PassError};

/// One block's weights. Attention and the feed-forward step may be absent.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Option<Norm>,
    pub(crate) attention: Option<Attention>,
    pub(crate) post_attention_norm: Option<Norm>,
    pub(crate) feed_forward_norm: Option<Norm>,
    /// In a mixture of experts, what chooses them.
    pub(crate) router: Option<Arc<ExpertRouter>>,
    pub(crate) feed_forward: FeedForward,
    pub(crate) post_feed_forward_norm: Option<Norm>,
    pub(crate) parallel: bool,
    pub(crate) residual_multiplier: f32,
    pub(crate) per_layer_input: Option<PerLayerBranch>,
    pub(crate) output_scale: Option<f32>,
}

/// Everything that a layer needs to run beside its own weights.
pub(crate) struct LayerContext<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) index: usize,
    pub(crate) hidden: usize,
    pub(crate) precision: Precision,
    pub(crate) feed_forward: &'a dyn FfnBackend,
    pub(crate) inputs: Option<&'a TokenInputs>,
}

impl Layer {
    /// Runs the layer on the residual stream, `[rows, hidden]`, in place.
    pub(crate) fn forward(
        &self,
        context: &LayerContext<'_>,
        sequences: &mut [Sequence<'_>],
        watch: &mut Watch<'_>,
        residual: &mut [f32],
    ) -> Result<(), PassError> {
        let LayerContext { pool, index, hidden, precision, .. } = *context;
        watch.at(index, Stage::LayerInput, residual)?;
        let mut normed_input = normed(&self.attention_norm, residual);
        watch.at(index, Stage::AttentionInput, &mut normed_input)?;

        let input = watch.rows.activations(&normed_input, hidden);
        let attention = self.attention(index)?;
        let mut branch = attention.forward((pool, index), &input, precision, sequences, watch)?;
        self.finish_branch(&self.post_attention_norm, &mut branch);
        watch.at(index, Stage::AttentionOutput, &mut branch)?;

        let mut input = if self.parallel {
            normed_input
        } else {
            add(residual, &branch);
            normed(&self.feed_forward_norm, residual)
        };
        watch.at(index, Stage::FeedForwardInput, &mut input)?;
        let mut output = self.feed_forward(context, &input, residual, watch)?;
        self.finish_branch(&self.post_feed_forward_norm, &mut output);
        watch.at(index, Stage::FeedForwardOutput, &mut output)?;
        if self.parallel {
            add(residual, &branch);
        }
        add(residual, &output);
        if let (Some(branch), Some(inputs)) = (&self.per_layer_input, context.inputs) {
            let input = watch.rows.activations(residual, hidden);
            let output = branch.forward(pool, index, inputs, &input, precision);
            add(residual, &output);
        }
        if let Some(scale) = self.output_scale {
            residual.iter_mut().for_each(|v| *v *= scale);
        }
        watch.at(index, Stage::LayerOutput, residual)
    }

    pub(crate) fn attention(&self, index: usize) -> Result<&Attention, PassError> {
        let absent = BackendError::Absent { part: "attention", layer: Some(index) };
        self.attention.as_ref().ok_or(PassError::Backend(absent))
    }

    /// The output of the feed-forward step, `[rows, hidden]`, for its input and the residual, both `[rows, hidden]`.
    fn feed_forward(
        &self,
        context: &LayerContext<'_>,
        input: &[f32],
        residual: &[f32],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<f32>, PassError> {
        let LayerContext { pool, index, hidden, precision, feed_forward, .. } = *context;
        let mut output = vec![0.0; residual.len()];
        let rows = watch.rows;
        let normed = rows.activations(input, hidden);
        let mut expert_weights = match &self.router {
            Some(router) => router.weights(pool, &normed, residual),
            None => Vec::new(),
        };
        if self.router.is_some() {
            watch.at(index, Stage::ExpertWeights, &mut expert_weights)?;
        }
        let input = FfnInput { normed, residual, expert_weights: &expert_weights, rows, precision };
        if watch.wants(index, Stage::FeatureActivations) {
            let mut features = feed_forward.features(index, &input)?;
            watch.at(index, Stage::FeatureActivations, &mut features)?;
            feed_forward.write_features(index, &input, features, &mut output)?;
        } else {
            feed_forward.forward(index, &input, &mut output)?;
        }
        Ok(output)
    }

    /// Norms and scales a branch's output, `[rows, hidden]`, as is done before it is added to the residual.
    pub(crate) fn finish_branch(&self, norm: &Option<Norm>, branch: &mut [f32]) {
        apply(norm, branch);
        if self.residual_multiplier != 1.0 {
            branch.iter_mut().for_each(|v| *v *= self.residual_multiplier);
        }
    }
}
