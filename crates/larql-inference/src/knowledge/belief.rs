//! When to believe an answer: a logistic regression on what can be seen of it.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use serde::{Deserialize, Serialize};

/// What can be seen of an answer before anybody says whether it is right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Number of the relation that was asked about.
    pub relation: usize,
    /// Natural logarithm of the answer's probability, averaged over the wordings for its first token.
    pub log_probability: f32,
    /// The share of wordings after which the answer comes first.
    pub agreement: f32,
    /// The share of cases in which this answer to this relation is right, from 0 to 1.
    pub reliability: f32,
    /// How much the entity seems to have the relation at all, about 1 or about -1; see
    /// [`SubjectKinds`](super::SubjectKinds).
    pub kind: f32,
    /// How much sense the question seems to make, about 1 or about -1; see [`QuestionSense`](super::QuestionSense).
    pub sense: f32,
    /// Whether a subject has one object only.
    pub functional: bool,
}

impl Evidence {
    fn values(&self) -> [f32; FACTORS] {
        let odds = self.reliability.clamp(0.01, 0.99);
        let odds = (odds / (1.0 - odds)).ln();
        let (kind, sense) = (self.kind.clamp(-2.0, 2.0), self.sense.clamp(-2.0, 2.0));
        [1.0, self.log_probability.exp(), self.log_probability.max(-8.0), self.agreement, odds, kind, sense]
    }
}

/// An answer of which it is known whether it is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) evidence: Evidence,
    pub(crate) right: bool,
    /// How many answers it stands for.
    pub(crate) weight: f32,
}

const FACTORS: usize = 7;
/// Steps of Newton's method at most, and the change of coefficients below which it has arrived.
const STEPS: usize = 50;
const ARRIVED: f64 = 1e-6;
/// How much worse a wrong answer that is believed is than a right one that is not.
const WORSE: f32 = 2.0;
/// How much large coefficients cost, and large offsets of relations.
const SHRINKAGE: f64 = 1e-3;
const OFFSET_SHRINKAGE: f64 = 1e-2;

/// The probability that an answer is right, given its [`Evidence`]. Where a subject has several objects, the answers
/// share their probability, so that a lower one says less.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Belief {
    functional: Logistic,
    several: Logistic,
    /// Answers at least this probable are believed: where, over the cases, for each wrong one that is let in two right
    /// ones are lost. A wrong label misleads; a missing one is only missed.
    pub threshold: f32,
}

/// A logistic regression.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Logistic {
    /// Of a constant, the probability and its logarithm, the agreement, the log-odds of the reliability, the kind, and
    /// the sense.
    coefficients: [f32; FACTORS],
    /// What each relation adds.
    offsets: Vec<f32>,
}

impl Belief {
    /// Fits the coefficients to cases.
    pub(crate) fn fit(cases: &[Case]) -> Belief {
        let of = |functional: bool| {
            let own: Vec<&Case> =
                cases.iter().filter(|case| case.evidence.functional == functional).collect();
            Logistic::fit(&own)
        };
        let mut belief = Belief { functional: of(true), several: of(false), threshold: 0.5 };
        let mut judged: Vec<(f32, bool, f32)> =
            cases.iter().map(|case| (belief.in_answer(&case.evidence), case.right, case.weight)).collect();
        judged.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut lost: f32 = judged.iter().filter(|(_, right, _)| *right).map(|(.., weight)| weight).sum();
        let mut let_in = 0.0;
        for (probability, right, weight) in judged {
            if right {
                lost -= weight;
            } else {
                let_in += weight;
            }
            if let_in * WORSE >= lost {
                belief.threshold = probability.clamp(0.05, 0.95);
                break;
            }
        }
        belief
    }

    /// The probability that an answer with this evidence is right.
    pub(crate) fn in_answer(&self, evidence: &Evidence) -> f32 {
        let regression = if evidence.functional { &self.functional } else { &self.several };
        regression.probability(evidence)
    }
}

impl Logistic {
    /// Fits by Newton's method on the penalised likelihood.
    fn fit(cases: &[&Case]) -> Logistic {
        let relations = cases.iter().map(|case| case.evidence.relation + 1).max().unwrap_or(0);
        let total: f64 = cases.iter().map(|case| f64::from(case.weight)).sum();
        let mut fitted = Logistic { coefficients: [0.0; FACTORS], offsets: vec![0.0; relations] };
        let size = FACTORS + relations;
        let mut solution = vec![0.0; size];
        for _ in 0..STEPS {
            let cost = |row: usize| if row < FACTORS { SHRINKAGE } else { OFFSET_SHRINKAGE };
            let mut gradient = Mat::from_fn(size, 1, |row, _| -cost(row) * solution[row]);
            let mut curvature = Mat::from_fn(size, size, |i, j| if i == j { cost(i) } else { 0.0 });
            for case in cases {
                let mut row: Vec<(usize, f64)> =
                    case.evidence.values().into_iter().map(f64::from).enumerate().collect();
                row.push((FACTORS + case.evidence.relation, 1.0));
                let probability = sigmoid(row.iter().map(|(at, x)| solution[*at] * x).sum());
                let weight = f64::from(case.weight) / total;
                let error = weight * (f64::from(case.right) - probability);
                let slope = weight * probability * (1.0 - probability);
                for (i, x) in &row {
                    gradient[(*i, 0)] += error * x;
                    row.iter().for_each(|(j, y)| curvature[(*i, *j)] += slope * x * y);
                }
            }
            // The costs make it positive definite; only values that are no numbers can break that.
            let Ok(factors) = curvature.llt(Side::Lower) else { break };
            let step = factors.solve(&gradient);
            solution.iter_mut().enumerate().for_each(|(row, value)| *value += step[(row, 0)]);
            if (0..size).all(|row| step[(row, 0)].abs() < ARRIVED) {
                break;
            }
        }
        let (coefficients, offsets) = solution.split_at(FACTORS);
        fitted.coefficients.iter_mut().zip(coefficients).for_each(|(to, from)| *to = *from as f32);
        fitted.offsets.iter_mut().zip(offsets).for_each(|(to, from)| *to = *from as f32);
        fitted
    }

    fn probability(&self, evidence: &Evidence) -> f32 {
        let offset = self.offsets.get(evidence.relation).copied().unwrap_or(0.0);
        let values = evidence.values();
        let sum: f32 = self.coefficients.iter().zip(values).map(|(c, x)| c * x).sum();
        sigmoid(f64::from(sum + offset)) as f32
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belief_follows_the_cases() {
        let case = |log_probability, reliability, right| {
            let evidence = Evidence {
                relation: 0,
                log_probability,
                agreement: 1.0,
                reliability,
                kind: 1.0,
                sense: 1.0,
                functional: true,
            };
            Case { evidence, right, weight: 1.0 }
        };
        // Right where it is likely and reliable, wrong where not.
        let cases: Vec<_> = (0..200)
            .map(|i| {
                let (likely, reliable) = (i % 2 == 0, i % 3 > 0);
                case(if likely { -0.1 } else { -3.0 }, if reliable { 0.9 } else { 0.1 }, likely && reliable)
            })
            .collect();
        let belief = Belief::fit(&cases);
        let of = |p: f32, r| belief.in_answer(&case(p, r, true).evidence);
        assert!(of(-0.1, 0.9) > 0.8, "{}", of(-0.1, 0.9));
        assert!(of(-0.1, 0.1) < 0.3 && of(-3.0, 0.9) < 0.3 && of(-3.0, 0.1) < 0.1);
    }
}
