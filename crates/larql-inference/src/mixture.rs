//! A mixture of experts: routing, and the few experts that each token passes.

use larql_compute::router::{ResidualInput, RouterSpec, Routing, Stored, residual_direction};
use larql_compute::vector::axpy;
use larql_compute::{Activations, Pool, Precision, top_k_by_magnitude};

use crate::feed_forward::{Dense, FfnInput};
use crate::model::{Norm, Projection};

/// The weights of one layer's mixture.
#[derive(Clone, Debug)]
pub(crate) struct Mixture {
    pub(crate) router: ExpertRouter,
    pub(crate) experts: Vec<Dense>,
    /// The step that every token passes besides.
    pub(crate) shared: Option<Dense>,
    /// What makes it a branch of its own that reads the residual.
    pub(crate) branch: Option<Branch>,
}

/// Chooses experts.
#[derive(Clone, Debug)]
pub(crate) struct ExpertRouter {
    pub(crate) spec: RouterSpec,
    pub(crate) logits: Projection,
    /// For each expert; empty if there is none.
    pub(crate) correction: Vec<f32>,
    /// For each expert; empty if there is none.
    pub(crate) scale: Vec<f32>,
}

/// The norms of a mixture that reads the residual itself.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    /// The feed-forward norm's weight, `[hidden]`, by which the residual's direction is found from the normed input.
    pub(crate) normed_by: Vec<f32>,
    /// The epsilon of the norm, without weight, of the router's input.
    pub(crate) router_epsilon: f32,
    /// Factors of the router's input, `[hidden]`.
    pub(crate) router_scale: Vec<f32>,
    pub(crate) input_norm: Norm,
    pub(crate) output_norm: Norm,
    pub(crate) shared_output_norm: Norm,
}

