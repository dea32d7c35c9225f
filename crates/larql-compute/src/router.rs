//! Routing in a mixture of experts (arXiv 1701.06538): the choice of experts and their weights, in the variants that
//! published models use.
//!
//! ```
//! use larql_compute::router::{RouterScores, RouterSpec, Stored};
//!
//! let spec =
//!     RouterSpec { chosen: 1, scores: RouterScores::Softmax, groups: None, normalise: true, scale: 1.0 };
//! let mut weights = [0.0; 3];
//! spec.route(&[0.5, 2.0, 1.0], Stored::default(), &mut weights);
//! assert_eq!(weights, [0.0, 1.0, 0.0]);
//! ```

use serde::{Deserialize, Serialize};

use crate::vector::add_to_rows;
use crate::{Activations, MatRef, Pool, Precision, activation, matmul, norm, top_k_by_value};

/// Rule by which a router's logits become a choice of experts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterSpec {
    /// Experts that a token passes.
    pub chosen: usize,
    /// First transformation of the logits.
    pub scores: RouterScores,
    /// Restricts the choice to the best groups of experts.
    pub groups: Option<ExpertGroups>,
    /// True if the chosen experts' scores are divided by their sum.
    pub normalise: bool,
    /// Final factor of the weights.
    pub scale: f32,
}

/// Transformation of a router's logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouterScores {
    /// Softmax over all experts (Mixtral, arXiv 2401.04088).
    Softmax,
    /// The sigmoid of each (DeepSeek V3, arXiv 2412.19437).
    Sigmoid,
    /// Softmax over the chosen experts only (GPT-OSS, arXiv 2508.10925).
    SoftmaxOfChosen,
    /// One expert after the other, each with its share of a softmax over its rivals: the experts that are not chosen
    /// yet and whose logit is no further below the best one than `2 * jitter` of the larger of the best logit and
    /// their own magnitude (SparseMixer, arXiv 2409.12136; `sparsemixer` in `modeling_phimoe.py` of transformers).
    SoftmaxOfRivals {
        /// Half of the relative distance (`router_jitter_noise`).
        jitter: f32,
    },
}

/// Equal groups of consecutive experts, of which a token may use a few (DeepSeek V2, arXiv 2405.04434).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertGroups {
    /// Number of groups.
    pub count: usize,
    /// Groups that a token may use: those with the highest scores.
    pub kept: usize,
    /// A group's score is the sum of so many of its best experts' scores.
    pub best: usize,
}

/// Values for each expert that a model stores with the router's matrix; empty where it stores none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<'a> {
    /// Added to scores while choosing, but not in weights (load balancing without a loss, arXiv 2408.15664).
    pub correction: &'a [f32],
    /// Factors of the weights (Gemma 4).
    pub scale: &'a [f32],
}

/// Router of one mixture with its weights: from what a token reads to the weights of its experts.
#[derive(Clone, Copy, Debug)]
pub struct Routing<'a> {
    /// The rule of the choice.
    pub spec: &'a RouterSpec,
    /// The router's matrix `[experts, hidden]`.
    pub matrix: MatRef<'a>,
    /// The bias of the logits `[experts]`, where there is one.
    pub bias: Option<&'a [f32]>,
    /// Values that are stored for each expert.
    pub stored: Stored<'a>,
    /// The preparation of residuals, in a mixture whose router reads these in place of feed-forward inputs.
    pub residual_input: Option<ResidualInput<'a>>,
}

/// Preparation of a residual for a router that reads it (Gemma 4): a norm without weight, then a scale.
#[derive(Clone, Copy, Debug)]
pub struct ResidualInput<'a> {
    /// The norm's epsilon.
    pub epsilon: f32,
    /// The factors `[hidden]`, which are divided by the root of the width.
    pub scale: &'a [f32],
}

