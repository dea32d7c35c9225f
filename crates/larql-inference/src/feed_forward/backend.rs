//! The feed-forward step of a pass as a plug.

use larql_compute::{Activations, Precision};

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
    /// Precision of activations in products.
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
    /// `[rows, features]`. A pass calls this and [`FfnBackend::write_features`] in place of [`FfnBackend::forward`] where
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
