//! A mixture of experts: routing, and the few experts that each token passes.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use larql_compute::router::{ResidualInput, RouterSpec, Routing, Stored, residual_direction};
use larql_compute::vector::{axpy, dot};
use larql_compute::{Activations, Pool, Precision, activation, top_k_by_magnitude};

use super::dense::{features_of_each, write_down_each};
use super::{Dense, FfnInput};
use crate::batch::{Batching, Rows};
use crate::norm::Norm;
use crate::projection::{Projection, add};

/// The weights of one layer's mixture.
#[derive(Clone, Debug)]
pub(crate) struct Mixture {
    pub(crate) router: Arc<ExpertRouter>,
    pub(crate) experts: Vec<Dense>,
    /// The step that every token passes besides.
    pub(crate) shared: Option<Dense>,
    /// From its input to the logit of the factor of its output, `[hidden]`, where there is one.
    pub(crate) shared_gate: Option<Vec<f32>>,
    /// Norms of a mixture that is a branch of its own and reads the residual.
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
    /// Input of the router, where that is not the feed-forward input.
    pub(crate) input: Option<RouterInput>,
}

/// Input of a router that reads the residual itself.
#[derive(Clone, Debug)]
pub(crate) struct RouterInput {
    pub(crate) norm: Norm,
    /// The factors of the normed residual, `[hidden]`.
    pub(crate) scale: Vec<f32>,
}

/// The norms of a mixture that reads the residual itself.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    /// The feed-forward norm's weight, `[hidden]`, by which the residual's direction is found from the normed input.
    pub(crate) normed_by: Vec<f32>,
    pub(crate) input_norm: Norm,
    pub(crate) output_norm: Norm,
    pub(crate) shared_output_norm: Norm,
}

impl ExpertRouter {
    /// Returns the factor of each expert's output, `[tokens, experts]`, for feed-forward inputs and residuals, both
    /// `[tokens, hidden]`. The logits are exact whatever the pass is: another expert is another answer.
    pub(crate) fn weights(&self, pool: &Pool, normed: &Activations<'_>, residual: &[f32]) -> Vec<f32> {
        let routing = Routing {
            spec: &self.spec,
            matrix: self.logits.weight.view(),
            bias: self.logits.bias.as_deref(),
            stored: Stored { correction: &self.correction, scale: &self.scale },
            residual_input: self
                .input
                .as_ref()
                .map(|input| ResidualInput { epsilon: input.norm.spec.epsilon, scale: &input.scale }),
        };
        routing.expert_weights(pool, normed, residual)
    }
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