impl Routing<'_> {
    /// Returns the factors of each expert's output `[tokens, experts]`, 0 for experts that are not chosen.
    ///
    /// `normed` are the feed-forward inputs `[tokens, hidden]`; `residual`, of the same shape, is read by routers with
    /// [`Routing::residual_input`] alone, and only its direction matters. Logits are exact whatever the precision of the
    /// pass is, because another expert is another answer.
    ///
    /// # Panics
    /// If a size differs.
    pub fn expert_weights(&self, pool: &Pool, normed: &Activations<'_>, residual: &[f32]) -> Vec<f32> {
        let (hidden, experts) = (normed.width(), self.matrix.rows());
        let prepared = self.residual_input.map(|input| input.prepared(residual, hidden));
        let mut logits = vec![0.0; normed.batch() * experts];
        match &prepared {
            None => matmul(pool, self.matrix, normed, Precision::Exact, &mut logits),
            Some(prepared) => {
                let prepared = normed.with_values(prepared, hidden);
                matmul(pool, self.matrix, &prepared, Precision::Exact, &mut logits);
            }
        }
        if let Some(bias) = self.bias {
            add_to_rows(bias, &mut logits);
        }
        let mut weights = vec![0.0; logits.len()];
        for (weights, logits) in weights.chunks_exact_mut(experts).zip(logits.chunks_exact(experts)) {
            self.spec.route(logits, self.stored, weights);
        }
        weights
    }
}

impl ResidualInput<'_> {
    fn prepared(&self, residual: &[f32], hidden: usize) -> Vec<f32> {
        let mut prepared = residual.to_vec();
        norm::rms_norm(&mut prepared, &vec![1.0; hidden], self.epsilon, 0.0);
        let root = (hidden as f32).sqrt();
        for token in prepared.chunks_exact_mut(hidden) {
            token.iter_mut().zip(self.scale).for_each(|(x, scale)| *x *= scale / root);
        }
        prepared
    }
}

/// Returns the residuals that normed inputs `[tokens, hidden]` come from, up to their length, which no norm preserves.
/// `factors` are those of the norm, `[hidden]`; where one is 0, nothing is left of the residual and 0 is returned.
pub fn residual_direction(normed: &[f32], factors: &[f32]) -> Vec<f32> {
    let mut direction = normed.to_vec();
    for token in direction.chunks_exact_mut(factors.len()) {
        for (x, factor) in token.iter_mut().zip(factors) {
            *x = if *factor == 0.0 { 0.0 } else { *x / factor };
        }
    }
    direction
}

impl RouterSpec {
    /// Writes to `weights` what the output of each expert is multiplied by, 0 for those that are not chosen;
    /// `logits` and `weights` are `[experts]`.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn route(&self, logits: &[f32], stored: Stored<'_>, weights: &mut [f32]) {
        assert_eq!(logits.len(), weights.len(), "logits and weights differ in number");
        let mut scores = logits.to_vec();
        match self.scores {
            RouterScores::Softmax => activation::softmax(&mut scores),
            RouterScores::Sigmoid => scores.iter_mut().for_each(|score| *score = activation::sigmoid(*score)),
            RouterScores::SoftmaxOfChosen => {}
            RouterScores::SoftmaxOfRivals { jitter } => {
                return self.mix_sparsely(logits, jitter, stored, weights);
            }
        }
        let mut ranked = scores.clone();
        ranked.iter_mut().zip(stored.correction).for_each(|(score, correction)| *score += correction);
        if let Some(groups) = self.groups {
            groups.restrict(&mut ranked);
        }
        let chosen: Vec<usize> =
            top_k_by_value(&ranked, self.chosen).into_iter().map(|(expert, _)| expert).collect();

