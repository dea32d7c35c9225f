//! When to believe an answer: a logistic regression on what can be seen of it.

use serde::{Deserialize, Serialize};

/// What can be seen of an answer before anybody says whether it is right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Natural logarithm of the answer's probability, averaged over the wordings for its first token.
    pub log_probability: f32,
    /// The share of wordings after which the answer comes first.
    pub agreement: f32,
    /// The share of cases in which this answer to this relation is right, from 0 to 1.
    pub reliability: f32,
    /// How much the entity seems to have the relation at all, about 1 or about -1; see
    /// [`SubjectKinds`](super::SubjectKinds).
    pub kind: f32,
    /// Whether a subject has one object only.
    pub functional: bool,
}

impl Evidence {
    fn values(&self) -> [f32; FACTORS] {
        let odds = self.reliability.clamp(0.01, 0.99);
        let odds = (odds / (1.0 - odds)).ln();
        [1.0, self.log_probability.max(-8.0), self.agreement, odds, self.kind.clamp(-2.0, 2.0)]
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

const FACTORS: usize = 5;
/// Steps of gradient descent, and their length.
const STEPS: usize = 4000;
const STEP: f32 = 0.3;
/// How much large coefficients cost.
const SHRINKAGE: f32 = 1e-3;

/// The probability that an answer is right, given its [`Evidence`]. Where a subject has several objects, the answers
/// share their probability, so that a lower one says less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Belief {
    functional: Logistic,
    several: Logistic,
    /// Answers at least this probable are believed: where, over the cases, as many right ones are lost as wrong ones are
    /// let in.
    pub threshold: f32,
}

/// A logistic regression.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Logistic {
    /// Of a constant, the log-probability, the agreement, the log-odds of the reliability, and the kind.
    coefficients: [f32; FACTORS],
}

impl Default for Logistic {
    /// What an answer's own probability says.
    fn default() -> Self {
        Logistic { coefficients: [1.0; FACTORS] }
    }
}

impl Belief {
    /// Fits the coefficients to cases.
    pub(crate) fn fit(cases: &[Case]) -> Belief {
        let of = |functional: bool| {
            Logistic::fit(cases.iter().filter(|case| case.evidence.functional == functional).collect())
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
            if let_in >= lost {
                belief.threshold = probability.clamp(0.05, 0.95);
                break;
            }
        }
        belief
    }

    /// The probability that an answer with this evidence is right.
    pub(crate) fn in_answer(&self, evidence: &Evidence) -> f32 {
        let regression = if evidence.functional { &self.functional } else { &self.several };
        regression.probability(&evidence.values())
    }
}

impl Logistic {
    fn fit(cases: Vec<&Case>) -> Logistic {
        let mut fitted = Logistic::default();
        let total: f32 = cases.iter().map(|case| case.weight).sum();
        if total <= 0.0 {
            return fitted;
        }
        let cases: Vec<([f32; FACTORS], f32, f32)> = cases
            .into_iter()
            .map(|case| (case.evidence.values(), f32::from(case.right), case.weight / total))
            .collect();
        for _ in 0..STEPS {
            let mut gradient = [0.0; FACTORS];
            for (values, right, weight) in &cases {
                let error = weight * (right - fitted.probability(values));
                gradient.iter_mut().zip(values).for_each(|(g, x)| *g += error * x);
            }
            for (coefficient, gradient) in fitted.coefficients.iter_mut().zip(gradient) {
                *coefficient += STEP * (gradient - SHRINKAGE * *coefficient);
            }
        }
        fitted
    }

    fn probability(&self, values: &[f32; FACTORS]) -> f32 {
        let sum: f32 = self.coefficients.iter().zip(values).map(|(c, x)| c * x).sum();
        1.0 / (1.0 + (-sum).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belief_follows_the_cases() {
        let case = |log_probability, reliability, right| {
            let evidence =
                Evidence { log_probability, agreement: 1.0, reliability, kind: 1.0, functional: true };
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
