//! Back ends that compute the feed-forward step of a pass.

use std::sync::Arc;

use larql_compute::{Activations, Pool, Precision};

use super::FeedForward;
use crate::layer::Layer;
use crate::{BackendError, Rows};

/// Input of a feed-forward step, for each row of a pass.
#[derive(Debug)]
pub struct FfnInput<'a> {
    /// The residual after the feed-forward norm, `[rows, hidden]`.
    pub normed: Activations<'a>,
    /// The residual itself, `[rows, hidden]`, which the experts of some mixtures read.
    pub residual: &'a [f32],
    /// In a mixture, the factor of each expert's output, `[rows, experts]`: 0 for experts that are not chosen. Empty in
    /// other layers.
    pub expert_weights: &'a [f32],
    /// The sequence and position of each row.
    pub rows: &'a Rows,
    /// How products treat activations.
    pub precision: Precision,
}

/// Computes the feed-forward step of any layer. Attention does not care which back end it is, or where it runs.
pub trait FfnBackend: Send + Sync {
    /// Writes the step's output, `[rows, hidden]`.
    ///
    /// # Errors
    /// If the step cannot be computed, for instance because its weights are elsewhere and out of reach.
    fn forward(&self, layer: usize, input: &FfnInput<'_>, out: &mut [f32]) -> Result<(), BackendError>;

    /// Returns what every feature contributes, `act(gate) * up`, in a mixture times the weight of its expert:
    /// `[rows, features]`. A pass calls this and [`FfnBackend::write_features`] in the place of [`FfnBackend::forward`] where
    /// a hook asks for the activations of features.
    ///
    /// # Errors
    /// As [`FfnBackend::forward`], or if this back end cannot show features.
    fn features(&self, layer: usize, input: &FfnInput<'_>) -> Result<Vec<f32>, BackendError> {
        let _ = (layer, input);
        Err(BackendError::Unsupported { operation: "showing the activations of features" })
    }

    /// Writes the output, `[rows, hidden]`, of features as [`FfnBackend::features`] returns them.
    ///
    /// # Errors
    /// As [`FfnBackend::features`].
    fn write_features(
        &self,
        layer: usize,
        input: &FfnInput<'_>,
        features: Vec<f32>,
        out: &mut [f32],
    ) -> Result<(), BackendError> {
        let _ = (layer, input, features, out);
        Err(BackendError::Unsupported { operation: "changing the activations of features" })
    }
}

/// Back end with every feature of a model, as it was trained.
#[derive(Clone, Debug)]
pub struct DenseFfn {
    pool: Arc<Pool>,
    layers: Arc<[Arc<Layer>]>,
}

impl DenseFfn {
    pub(crate) fn new(pool: Arc<Pool>, layers: Arc<[Arc<Layer>]>) -> DenseFfn {
        DenseFfn { pool, layers }
    }
}

impl FfnBackend for DenseFfn {
    fn forward(&self, layer: usize, input: &FfnInput<'_>, out: &mut [f32]) -> Result<(), BackendError> {
        match &self.layers[layer].feed_forward {
            FeedForward::Dense(dense) => dense.forward(&self.pool, &input.normed, input.precision, out),
            FeedForward::Mixture(mixture) => mixture.forward(&self.pool, input, out),
            FeedForward::Absent => return Err(absent(layer)),
        }
        Ok(())
    }

    fn features(&self, layer: usize, input: &FfnInput<'_>) -> Result<Vec<f32>, BackendError> {
        match &self.layers[layer].feed_forward {
            FeedForward::Dense(dense) => Ok(dense.features(&self.pool, &input.normed, input.precision)),
            FeedForward::Mixture(mixture) => Ok(mixture.features(&self.pool, input)),
            FeedForward::Absent => Err(absent(layer)),
        }
    }

    fn write_features(
        &self,
        layer: usize,
        input: &FfnInput<'_>,
        features: Vec<f32>,
        out: &mut [f32],
    ) -> Result<(), BackendError> {
        match &self.layers[layer].feed_forward {
            FeedForward::Dense(dense) => {
                dense.write_down(&self.pool, &input.normed, features, input.precision, out);
            }
            FeedForward::Mixture(mixture) => mixture.write_features(&self.pool, input, &features, out),
            FeedForward::Absent => return Err(absent(layer)),
        }
        Ok(())
    }
}

/// Back end with the `k` features of each layer whose gates fire most, and nothing else; in a mixture, of the experts
/// that the token passes. With `k` at least the number of features this is the dense step.
#[derive(Clone, Debug)]
pub struct WalkFfn {
    dense: DenseFfn,
    k: usize,
}

impl WalkFfn {
    pub(crate) fn new(dense: DenseFfn, k: usize) -> WalkFfn {
        WalkFfn { dense, k }
    }

    /// The weights of a layer, unless all of its features are kept.
    fn sparse(&self, layer: usize) -> Option<&FeedForward> {
        let weights = &self.dense.layers[layer].feed_forward;
        (self.k < weights.feature_count()).then_some(weights)
    }
}

impl FfnBackend for WalkFfn {
    fn forward(&self, layer: usize, input: &FfnInput<'_>, out: &mut [f32]) -> Result<(), BackendError> {
        match self.sparse(layer) {
            Some(FeedForward::Mixture(mixture)) => mixture.walk(&self.dense.pool, input, self.k, out),
            Some(FeedForward::Dense(_)) => {
                let features = self.features(layer, input)?;
                self.write_features(layer, input, features, out)?;
            }
            _ => self.dense.forward(layer, input, out)?,
        }
        Ok(())
    }

    fn features(&self, layer: usize, input: &FfnInput<'_>) -> Result<Vec<f32>, BackendError> {
        let pool = &self.dense.pool;
        match self.sparse(layer) {
            Some(FeedForward::Mixture(mixture)) => Ok(mixture.strongest_features(pool, input, self.k)),
            Some(FeedForward::Dense(dense)) => {
                Ok(dense.strongest_features(pool, &input.normed, input.precision, self.k))
            }
            _ => self.dense.features(layer, input),
        }
    }

    fn write_features(
        &self,
        layer: usize,
        input: &FfnInput<'_>,
        features: Vec<f32>,
        out: &mut [f32],
    ) -> Result<(), BackendError> {
        self.dense.write_features(layer, input, features, out)
    }
}

fn absent(layer: usize) -> BackendError {
    BackendError::Absent { part: "the feed-forward step", layer: Some(layer) }
}
