//! Back ends that compute the feed-forward step from a model's own weights: with all features, or with the strongest.

use std::sync::Arc;

use larql_compute::Pool;

use crate::feed_forward::{FeedForward, FfnBackend, FfnInput};
use crate::layer::Layer;
use crate::{BackendError, Model};

/// Back end with every feature of a model, as it was trained.
#[derive(Clone, Debug)]
pub struct DenseFfn {
    pool: Arc<Pool>,
    layers: Arc<[Arc<Layer>]>,
}

impl Model {
    /// Its own feed-forward step: every feature of every layer.
    pub fn dense_ffn(&self) -> DenseFfn {
        DenseFfn { pool: Arc::clone(&self.pool), layers: Arc::clone(&self.layers) }
    }

    /// Its feed-forward step as retrieval of the `k` strongest features a layer.
    pub fn walk_ffn(&self, k: usize) -> WalkFfn {
        WalkFfn { dense: self.dense_ffn(), k }
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
