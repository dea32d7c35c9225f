//! Normalisation with its weights.

use larql_compute::norm;
use larql_models::{NormKind, NormSpec, Role, WeightSource};

use crate::LoadError;

/// A normalisation with its weights.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) spec: NormSpec,
    /// `[width]`
    weight: Vec<f32>,
    /// `[width]` in layer norms, else empty.
    bias: Vec<f32>,
}

impl Norm {
    /// Loads a norm's weight, and its bias where the kind of norm has one.
    pub(crate) fn load(
        source: &dyn WeightSource,
        spec: NormSpec,
        weight: Role,
        bias: Role,
    ) -> Result<Norm, LoadError> {
        let bias = if spec.kind.has_bias() { source.vector(bias)? } else { Vec::new() };
        Ok(Norm::new(spec, source.vector(weight)?, bias))
    }

    /// A norm with stored weights, of which `bias` is empty where none is stored. The kinds of layer norm differ in
    /// what is stored alone, and become one.
    pub(crate) fn new(spec: NormSpec, mut weight: Vec<f32>, mut bias: Vec<f32>) -> Norm {
        if !matches!(spec.kind, NormKind::LayerUnbiased | NormKind::LayerOnePlus) {
            return Norm { spec, weight, bias };
        }
        weight.iter_mut().for_each(|weight| *weight += spec.kind.weight_offset());
        bias.resize(weight.len(), 0.0);
        Norm { spec: NormSpec { kind: NormKind::Layer, ..spec }, weight, bias }
    }

    /// A norm of rows of `width` values that has no weight.
    pub(crate) fn unit(spec: NormSpec, width: usize) -> Norm {
        Norm { spec, weight: vec![1.0; width], bias: Vec::new() }
    }

    /// Number of values that are normed at once.
    fn width(&self) -> usize {
        self.weight.len()
    }

    /// The factors of normed values, `[width]`.
    pub(crate) fn factors(&self) -> Vec<f32> {
        let offset = self.spec.kind.weight_offset();
        self.weight.iter().map(|weight| offset + weight).collect()
    }

    /// Norms each row of `x`, `[rows, width]`, in place.
    pub(crate) fn apply(&self, x: &mut [f32]) {
        match self.spec.kind {
            NormKind::Rms | NormKind::RmsUnit => norm::rms_norm(x, &self.weight, self.spec.epsilon, 0.0),
            NormKind::RmsOnePlus => norm::rms_norm(x, &self.weight, self.spec.epsilon, 1.0),
            NormKind::Layer | NormKind::LayerUnbiased | NormKind::LayerOnePlus => {
                norm::layer_norm(x, &self.weight, &self.bias, self.spec.epsilon);
            }
        }
    }

    /// Turns the gradient of the norm's output into that of its input `x`, in place; both `[rows, width]`.
    pub(crate) fn gradient(&self, x: &[f32], gradient: &mut [f32]) {
        let (weight, epsilon) = (&self.weight, self.spec.epsilon);
        match self.spec.kind {
            NormKind::Rms | NormKind::RmsUnit => norm::rms_norm_gradient(x, weight, epsilon, 0.0, gradient),
            NormKind::RmsOnePlus => norm::rms_norm_gradient(x, weight, epsilon, 1.0, gradient),
            NormKind::Layer | NormKind::LayerUnbiased | NormKind::LayerOnePlus => {
                norm::layer_norm_gradient(x, weight, epsilon, gradient);
            }
        }
    }
}

/// The normalisation of all queries or all keys of a layer.
#[derive(Clone, Debug)]
pub(crate) enum HeadNorms {
    /// One for rows of its width: every head, or the whole projection.
    Shared(Norm),
    /// One for each head.
    Own(Vec<Norm>),
}

impl HeadNorms {
    /// Norms `values`, `[tokens, heads * head_dim]`, in place.
    pub(crate) fn apply(&self, values: &mut [f32]) {
        match self {
            HeadNorms::Shared(norm) => norm.apply(values),
            HeadNorms::Own(norms) => {
                let heads = values.chunks_exact_mut(norms.first().map_or(1, Norm::width));
                heads.zip(norms.iter().cycle()).for_each(|(head, norm)| norm.apply(head));
            }
        }
    }

    /// Turns the gradient of the norms' output into that of their input `x`, in place; both
    /// `[tokens, heads * head_dim]`.
    pub(crate) fn gradient(&self, x: &[f32], gradient: &mut [f32]) {
        match self {
            HeadNorms::Shared(norm) => norm.gradient(x, gradient),
            HeadNorms::Own(norms) => {
                let width = norms.first().map_or(1, Norm::width);
                let heads = x.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
                heads.zip(norms.iter().cycle()).for_each(|((x, gradient), norm)| norm.gradient(x, gradient));
            }
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
