//! Search in a mixture of experts: the experts that an input is routed to, and the activations of their
//! features.

use larql_compute::router::{ResidualInput, Routing, Stored, residual_direction};
use larql_compute::vector::dot;
use larql_compute::{Activations, Pool, activation, norm};
use larql_models::{LayerRole, MixtureSpec, Role, StepRoles, WeightSource};

use crate::{Vindex, VindexError};

/// A mixture of an open vindex, for inputs that its feed-forward norm has prepared.
pub(crate) struct LayerMixture<'a> {
    vindex: &'a Vindex,
    layer: usize,
    spec: &'a MixtureSpec,
}

impl Vindex {
    /// The mixture of a layer, if it has one.
    pub(crate) fn mixture(&self, layer: usize) -> Option<LayerMixture<'_>> {
        let spec = self.spec().layers[layer].feed_forward.mixture()?;
        Some(LayerMixture { vindex: self, layer, spec })
    }
}

impl LayerMixture<'_> {
    /// Returns the factors of each expert's output for inputs `[n, hidden]`, 0 for experts that are not chosen:
    /// `[n, experts]`.
    pub(crate) fn expert_weights(
        &self,
        pool: &Pool,
        inputs: &Activations<'_>,
    ) -> Result<Vec<f32>, VindexError> {
        let stored = |held: bool, role| if held { self.vector(role) } else { Ok(Vec::new()) };
        let matrix = self.vindex.matrix(self.role(LayerRole::Router))?;
        let residual = self.residual_direction(inputs)?;
        let input_scale = stored(residual.is_some(), LayerRole::RouterInputScale)?;
        let bias = stored(self.spec.router_bias, LayerRole::RouterBias)?;
        let correction = stored(self.spec.score_correction, LayerRole::RouterCorrection)?;
        let scale = stored(residual.is_some(), LayerRole::ExpertScale)?;
        let routing = Routing {
            spec: &self.spec.router,
            matrix: matrix.view(),
            bias: self.spec.router_bias.then_some(&bias),
            stored: Stored { correction: &correction, scale: &scale },
            residual_input: self
                .spec
                .branch
                .map(|branch| ResidualInput { epsilon: branch.router_norm.epsilon, scale: &input_scale }),
        };
        Ok(routing.expert_weights(pool, inputs, residual.as_deref().unwrap_or_default()))
    }

    /// Factors of the features' activations for one input: its expert's weight, and the factor of the step that every
    /// token passes.
    pub(crate) fn feature_weights(&self, pool: &Pool, input: &[f32]) -> Result<Vec<f32>, VindexError> {
        let of_experts = self.expert_weights(pool, &Activations::new(input, input.len()))?;
        let repeated = of_experts.iter().flat_map(|weight| std::iter::repeat_n(*weight, self.spec.features));
        let shared = self.shared_factor(input)?;
        Ok(repeated.chain(std::iter::repeat_n(shared, self.spec.shared_features.unwrap_or(0))).collect())
    }

    /// The factor of the shared step's output for one input: 1 where it is not gated.
    fn shared_factor(&self, input: &[f32]) -> Result<f32, VindexError> {
        match self.spec.shared_gate {
            true => Ok(activation::sigmoid(dot(&self.vector(LayerRole::SharedGate)?, input))),
            false => Ok(1.0),
        }
    }

    /// Weighted activations for inputs `[n, hidden]`: `act(gate) * up` times the factor of its step; `out` is
    /// `[n, features]`. Of experts that are not chosen nothing is read.
    pub(crate) fn activations(
        &self,
        pool: &Pool,
        inputs: &Activations<'_>,
        out: &mut [f32],
    ) -> Result<(), VindexError> {
        let (hidden, features) = (inputs.width(), self.spec.all_features());
        let weights = self.expert_weights(pool, inputs)?;
        let own = self.expert_inputs(inputs)?;
        out.fill(0.0);
        for (n, out) in out.chunks_exact_mut(features).enumerate() {
            let row = n * hidden..(n + 1) * hidden;
            let (experts, shared) = out.split_at_mut(self.spec.experts * self.spec.features);
            let input = Activations::new(&own.as_deref().unwrap_or(inputs.values())[row.clone()], hidden);
            let weights = &weights[n * self.spec.experts..][..self.spec.experts];
            for (expert, out) in experts.chunks_exact_mut(self.spec.features).enumerate() {
                if weights[expert] != 0.0 {
                    self.step(pool, StepRoles::of_expert(expert, self.spec.bias), &input, out)?;
                    out.iter_mut().for_each(|activation| *activation *= weights[expert]);
                }
            }
            if !shared.is_empty() {
                let input = &inputs.values()[row];
                self.step(pool, StepRoles::of_shared(), &Activations::new(input, hidden), shared)?;
                let factor = self.shared_factor(input)?;
                shared.iter_mut().for_each(|activation| *activation *= factor);
            }
        }
        Ok(())
    }

    /// Input of the experts, `[n, hidden]`, where it differs from that of the shared step.
    pub(crate) fn expert_inputs(&self, inputs: &Activations<'_>) -> Result<Option<Vec<f32>>, VindexError> {
        let (Some(branch), Some(mut own)) = (self.spec.branch, self.residual_direction(inputs)?) else {
            return Ok(None);
        };
        let weight = self.vector(LayerRole::ExpertInputNorm)?;
        norm::rms_norm(&mut own, &weight, branch.input_norm.epsilon, 0.0);
        Ok(Some(own))
    }

    fn step(
        &self,
        pool: &Pool,
        step: StepRoles,
        input: &Activations<'_>,
        out: &mut [f32],
    ) -> Result<(), VindexError> {
        self.vindex.step_activations(pool, self.layer, step, self.spec.activation, input, out)
    }

    /// Returns the residuals that inputs come from, up to their length, in a mixture that reads residuals.
    fn residual_direction(&self, inputs: &Activations<'_>) -> Result<Option<Vec<f32>>, VindexError> {
        if self.spec.branch.is_none() {
            return Ok(None);
        }
        let factors = self.vector(LayerRole::FeedForwardNorm)?;
        Ok(Some(residual_direction(inputs.values(), &factors)))
    }

    fn role(&self, role: LayerRole) -> Role {
        Role::Layer(self.layer, role)
    }

    fn vector(&self, role: LayerRole) -> Result<Vec<f32>, VindexError> {
        Ok(self.vindex.vector(self.role(role))?)
    }
}