        let mut kept: Vec<f32> = chosen.iter().map(|expert| scores[*expert]).collect();
        if self.scores == RouterScores::SoftmaxOfChosen {
            activation::softmax(&mut kept);
        }
        let divisor = if self.normalise { kept.iter().sum() } else { 1.0 };
        weights.fill(0.0);
        for (expert, score) in chosen.into_iter().zip(kept) {
            let own = stored.scale.get(expert).copied().unwrap_or(1.0);
            weights[expert] = score / divisor * self.scale * own;
        }
    }

    /// [`RouterSpec::route`] for [`RouterScores::SoftmaxOfRivals`].
    fn mix_sparsely(&self, logits: &[f32], jitter: f32, stored: Stored<'_>, weights: &mut [f32]) {
        let mut open = logits.to_vec();
        open.iter_mut().zip(stored.correction).for_each(|(logit, correction)| *logit += correction);
        if let Some(groups) = self.groups {
            groups.restrict(&mut open);
        }
        weights.fill(0.0);
        let mut chosen = Vec::with_capacity(self.chosen);
        for _ in 0..self.chosen {
            let Some((expert, best)) = top_k_by_value(&open, 1).into_iter().next() else { break };
            let rivals = open.iter().zip(logits).filter(|(open, logit)| {
                let distance = (best - **open) / logit.abs().max(best);
                // Logits of 0 have no distance.
                distance.is_nan() || distance <= 2.0 * jitter
            });
            let sum: f32 = rivals.map(|(open, _)| activation::exp(open - best)).sum();
            chosen.push((expert, 1.0 / sum));
            open[expert] = f32::NEG_INFINITY;
        }
        let divisor = if self.normalise { chosen.iter().map(|(_, share)| share).sum() } else { 1.0 };
        for (expert, share) in chosen {
            let own = stored.scale.get(expert).copied().unwrap_or(1.0);
            weights[expert] = share / divisor * self.scale * own;
        }
    }

    /// An error in the routing of a mixture with this number of experts, if there is one.
    pub fn problem(&self, experts: usize) -> Option<String> {
        if !(1..=experts).contains(&self.chosen) {
            return Some(format!("{} of {experts} experts cannot be chosen", self.chosen));
        }
        if let RouterScores::SoftmaxOfRivals { jitter } = self.scores
            && (jitter.is_nan() || jitter < 0.0)
        {
            return Some(format!("experts cannot be rivals within a distance of {jitter}"));
        }
        let groups = self.groups?;
        let ExpertGroups { count, kept, best } = groups;
        if count == 0 || !experts.is_multiple_of(count) {
            return Some(format!("{experts} experts cannot form {count} equal groups"));
        }
        let members = experts / count;
        if !(1..=count).contains(&kept) || !(1..=members).contains(&best) || kept * members < self.chosen {
            return Some(format!(
                "{} experts cannot be chosen from the best {kept} of {count} groups of {members}, \
                 ranked by {best} members",
                self.chosen
            ));
        }
        None
    }
}

