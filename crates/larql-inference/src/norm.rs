//! Normalisation with its weights.

use larql_compute::norm;
use larql_models::{NormKind, NormSpec, Role, WeightSource};

use crate::LoadError;

/// A normalisation with its weights.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) spec: NormSpec,
    /// `[width]`
    pub(crate) weight: Vec<f32>,
    /// `[width]`; empty where the kind of norm has none.
    pub(crate) bias: Vec<f32>,
}

impl Norm {
    /// Loads a norm's weight, and its bias where the kind of norm has one.
    pub(crate) fn load(
        source: &dyn WeightSource,
        spec: NormSpec,
        weight: Role,
        bias: Role,
    ) -> Result<Norm, LoadError> {
        let bias = if spec.kind == NormKind::Layer { source.vector(bias)? } else { Vec::new() };
        Ok(Norm { spec, weight: source.vector(weight)?, bias })
    }

    /// A norm of rows of `width` values that has no weight.
    pub(crate) fn unit(spec: NormSpec, width: usize) -> Norm {
        Norm { spec, weight: vec![1.0; width], bias: Vec::new() }
    }

    /// The factors of normed values, `[width]`.
    pub(crate) fn factors(&self) -> Vec<f32> {
        let offset = if self.spec.kind == NormKind::RmsOnePlus { 1.0 } else { 0.0 };
        self.weight.iter().map(|weight| offset + weight).collect()
    }

    /// Norms each row of `x`, `[rows, width]`, in place.
    pub(crate) fn apply(&self, x: &mut [f32]) {
        match self.spec.kind {
            NormKind::Rms | NormKind::RmsUnit => norm::rms_norm(x, &self.weight, self.spec.epsilon, 0.0),
            NormKind::RmsOnePlus => norm::rms_norm(x, &self.weight, self.spec.epsilon, 1.0),
            NormKind::Layer => norm::layer_norm(x, &self.weight, &self.bias, self.spec.epsilon),
        }
    }

    /// Turns the gradient of the norm's output into that of its input `x`, in place; both `[rows, width]`.
    pub(crate) fn gradient(&self, x: &[f32], gradient: &mut [f32]) {
        let (weight, epsilon) = (&self.weight, self.spec.epsilon);
        match self.spec.kind {
            NormKind::Rms | NormKind::RmsUnit => norm::rms_norm_gradient(x, weight, epsilon, 0.0, gradient),
            NormKind::RmsOnePlus => norm::rms_norm_gradient(x, weight, epsilon, 1.0, gradient),
            NormKind::Layer => norm::layer_norm_gradient(x, weight, epsilon, gradient),
        }
    }
}

/// Applies a norm where there is one.
pub(crate) fn apply(norm: &Option<Norm>, values: &mut [f32]) {
    if let Some(norm) = norm {
        norm.apply(values);
    }
}

/// A copy of `values`, normed where there is a norm.
pub(crate) fn normed(norm: &Option<Norm>, values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    apply(norm, &mut values);
    values
}
