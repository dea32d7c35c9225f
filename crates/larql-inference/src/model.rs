//! A model ready to run.

use std::sync::Arc;

use larql_compute::{Activations, Pool, Precision};
use larql_core::progress::CancelToken;
use larql_models::ModelSpec;

use crate::ends::{Ends, LocalEnds};
use crate::feed_forward::FeedForward;
use crate::layer::Layer;
use crate::norm::normed;
use crate::per_layer_inputs::PerLayerInputs;
use crate::{BackendError, PassError, SequenceState};

/// A model's weights, ready to run. Its matrices share the mapped bytes of the source that they came from, and clones share
/// everything.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) ends: Arc<LocalEnds>,
    pub(crate) per_layer_inputs: Option<Arc<PerLayerInputs>>,
    pub(crate) layers: Arc<[Arc<Layer>]>,
    /// Token that ends its passes.
    pub(crate) cancel: CancelToken,
}

impl Model {
    /// The specification of this model.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The threads that it runs on.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Returns this model with passes that `cancel` ends between layers, so that work of many passes need not hand the token
    /// on.
    #[must_use]
    pub fn with_cancel(&self, cancel: &CancelToken) -> Model {
        Model { cancel: cancel.clone(), ..self.clone() }
    }

    /// The token that ends its passes.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Its own embedding and output head.
    pub fn ends(&self) -> Arc<dyn Ends> {
        Arc::clone(&self.ends) as Arc<dyn Ends>
    }

    /// The number of tokens that have inputs of their own in every layer, where there are such inputs.
    pub(crate) fn per_layer_vocab_size(&self) -> usize {
        self.per_layer_inputs.as_ref().map_or(usize::MAX, |inputs| inputs.vocab_size())
    }

    /// Contributions of every feature of a layer for feed-forward inputs `[tokens, hidden]` (after the norm):
    /// `act(gate) * up`, or `act(gate)` without an up projection, and in a mixture times the weight of its expert;
    /// `[tokens, features]`. A feature's down vector times this is what it adds to the residual. Where the layer's weights
    /// are absent there are no features.
    pub fn feature_activations(&self, layer: usize, input: &[f32]) -> Vec<f32> {
        let input = Activations::new(input, self.spec.hidden_size);
        match &self.layers[layer].feed_forward {
            FeedForward::Dense(dense) => dense.features(&self.pool, &input, Precision::Exact),
            FeedForward::Mixture(mixture) => mixture.features_of_normed(&self.pool, input),
            FeedForward::Absent => Vec::new(),
        }
    }

    /// Gate rows of a layer times a feed-forward input `[hidden]`: `[features]`. Where the layer's weights are absent there
    /// are no features.
    pub fn gate_scores(&self, layer: usize, input: &[f32]) -> Vec<f32> {
        let input = Activations::new(input, self.spec.hidden_size);
        match &self.layers[layer].feed_forward {
            FeedForward::Dense(dense) => dense.gate_scores(&self.pool, &input, Precision::Exact),
            FeedForward::Mixture(mixture) => mixture.gate_scores(&self.pool, &input),
            FeedForward::Absent => Vec::new(),
        }
    }

    /// Applies the final norm and the output head to residuals `[tokens, hidden]`: logits `[tokens, vocab]`,
    /// exact. This is the logit lens when the residuals are not the last layer's.
    ///
    /// # Errors
    /// If the final norm or the output head is absent.
    pub fn logit_lens(&self, residuals: &[f32]) -> Result<Vec<f32>, BackendError> {
        self.logit_lens_with(residuals, Precision::Exact)
    }

    /// The logit lens, with products of a chosen precision.
    ///
    /// # Errors
    /// As [`Model::logit_lens`].
    pub fn logit_lens_with(&self, residuals: &[f32], precision: Precision) -> Result<Vec<f32>, BackendError> {
        let mut residuals = residuals.to_vec();
        self.ends.final_norm(&mut residuals)?;
        self.ends.logits(&Activations::new(&residuals, self.spec.hidden_size), precision)
    }

    /// Attention weights of the heads of a layer from the last position of a sequence: `[heads, positions]`. `residual`,
    /// `[hidden]`, is what entered the layer there, and `state` the sequence after the pass.
    ///
    /// # Errors
    /// If the layer's attention is absent.
    pub fn attention_weights(
        &self,
        layer: usize,
        residual: &[f32],
        state: &dyn SequenceState,
    ) -> Result<Vec<f32>, PassError> {
        let weights = &self.layers[layer];
        let input = normed(&weights.attention_norm, residual);
        let input = Activations::new(&input, self.spec.hidden_size);
        Ok(weights.attention(layer)?.weights_of_last((&self.pool, layer), &input, state))
    }
}
