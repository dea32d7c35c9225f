//! The non-linearity of a feed-forward step.

use larql_compute::activation;
use serde::{Deserialize, Serialize};

/// Non-linearity of a feed-forward branch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// `x * Phi(x)`, exact, through the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// The square of positive values, 0 for others (arXiv 2109.08668).
    ReluSquared,
    /// `g * sigmoid(slope * g)` of the gate `g`, at most `limit`, times one more than the up projection, which is
    /// kept between `-limit` and `limit` (GPT-OSS, arXiv 2508.10925).
    ClampedSwiglu {
        /// Bound of both.
        limit: f32,
        /// Factor of the gate inside the sigmoid.
        slope: f32,
    },
}

impl Activation {
    /// Applies the non-linearity to gates, in place. Each kind has its own loop, so that the function is inlined
    /// and vectorised.
    pub fn apply(self, gates: &mut [f32]) {
        match self {
            Activation::Silu => gates.iter_mut().for_each(|g| *g = activation::silu(*g)),
            Activation::Gelu => gates.iter_mut().for_each(|g| *g = activation::gelu(*g)),
            Activation::GeluTanh => gates.iter_mut().for_each(|g| *g = activation::gelu_tanh(*g)),
            Activation::ReluSquared => gates.iter_mut().for_each(|g| *g = activation::relu_squared(*g)),
            Activation::ClampedSwiglu { limit, slope } => gates.iter_mut().for_each(|g| {
                let gate = g.min(limit);
                *g = gate * activation::sigmoid(slope * gate);
            }),
        }
    }

    /// The derivative of what [`Activation::apply`] makes of `gate`.
    pub fn derivative(self, gate: f32) -> f32 {
        match self {
            Activation::Silu => activation::silu_derivative(gate, 1.0),
            Activation::Gelu => activation::gelu_derivative(gate),
            Activation::GeluTanh => activation::gelu_tanh_derivative(gate),
            Activation::ReluSquared => activation::relu_squared_derivative(gate),
            Activation::ClampedSwiglu { limit, .. } if gate > limit => 0.0,
            Activation::ClampedSwiglu { slope, .. } => activation::silu_derivative(gate, slope),
        }
    }

    /// The derivative of [`Activation::factor`].
    pub fn factor_derivative(self, up: f32) -> f32 {
        match self {
            Activation::ClampedSwiglu { limit, .. } if up.abs() > limit => 0.0,
            _ => 1.0,
        }
    }

    /// Factor of the activated gate, from an up projection's value.
    pub fn factor(self, up: f32) -> f32 {
        match self {
            Activation::ClampedSwiglu { limit, .. } => up.clamp(-limit, limit) + 1.0,
            _ => up,
        }
    }

    /// Multiplies activated gates by what belongs to their up projections.
    ///
    /// # Panics
    /// If there are not as many of them.
    pub fn multiply(self, activated: &mut [f32], up: &[f32]) {
        assert_eq!(activated.len(), up.len(), "gates and up projections differ in number");
        activated.iter_mut().zip(up).for_each(|(gate, up)| *gate *= self.factor(*up));
    }

    /// An unsupported setting, if there is one.
    pub(crate) fn problem(self) -> Option<String> {
        match self {
            Activation::ClampedSwiglu { limit, .. } if limit.is_nan() || limit < 0.0 => {
                Some(format!("the activation is clamped at {limit}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamps_bound_the_gate_above_and_the_up_projection_on_both_sides() {
        let activation = Activation::ClampedSwiglu { limit: 2.0, slope: 1.702 };
        let mut gates = [5.0, -5.0, 1.0];
        activation.apply(&mut gates);
        activation.multiply(&mut gates, &[9.0, -9.0, 0.5]);
        let swish = |x: f64| x / (1.0 + (-1.702 * x).exp());
        for (found, expected) in gates.iter().zip([swish(2.0) * 3.0, -swish(-5.0), swish(1.0) * 1.5]) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }
}
