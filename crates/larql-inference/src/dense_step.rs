//! The dense feed-forward step of one layer, as knowledge editing reads it.

use larql_compute::{Activations, Pool, Precision};
use larql_models::Activation;

use crate::feed_forward::{Dense, FeedForward};
use crate::{BackendError, GradientError, Model};

/// Dense feed-forward step of one layer.
#[derive(Clone, Copy, Debug)]
pub struct DenseStep<'a> {
    dense: &'a Dense,
    pool: &'a Pool,
}

impl Model {
    /// Returns the feed-forward step of a layer.
    ///
    /// # Errors
    /// [`GradientError::NotDifferentiable`] if the layer is a mixture of experts.
    pub fn dense_step(&self, layer: usize) -> Result<DenseStep<'_>, GradientError> {
        match &self.layers[layer].feed_forward {
            FeedForward::Dense(dense) => Ok(DenseStep { dense, pool: &self.pool }),
            FeedForward::Mixture(_) => {
                Err(GradientError::NotDifferentiable { layer, part: "a mixture of experts" })
            }
            FeedForward::Absent => {
                Err(BackendError::Absent { part: "the feed-forward step", layer: Some(layer) }.into())
            }
        }
    }
}

impl DenseStep<'_> {
    /// Number of features.
    pub fn feature_count(&self) -> usize {
        self.dense.feature_count()
    }

    /// Non-linearity of the gates.
    pub fn activation(&self) -> Activation {
        self.dense.activation
    }

    /// Reports if features have an up row beside their gate row.
    pub fn is_gated(&self) -> bool {
        self.dense.up.is_some()
    }

    /// Biases of a feature's gate row and up row, which edits leave as they are; 0 where there are none.
    pub fn biases(&self, feature: usize) -> [f32; 2] {
        let bias = |bias: &Option<Vec<f32>>| bias.as_ref().map_or(0.0, |bias| bias[feature]);
        [bias(&self.dense.gate.bias), self.dense.up.as_ref().map_or(0.0, |up| bias(&up.bias))]
    }

    /// Decodes the down vector of a feature into `out`, `[hidden]`.
    pub fn down_vector(&self, feature: usize, out: &mut [f32]) {
        self.dense.down_vector(feature, out);
    }

    /// Norms of the down vectors before edits, `[features]`.
    pub fn down_norms(&self) -> Vec<f32> {
        let down = self.dense.down.weight.view();
        let features = self.feature_count();
        let (mut row, mut squares) = (vec![0.0; features], vec![0.0; features]);
        for r in 0..down.rows() {
            down.decode_row(r, &mut row);
            squares.iter_mut().zip(&row).for_each(|(square, w)| *square += w * w);
        }
        squares.into_iter().map(f32::sqrt).collect()
    }

    /// Output of the step before its norm for inputs `[tokens, hidden]`, in exact precision: `[tokens, hidden]`.
    pub fn forward(&self, inputs: &[f32]) -> Vec<f32> {
        let mut output = vec![0.0; inputs.len()];
        let activations = Activations::new(inputs, self.dense.gate.weight.cols());
        self.dense.forward(self.pool, &activations, Precision::Exact, &mut output);
        output
    }
}