impl ExpertGroups {
    /// Gives the members of all groups but the best a score that is never chosen.
    fn restrict(self, scores: &mut [f32]) {
        let members = scores.len() / self.count;
        let group_scores: Vec<f32> = scores
            .chunks_exact(members)
            .map(|group| top_k_by_value(group, self.best).into_iter().map(|(_, score)| score).sum())
            .collect();
        let kept = top_k_by_value(&group_scores, self.kept);
        for (index, group) in scores.chunks_exact_mut(members).enumerate() {
            if !kept.iter().any(|(group, _)| *group == index) {
                group.fill(f32::NEG_INFINITY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RouterSpec =
        RouterSpec { chosen: 2, scores: RouterScores::Softmax, groups: None, normalise: false, scale: 1.0 };

    fn route(spec: &RouterSpec, logits: &[f32], stored: Stored<'_>) -> Vec<f32> {
        let mut weights = vec![f32::NAN; logits.len()];
        spec.route(logits, stored, &mut weights);
        weights
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(found.len() == expected.len() && close, "{found:?}, not {expected:?}");
    }

    #[test]
    fn the_best_keep_their_share_of_all_or_of_each_other() {
        let logits = [0.0, 1f32.ln(), 3f32.ln(), 4f32.ln()];
        assert_close(&route(&PLAIN, &logits, Stored::default()), &[0.0, 0.0, 3.0 / 9.0, 4.0 / 9.0]);
        let normalised = RouterSpec { normalise: true, ..PLAIN };
        assert_close(&route(&normalised, &logits, Stored::default()), &[0.0, 0.0, 3.0 / 7.0, 4.0 / 7.0]);
        let chosen_only = RouterSpec { scores: RouterScores::SoftmaxOfChosen, ..PLAIN };
        assert_close(&route(&chosen_only, &logits, Stored::default()), &[0.0, 0.0, 3.0 / 7.0, 4.0 / 7.0]);
    }

    #[test]
    fn a_correction_changes_the_choice_and_not_the_weights() {
        let spec = RouterSpec { chosen: 1, scores: RouterScores::Sigmoid, scale: 2.5, ..PLAIN };
        let stored = Stored { correction: &[1.0, 0.0], ..Stored::default() };
        assert_close(&route(&spec, &[0.0, 2.0], stored), &[1.25, 0.0]);
        let stored = Stored { scale: &[1.0, 3.0], ..Stored::default() };
        assert_close(&route(&spec, &[-50.0, 0.0], stored), &[0.0, 3.75]);
    }

    #[test]
    fn each_expert_shares_with_those_that_are_nearly_as_good() {
        let spec = |jitter| RouterSpec { scores: RouterScores::SoftmaxOfRivals { jitter }, ..PLAIN };
        let logits = [4.0, 3.9, 1.0, -8.0];
        let share = |distance: f32| 1.0 / (1.0 + (-distance).exp());
        assert_close(&route(&spec(0.01), &logits, Stored::default()), &[1.0, 1.0, 0.0, 0.0]);
        assert_close(&route(&spec(0.02), &logits, Stored::default()), &[share(0.1), 1.0, 0.0, 0.0]);
        // Once the best one is gone, 1.0 is within 0.75 of 3.9.
        let wide = 1.0 / (1.0 + (-0.1f32).exp() + (-3.0f32).exp());
        assert_close(&route(&spec(0.375), &logits, Stored::default()), &[wide, share(2.9), 0.0, 0.0]);
        assert_close(&route(&spec(0.01), &[0.0, 0.0, 0.0], Stored::default()), &[1.0 / 3.0, 0.5, 0.0]);
        assert!(spec(-1.0).problem(4).unwrap().contains("rivals"));
    }

    #[test]
    fn routing_reads_the_input_or_the_residual_that_it_comes_from() {
        let pool = Pool::new(1);
        let rows: Vec<u8> = [1.0f32, 0.0, 0.0, 1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let matrix = crate::Matrix::new(crate::Format::F32, 2, 2, rows.into()).unwrap();
        let spec = RouterSpec { chosen: 1, normalise: true, ..PLAIN };
        let routing = |residual_input, bias| Routing {
            spec: &spec,
            matrix: matrix.view(),
            bias,
            stored: Stored::default(),
            residual_input,
        };
        let (normed, factors) = ([3.0, 2.0, 0.0, 2.0], [3.0, 1.0]);
        let input = Activations::new(&normed, 2);
        let residual = residual_direction(&normed, &factors);
        assert_eq!(residual, [1.0, 2.0, 0.0, 2.0]);
        assert_eq!(residual_direction(&normed, &[0.0, 1.0])[0], 0.0);
        let weights = |routing: Routing<'_>| routing.expert_weights(&pool, &input, &residual);
        assert_eq!(weights(routing(None, None)), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(weights(routing(None, Some(&[-9.0, 0.0]))), [0.0, 1.0, 0.0, 1.0]);
        let of_residual = |scale| routing(Some(ResidualInput { epsilon: 1e-6, scale }), None);
        assert_eq!(weights(of_residual(&[1.0, 1.0])), [0.0, 1.0, 0.0, 1.0]);
        assert_eq!(weights(of_residual(&[9.0, 1.0])), [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn groups_are_ranked_by_their_best_members() {
        let logits = [5.0, -5.0, 3.0, 3.0, 0.0, 0.0];
        let grouped = |best| RouterSpec {
            scores: RouterScores::SoftmaxOfChosen,
            groups: Some(ExpertGroups { count: 3, kept: 1, best }),
            ..PLAIN
        };
        let chosen = |best| -> Vec<bool> {
            route(&grouped(best), &logits, Stored::default()).iter().map(|weight| *weight > 0.0).collect()
        };
        assert_eq!(chosen(1), [true, true, false, false, false, false]);
        assert_eq!(chosen(2), [false, false, true, true, false, false]);
    }

    #[test]
    fn impossible_choices_are_named() {
        assert_eq!(PLAIN.problem(2), None);
        assert_eq!(PLAIN.problem(1).unwrap(), "2 of 1 experts cannot be chosen");
        let grouped = |count, kept, best| RouterSpec {
            groups: Some(ExpertGroups { count, kept, best }),
            chosen: 3,
            ..PLAIN
        };
        assert_eq!(grouped(2, 1, 1).problem(6), None);
        assert!(grouped(4, 1, 1).problem(6).unwrap().contains("4 equal groups"));
        assert!(grouped(3, 1, 1).problem(6).is_some());
        assert!(grouped(3, 2, 3).problem(6).is_some());
        assert!(grouped(0, 1, 1).problem(6).is_some());
    }
}