impl Mixture {
    /// The experts, then the shared step: the order in which features are numbered.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Dense> {
        self.experts.iter().chain(&self.shared)
    }

    /// As [`Mixture::parts`], to be changed.
    pub(crate) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Dense> {
        self.experts.iter_mut().chain(&mut self.shared)
    }

    /// Returns the factors of each expert's output, `[tokens, experts]`.
    pub(crate) fn expert_weights(&self, pool: &Pool, normed: &Activations<'_>, residual: &[f32]) -> Vec<f32> {
        let router = &self.router;
        let routing = Routing {
            spec: &router.spec,
            matrix: router.logits.weight.view(),
            bias: router.logits.bias.as_deref(),
            stored: Stored { correction: &router.correction, scale: &router.scale },
            residual_input: self
                .branch
                .as_ref()
                .map(|branch| ResidualInput { epsilon: branch.router_epsilon, scale: &branch.router_scale }),
        };
        routing.expert_weights(pool, normed, residual)
    }

    /// Writes the step's output `[tokens, hidden]`. Of the experts' weights only those of chosen ones are read.
    pub(crate) fn forward(&self, pool: &Pool, input: &FfnInput<'_>, precision: Precision, out: &mut [f32]) {
        let hidden = input.normed.width();
        out.fill(0.0);
        let expert_input =
            self.expert_input(input.residual).unwrap_or_else(|| input.normed.values().to_vec());
        for (index, expert) in self.experts.iter().enumerate() {
            let weights = input.expert_weights.chunks_exact(self.experts.len()).map(|weights| weights[index]);
            let tokens: Vec<(usize, f32)> =
                weights.enumerate().filter(|(_, weight)| *weight != 0.0).collect();
            if tokens.is_empty() {
                continue;
            }
            let rows = tokens.iter().flat_map(|(token, _)| &expert_input[token * hidden..][..hidden]);
            let rows: Vec<f32> = rows.copied().collect();
            let mut outputs = vec![0.0; rows.len()];
            expert.forward(pool, &Activations::new(&rows, hidden), precision, &mut outputs);
            for ((token, weight), output) in tokens.iter().zip(outputs.chunks_exact(hidden)) {
                axpy(*weight, output, &mut out[token * hidden..][..hidden]);
            }
        }
        let mut shared_output = vec![0.0; if self.shared.is_some() { out.len() } else { 0 }];
        if let Some(shared) = &self.shared {
            shared.forward(pool, &input.normed, precision, &mut shared_output);
        }
        self.join(out, shared_output);
    }

    /// As [`Mixture::forward`], of the `k` features alone whose gates, times their expert's weight, fire most.
    pub(crate) fn walk(
        &self,
        pool: &Pool,
        input: &FfnInput<'_>,
        precision: Precision,
        k: usize,
        out: &mut [f32],
    ) {
        let hidden = input.normed.width();
        let expert_input =
            self.expert_input(input.residual).unwrap_or_else(|| input.normed.values().to_vec());
        let weights = input.expert_weights.chunks_exact(self.experts.len());
        let tokens = input.normed.values().chunks_exact(hidden).zip(expert_input.chunks_exact(hidden));
        for ((token, weights), out) in tokens.zip(weights).zip(out.chunks_exact_mut(hidden)) {
            self.walk_token(
                pool,
                Token { normed: token.0, expert_input: token.1, weights },
                precision,
                k,
                out,
            );
        }
    }

    fn walk_token(&self, pool: &Pool, token: Token<'_>, precision: Precision, k: usize, out: &mut [f32]) {
        let experts = self.experts.iter().zip(token.weights).filter(|(_, weight)| **weight != 0.0);
        let mut parts: Vec<(&Dense, &[f32], f32)> =
            experts.map(|(expert, weight)| (expert, token.expert_input, *weight)).collect();
        let experts = parts.len();
        parts.extend(self.shared.as_ref().map(|shared| (shared, token.normed, 1.0)));
        let gates: Vec<Vec<f32>> = parts
            .iter()
            .map(|(part, x, _)| part.gates(pool, &Activations::new(x, x.len()), precision))
            .collect();
        let strengths: Vec<f32> = gates
            .iter()
            .zip(&parts)
            .flat_map(|(gates, part)| gates.iter().map(|gate| gate * part.2))
            .collect();
        let mut chosen: Vec<usize> = top_k_by_magnitude(&strengths, k).into_iter().map(|(f, _)| f).collect();
        chosen.sort_unstable();

        out.fill(0.0);
        let mut shared_output = vec![0.0; if self.shared.is_some() { out.len() } else { 0 }];
        let mut first = 0;
        for (index, ((part, x, weight), mut gates)) in parts.into_iter().zip(gates).enumerate() {
            let of_part = chosen.iter().filter(|feature| (first..first + gates.len()).contains(feature));
            let of_part: Vec<usize> = of_part.map(|feature| feature - first).collect();
            first += gates.len();
            part.keep(&of_part, &mut gates, x);
            let mut output = vec![0.0; out.len()];
            part.write_down(pool, gates, precision, &mut output);
            axpy(weight, &output, if index < experts { out } else { &mut shared_output });
        }
        self.join(out, shared_output);
    }

    /// What every feature contributes for normed inputs `[tokens, hidden]`: `act(gate) * up` times its expert's
    /// weight; `[tokens, features]`.
    pub(crate) fn features(&self, pool: &Pool, normed: &Activations<'_>, precision: Precision) -> Vec<f32> {
        let residual = self.residual_direction(normed);
        let weights = self.expert_weights(pool, normed, &residual);
        let expert_input = self.expert_input(&residual).unwrap_or_else(|| normed.values().to_vec());
        let hidden = normed.width();
        let mut features = Vec::new();
        let tokens = normed.values().chunks_exact(hidden).zip(expert_input.chunks_exact(hidden));
        for ((token, x), weights) in tokens.zip(weights.chunks_exact(self.experts.len())) {
            for (expert, weight) in self.experts.iter().zip(weights) {
                if *weight == 0.0 {
                    features.resize(features.len() + expert.feature_count(), 0.0);
                } else {
                    let own = expert.features(pool, &Activations::new(x, hidden), precision);
                    features.extend(own.iter().map(|feature| feature * weight));
                }
            }
            if let Some(shared) = &self.shared {
                features.extend(shared.features(pool, &Activations::new(token, hidden), precision));
            }
        }
        features
    }

    /// The gate rows of every feature times normed inputs `[tokens, hidden]`, with their biases:
    /// `[tokens, features]`.
    pub(crate) fn gate_scores(&self, pool: &Pool, normed: &Activations<'_>) -> Vec<f32> {
        let hidden = normed.width();
        let direction = self.residual_direction(normed);
        let expert_input = self.expert_input(&direction).unwrap_or_else(|| normed.values().to_vec());
        let tokens = normed.values().chunks_exact(hidden).zip(expert_input.chunks_exact(hidden));
        let of_token = |(token, x): (&[f32], &[f32])| -> Vec<f32> {
            let score =
                |part: &Dense, x| part.gate_scores(pool, &Activations::new(x, hidden), Precision::Exact);
            let experts = self.experts.iter().flat_map(|expert| score(expert, x));
            experts.chain(self.shared.iter().flat_map(|shared| score(shared, token))).collect()
        };
        tokens.flat_map(of_token).collect()
    }

    /// What experts read, `[tokens, hidden]`, where it is not the feed-forward input.
    fn expert_input(&self, residual: &[f32]) -> Option<Vec<f32>> {
        self.branch.as_ref().map(|branch| {
            let mut input = residual.to_vec();
            branch.input_norm.apply(&mut input);
            input
        })
    }

    /// Returns the residual that a feed-forward input comes from, up to its length. Only a mixture that reads the residual
    /// needs it; for others it is the input.
    fn residual_direction(&self, normed: &Activations<'_>) -> Vec<f32> {
        match &self.branch {
            Some(branch) => residual_direction(normed.values(), &branch.normed_by),
            None => normed.values().to_vec(),
        }
    }

    /// Adds what the shared step gives to the experts' sum.
    fn join(&self, out: &mut [f32], mut shared_output: Vec<f32>) {
        if let Some(branch) = &self.branch {
            branch.output_norm.apply(out);
            branch.shared_output_norm.apply(&mut shared_output);
        }
        if !shared_output.is_empty() {
            axpy(1.0, &shared_output, out);
        }
    }
}

/// One token of a walk.
struct Token<'a> {
    /// What the shared step reads, `[hidden]`.
    normed: &'a [f32],
    /// What experts read, `[hidden]`.
    expert_input: &'a [f32],
    /// What each expert's output is multiplied by, `[experts]`.
    weights: &'a [f32],
}