    /// Writes the step's output `[tokens, hidden]`. Of the experts' weights only those of chosen ones are read, all of them in
    /// two jobs of the threads.
    pub(crate) fn forward(&self, pool: &Pool, input: &FfnInput<'_>, out: &mut [f32]) {
        let (hidden, precision) = (input.normed.width(), input.precision);
        let own_input = self.expert_input(input.residual);
        let expert_input = own_input.as_deref().unwrap_or(input.normed.values());
        let chosen = self.chosen(input.expert_weights);
        chosen.iter().for_each(|chosen| self.experts[chosen.expert].prefetch());
        let rows = chosen.iter().map(|Chosen { tokens, .. }| {
            let rows = tokens.iter().flat_map(|(token, _)| &expert_input[token * hidden..][..hidden]);
            rows.copied().collect()
        });
        let rows: Vec<Vec<f32>> = rows.collect();
        let inputs = chosen.iter().zip(&rows).map(|(Chosen { tokens, .. }, rows)| {
            input.normed.with_values_of_rows(tokens.iter().map(|(token, _)| *token), rows, hidden)
        });
        let inputs: Vec<Activations<'_>> = inputs.collect();
        let experts = chosen.iter().map(|Chosen { expert, .. }| &self.experts[*expert]).zip(&inputs);
        let shared = self.shared.iter().map(|shared| (shared, &input.normed));
        let steps: Vec<(&Dense, &Activations<'_>)> = experts.chain(shared).collect();

        let mut outputs: Vec<Vec<f32>> =
            steps.iter().map(|(_, input)| vec![0.0; input.batch() * hidden]).collect();
        let features = features_of_each(pool, &steps, precision);
        write_down_each(
            pool,
            &steps,
            features,
            precision,
            outputs.iter_mut().map(Vec::as_mut_slice).collect(),
        );

        let mut shared_output = self.shared.iter().flat_map(|_| outputs.pop()).next().unwrap_or_default();
        let tokens = shared_output.chunks_exact_mut(hidden).zip(input.normed.values().chunks_exact(hidden));
        tokens.for_each(|(output, token)| self.gate_shared(token, output));
        out.fill(0.0);
        // Summed up in the order of the experts, whatever order they were multiplied in.
        let mut experts: Vec<(&Chosen, Vec<f32>)> = chosen.iter().zip(outputs).collect();
        experts.sort_by_key(|(chosen, _)| chosen.expert);
        for (Chosen { tokens, .. }, outputs) in experts {
            for ((token, weight), output) in tokens.iter().zip(outputs.chunks_exact(hidden)) {
                axpy(*weight, output, &mut out[token * hidden..][..hidden]);
            }
        }
        self.join(out, shared_output);
    }

    /// The experts that tokens pass, those with the most tokens first, as what takes longest has to begin first for all
    /// threads to end together.
    fn chosen(&self, weights: &[f32]) -> Vec<Chosen> {
        let mut chosen: Vec<Chosen> =
            (0..self.experts.len()).map(|expert| Chosen { expert, tokens: Vec::new() }).collect();
        for (token, weights) in weights.chunks_exact(self.experts.len()).enumerate() {
            for (chosen, weight) in chosen.iter_mut().zip(weights) {
                if *weight != 0.0 {
                    chosen.tokens.push((token, *weight));
                }
            }
        }
        chosen.retain(|chosen| !chosen.tokens.is_empty());
        chosen.sort_by_key(|chosen| Reverse(chosen.tokens.len()));
        chosen
    }

    /// As [`Mixture::forward`], of the `k` features alone whose gates, times their expert's weight, fire most.
    pub(crate) fn walk(&self, pool: &Pool, input: &FfnInput<'_>, k: usize, out: &mut [f32]) {
        let hidden = input.normed.width();
        for (token, out) in self.tokens(input).zip(out.chunks_exact_mut(hidden)) {
            out.fill(0.0);
            let mut shared_output = vec![0.0; if self.shared.is_some() { out.len() } else { 0 }];
            for part in self.strongest_parts(pool, &token, input.precision, k) {
                let mut output = vec![0.0; out.len()];
                let x = Activations::new(part.input, hidden);
                part.step.write_down(pool, &x, part.features, input.precision, &mut output);
                let written = if part.shared { &mut shared_output } else { &mut *out };
                axpy(part.weight, &output, written);
            }
            self.join(out, shared_output);
        }
    }

    /// Returns what the `k` strongest features of each token contribute, and zeros for the others: `act(gate) * up` times
    /// the expert's weight, `[tokens, features]`.
    pub(crate) fn strongest_features(&self, pool: &Pool, input: &FfnInput<'_>, k: usize) -> Vec<f32> {
        let count: usize = self.parts().map(Dense::feature_count).sum();
        let mut features = Vec::new();
        for token in self.tokens(input) {
            let mut row = vec![0.0; count];
            for part in self.strongest_parts(pool, &token, input.precision, k) {
                let places = row[part.first..].iter_mut().zip(&part.features);
                places.for_each(|(place, feature)| *place = feature * part.weight);
            }
            features.append(&mut row);
        }
        features
    }

    /// The steps that a token passes, each with the activations of those of its features that are among the `k` strongest.
    fn strongest_parts<'a>(
        &'a self,
        pool: &Pool,
        token: &'a Token<'_>,
        precision: Precision,
        k: usize,
    ) -> Vec<SparsePart<'a>> {
        let hidden = token.normed.len();
        let shared = self.experts.len();
        let of_shared = self.shared.iter().map(|_| self.shared_factor(token.normed));
        let factors = token.weights.iter().copied().chain(of_shared);
        let mut parts = Vec::new();
        let mut first = 0;
        for (index, (step, weight)) in self.parts().zip(factors).enumerate() {
            if weight != 0.0 {
                let input = if index == shared { token.normed } else { &*token.expert_input };
                let gates = step.gates(pool, &Activations::new(input, hidden), precision);
                let shared = index == shared;
                parts.push(SparsePart { step, input, weight, shared, first, features: gates });
            }
            first += step.feature_count();
        }
        let strengths: Vec<f32> =
            parts.iter().flat_map(|part| part.features.iter().map(|gate| gate * part.weight)).collect();
        let mut chosen: Vec<usize> = top_k_by_magnitude(&strengths, k).into_iter().map(|(f, _)| f).collect();
        chosen.sort_unstable();
        let mut start = 0;
        for part in &mut parts {
            let places = start..start + part.features.len();
            let own = chosen.iter().filter(|feature| places.contains(feature));
            let own: Vec<usize> = own.map(|feature| feature - start).collect();
            part.step.keep(&own, &mut part.features, part.input);
            start = places.end;
        }
        parts
    }

    /// The tokens of an input, one by one.
    fn tokens<'a>(&self, input: &'a FfnInput<'_>) -> impl Iterator<Item = Token<'a>> {
        let hidden = input.normed.width();
        let expert_input = match self.expert_input(input.residual) {
            Some(input) => input.chunks_exact(hidden).map(|x| Some(x.to_vec())).collect(),
            None => vec![None; input.normed.batch()],
        };
        let weights = input.expert_weights.chunks_exact(self.experts.len());
        let normed = input.normed.values().chunks_exact(hidden);
        normed.zip(expert_input).zip(weights).map(|((normed, expert_input), weights)| Token {
            normed,
            expert_input: expert_input.map_or(Cow::Borrowed(normed), Cow::Owned),
            weights,
        })
    }

    /// Returns what every feature contributes: `act(gate) * up` times the factor of its step; `[tokens, features]`.
    pub(crate) fn features(&self, pool: &Pool, input: &FfnInput<'_>) -> Vec<f32> {
        let expert_input =
            self.expert_input(input.residual).unwrap_or_else(|| input.normed.values().to_vec());
        let hidden = input.normed.width();
        let mut features = Vec::new();
        let tokens = input.normed.values().chunks_exact(hidden).zip(expert_input.chunks_exact(hidden));
        for ((token, x), weights) in tokens.zip(input.expert_weights.chunks_exact(self.experts.len())) {
            for (expert, weight) in self.experts.iter().zip(weights) {
                if *weight == 0.0 {
                    features.resize(features.len() + expert.feature_count(), 0.0);
                } else {
                    let own = expert.features(pool, &Activations::new(x, hidden), input.precision);
                    features.extend(own.iter().map(|feature| feature * weight));
                }
            }
            if let Some(shared) = &self.shared {
                let mut own = shared.features(pool, &Activations::new(token, hidden), input.precision);
                self.gate_shared(token, &mut own);
                features.append(&mut own);
            }
        }
        features
    }

    /// As [`Mixture::features`], for feature inputs alone, from which the residual is known up to its length.
    pub(crate) fn features_of_normed(&self, pool: &Pool, normed: Activations<'_>) -> Vec<f32> {
        let residual = self.residual_direction(&normed);
        let expert_weights = self.router.weights(pool, &normed, &residual);
        let rows = Rows::new([(0, normed.batch())], Batching::Shared);
        let (expert_weights, rows, precision) = (&expert_weights[..], &rows, Precision::Exact);
        self.features(pool, &FfnInput { normed, residual: &residual, expert_weights, rows, precision })
    }

    /// Writes the output, `[tokens, hidden]`, of features as [`Mixture::features`] returns them.
    pub(crate) fn write_features(
        &self,
        pool: &Pool,
        input: &FfnInput<'_>,
        features: &[f32],
        out: &mut [f32],
    ) {
        let (hidden, precision) = (input.normed.width(), input.precision);
        out.fill(0.0);
        let mut shared_output = vec![0.0; if self.shared.is_some() { out.len() } else { 0 }];
        let count = features.len() / input.normed.batch().max(1);
        let mut first = 0;
        for (index, step) in self.parts().enumerate() {
            let places = first..first + step.feature_count();
            first = places.end;
            let own = features.chunks_exact(count).map(|row| &row[places.clone()]);
            let expert_weights: Vec<f32> = match index < self.experts.len() {
                true => input.expert_weights.chunks_exact(self.experts.len()).map(|w| w[index]).collect(),
                false => vec![1.0; input.normed.batch()],
            };
            let written = if index < self.experts.len() { &mut *out } else { &mut shared_output };
            for (token, (own, weight)) in own.zip(expert_weights).enumerate() {
                if weight == 0.0 && own.iter().all(|feature| *feature == 0.0) {
                    continue;
                }
                let mut output = vec![0.0; hidden];
                let row = Activations::new(&input.normed.values()[token * hidden..][..hidden], hidden);
                step.write_down(pool, &row, own.to_vec(), precision, &mut output);
                let written = &mut written[token * hidden..][..hidden];
                axpy(1.0, &output, written);
                if let Some(bias) = &step.down.bias {
                    // The features have the expert's weight already, the bias has not.
                    axpy(weight - 1.0, bias, written);
                }
            }
        }
        self.join(out, shared_output);
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

    /// The factor of the shared step's output for its input, `[hidden]`.
    fn shared_factor(&self, token: &[f32]) -> f32 {
        self.shared_gate.as_ref().map_or(1.0, |gate| activation::sigmoid(dot(gate, token)))
    }

    /// Multiplies the shared step's output or features for `token`, `[hidden]`, by their factor.
    fn gate_shared(&self, token: &[f32], values: &mut [f32]) {
        if self.shared_gate.is_some() {
            let factor = self.shared_factor(token);
            values.iter_mut().for_each(|value| *value *= factor);
        }
    }

    /// Input of the experts, `[tokens, hidden]`, where it is not the feed-forward input.
    fn expert_input(&self, residual: &[f32]) -> Option<Vec<f32>> {
        self.branch.as_ref().map(|branch| {
            let mut input = residual.to_vec();
            branch.input_norm.apply(&mut input);
            input
        })
    }

    /// The residual that a feed-forward input comes from, up to its length, which no norm lets through. Only a
    /// mixture that reads the residual needs it, and finds no value where the norm's weight is 0.
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
        add(out, &shared_output);
    }
}

/// An expert that some tokens pass.
struct Chosen {
    expert: usize,
    /// These tokens, ascending, and the factor of the expert's output for each.
    tokens: Vec<(usize, f32)>,
}

/// One token of a walk.
struct Token<'a> {
    /// The input of the shared step, `[hidden]`.
    normed: &'a [f32],
    /// The input of experts, `[hidden]`.
    expert_input: Cow<'a, [f32]>,
    /// The factor of each expert's output, `[experts]`.
    weights: &'a [f32],
}

/// A step that a token passes, and the activations of some of its features.
struct SparsePart<'a> {
    step: &'a Dense,
    /// `[hidden]`
    input: &'a [f32],
    /// The factor of the step's output.
    weight: f32,
    /// True for the shared step.
    shared: bool,
    /// The number of its first feature in the layer.
    first: usize,
    /// `[features of the step]`
    features: Vec<f32>,
}
