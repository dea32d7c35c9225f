//! Searching the features of a mixture of experts: which experts an input is routed to, and what their features
//! contribute.

use larql_compute::router::Stored;
use larql_compute::{Activations, Pool, Precision, matmul, norm};
use larql_models::{LayerRole, MixtureSpec, Role, WeightSource};

use crate::features::StepRoles;
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
    /// What each expert's output is multiplied by for inputs `[n, hidden]`, 0 for experts that are not chosen:
    /// `[n, experts]`.
    pub(crate) fn expert_weights(
        &self,
        pool: &Pool,
        inputs: &Activations<'_>,
    ) -> Result<Vec<f32>, VindexError> {
        let hidden = inputs.width();
        let router = self.vindex.matrix(self.role(LayerRole::Router))?;
        let mut logits = vec![0.0; inputs.batch() * router.rows()];
        match &self.spec.branch {
            None => matmul(pool, router.view(), inputs, Precision::Exact, &mut logits),
            Some(branch) => {
                let mut own = self.residual_direction(inputs)?;
                norm::rms_norm(&mut own, &vec![1.0; hidden], branch.router_norm.epsilon, 0.0);
                let scale = self.vector(LayerRole::RouterInputScale)?;
                let root = (hidden as f32).sqrt();
                for input in own.chunks_exact_mut(hidden) {
                    input.iter_mut().zip(&scale).for_each(|(x, scale)| *x *= scale / root);
                }
                matmul(pool, router.view(), &Activations::new(&own, hidden), Precision::Exact, &mut logits);
            }
        }
        if self.spec.router_bias {
            add_to_rows(&mut logits, &self.vector(LayerRole::RouterBias)?);
        }
        let stored = |held: bool, role| if held { self.vector(role) } else { Ok(Vec::new()) };
        let correction = stored(self.spec.score_correction, LayerRole::RouterCorrection)?;
        let scale = stored(self.spec.branch.is_some(), LayerRole::ExpertScale)?;
        let mut weights = vec![0.0; logits.len()];
        let experts = self.spec.experts;
        for (weights, logits) in weights.chunks_exact_mut(experts).zip(logits.chunks_exact(experts)) {
            self.spec.router.route(logits, Stored { correction: &correction, scale: &scale }, weights);
        }
        Ok(weights)
    }

    /// What each feature's activation is multiplied by for one input: its expert's weight, 1 in the step that every
    /// token passes.
    pub(crate) fn feature_weights(&self, pool: &Pool, input: &[f32]) -> Result<Vec<f32>, VindexError> {
        let of_experts = self.expert_weights(pool, &Activations::new(input, input.len()))?;
        let repeated = of_experts.iter().flat_map(|weight| std::iter::repeat_n(*weight, self.spec.features));
        Ok(repeated.chain(std::iter::repeat_n(1.0, self.spec.shared_features.unwrap_or(0))).collect())
    }

    /// What every feature contributes for inputs `[n, hidden]`: `act(gate) * up` times its expert's weight; `out` is
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
                    let roles = StepRoles::of_expert(expert, self.spec.bias);
                    self.step(pool, roles, &input, out)?;
                    out.iter_mut().for_each(|activation| *activation *= weights[expert]);
                }
            }
            if !shared.is_empty() {
                self.step(
                    pool,
                    StepRoles::dense(false),
                    &Activations::new(&inputs.values()[row], hidden),
                    shared,
                )?;
            }
        }
        Ok(())
    }

    /// What the experts read, `[n, hidden]`, where it is not what the shared step reads.
    pub(crate) fn expert_inputs(&self, inputs: &Activations<'_>) -> Result<Option<Vec<f32>>, VindexError> {
        let Some(branch) = &self.spec.branch else { return Ok(None) };
        let mut own = self.residual_direction(inputs)?;
        let weight = self.vector(LayerRole::ExpertInputNorm)?;
        norm::rms_norm(&mut own, &weight, branch.input_norm.epsilon, 0.0);
        Ok(Some(own))
    }

    /// `act(gate) * up` of one step for one input.
    fn step(
        &self,
        pool: &Pool,
        roles: StepRoles,
        input: &Activations<'_>,
        out: &mut [f32],
    ) -> Result<(), VindexError> {
        let project = |[matrix, bias]: [LayerRole; 2], out: &mut [f32]| -> Result<(), VindexError> {
            let rows = self.vindex.matrix(self.role(matrix))?;
            matmul(pool, rows.view(), input, Precision::Exact, out);
            if roles.bias {
                add_to_rows(out, &self.vector(bias)?);
            }
            Ok(())
        };
        let mut up = vec![0.0; out.len()];
        project(roles.up, &mut up)?;
        project(roles.gate, out)?;
        self.spec.activation.apply(out);
        self.spec.activation.multiply(out, &up);
        Ok(())
    }

    /// The residual that an input comes from, up to its length, which no norm lets through. Where the norm's weight is
    /// 0 nothing is left of it.
    fn residual_direction(&self, inputs: &Activations<'_>) -> Result<Vec<f32>, VindexError> {
        let weight = self.vector(LayerRole::FeedForwardNorm)?;
        let mut direction = inputs.values().to_vec();
        for input in direction.chunks_exact_mut(inputs.width()) {
            for (x, weight) in input.iter_mut().zip(&weight) {
                *x = if *weight == 0.0 { 0.0 } else { *x / weight };
            }
        }
        Ok(direction)
    }

    fn role(&self, role: LayerRole) -> Role {
        Role::Layer(self.layer, role)
    }

    fn vector(&self, role: LayerRole) -> Result<Vec<f32>, VindexError> {
        Ok(self.vindex.vector(self.role(role))?)
    }
}

/// Adds `bias` to each row of `rows`, `[n, bias.len()]`.
pub(crate) fn add_to_rows(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}
