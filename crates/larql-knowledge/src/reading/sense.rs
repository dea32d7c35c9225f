//! Prediction of the questions that apply to an entity: for each relation a ridge regression on the feed-forward input of
//! one layer at the last token of the question's first wording.
//!
//! A model answers "The capital of gold is" as readily as "The capital of Peru is"; its state tells them apart.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use larql_compute::vector::{dot, normalised};

use super::kinds::FOLDS;

/// Estimator of whether a question makes sense.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuestionSense {
    /// `[relations, hidden]`.
    pub(crate) weights: Vec<f32>,
    /// Intercepts, `[relations]`.
    pub(crate) offsets: Vec<f32>,
}

/// A question of which it is known whether its subject has its relation.
pub(crate) struct SenseCase<'a> {
    pub(crate) relation: usize,
    /// The feed-forward input that is looked at, `[hidden]`.
    pub(crate) state: &'a [f32],
    pub(crate) applies: bool,
    /// Weight, as a number of questions.
    pub(crate) weight: f32,
    /// The part, below [`FOLDS`], that all questions about the subject are in.
    pub(crate) fold: usize,
}

/// Ridge: added to every state's likeness to itself, so that none is believed alone.
const RIDGE: f64 = 0.1;

impl QuestionSense {
    /// Learns from cases; and says how each would be scored by what the other parts teach.
    pub(crate) fn learn(
        cases: &[SenseCase<'_>],
        relations: usize,
        hidden: usize,
    ) -> (QuestionSense, Vec<f32>) {
        let mut sense = QuestionSense { weights: Vec::new(), offsets: Vec::new() };
        let mut scores = vec![0.0; cases.len()];
        for relation in 0..relations {
            let own: Vec<usize> = (0..cases.len()).filter(|case| cases[*case].relation == relation).collect();
            for fold in 0..FOLDS {
                let (held_out, others): (Vec<usize>, Vec<usize>) =
                    own.iter().copied().partition(|case| cases[*case].fold == fold);
                let direction =
                    Direction::fit(&others.iter().map(|case| &cases[*case]).collect::<Vec<_>>(), hidden);
                for case in held_out {
                    scores[case] = direction.score(cases[case].state);
                }
            }
            let direction = Direction::fit(&own.iter().map(|case| &cases[*case]).collect::<Vec<_>>(), hidden);
            sense.weights.extend(direction.weights);
            sense.offsets.push(direction.offset);
        }
        (sense, scores)
    }

    /// Scores a question about a relation, about 1 for one that applies and -1 for another, by its feed-forward input,
    /// `[hidden]`.
    pub(crate) fn score(&self, relation: usize, state: &[f32]) -> f32 {
        let weights = &self.weights[relation * state.len()..][..state.len()];
        score(weights, self.offsets[relation], state)
    }
}

/// The regression of one relation.
struct Direction {
    weights: Vec<f32>,
    offset: f32,
}

impl Direction {
    fn fit(cases: &[&SenseCase<'_>], hidden: usize) -> Direction {
        let sign = |case: &SenseCase<'_>| if case.applies { 1.0 } else { -1.0 };
        let total: f64 = cases.iter().map(|case| f64::from(case.weight)).sum();
        let mut direction = Direction { weights: vec![0.0; hidden], offset: 0.0 };
        if total <= 0.0 {
            return direction;
        }
        let offset = cases.iter().map(|case| f64::from(case.weight) * sign(case)).sum::<f64>() / total;
        let states: Vec<Vec<f32>> = cases.iter().map(|case| normalised(case.state)).collect();
        let likeness = Mat::from_fn(cases.len(), cases.len(), |i, j| {
            let ridge = if i == j { RIDGE / f64::from(cases[i].weight) } else { 0.0 };
            f64::from(dot(&states[i], &states[j])) + ridge
        });
        let wanted = Mat::from_fn(cases.len(), 1, |i, _| sign(cases[i]) - offset);
        direction.offset = offset as f32;
        // The ridge makes it positive definite; only values that are no numbers can break that.
        let Ok(factors) = likeness.llt(Side::Lower) else { return direction };
        let shares = factors.solve(&wanted);
        for (row, state) in states.iter().enumerate() {
            let share = shares[(row, 0)] as f32;
            direction.weights.iter_mut().zip(state).for_each(|(weight, x)| *weight += share * x);
        }
        direction
    }

    fn score(&self, state: &[f32]) -> f32 {
        score(&self.weights, self.offset, state)
    }
}

fn score(weights: &[f32], offset: f32, state: &[f32]) -> f32 {
    offset + dot(weights, &normalised(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_that_apply_look_alike() {
        let state = |case: usize| {
            let applies = !case.is_multiple_of(3);
            [if applies { 1.0 } else { -0.5 }, (case % 5) as f32 * 0.2 - 0.4, 0.7]
        };
        let states: Vec<[f32; 3]> = (0..60).map(state).collect();
        let case = |(index, state): (usize, _)| SenseCase {
            relation: index % 2,
            state,
            applies: !index.is_multiple_of(3),
            weight: 1.0,
            fold: index % FOLDS,
        };
        let cases: Vec<SenseCase<'_>> = states.iter().map(|state| &state[..]).enumerate().map(case).collect();
        let (sense, scores) = QuestionSense::learn(&cases, 3, 3);
        for (case, score) in cases.iter().zip(&scores) {
            assert_eq!(*score > 0.0, case.applies, "{score}");
        }
        assert!(sense.score(1, &[1.0, 0.1, 0.7]) > 0.5 && sense.score(1, &[-0.5, 0.1, 0.7]) < -0.5);
        // Nothing is known of the third relation.
        assert_eq!(sense.score(2, &[1.0, 0.0, 0.0]), 0.0);
    }
}
