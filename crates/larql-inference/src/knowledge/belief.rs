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
}

impl Evidence {
    fn values(&self) -> [f32; FACTORS] {
        let odds = self.reliability.clamp(0.01, 0.99);
        [1.0, self.log_probability.max(-8.0), self.agreement, (odds / (1.0 - odds)).ln()]
    }
}

const FACTORS: usize = 4;
/// Steps of gradient descent, and their length.
const STEPS: usize = 4000;
const STEP: f32 = 0.3;
/// How much large coefficients cost.
const SHRINKAGE: f32 = 1e-3;

/// The probability that an answer is right, given its [`Evidence`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Belief {
    /// Of a constant, the log-probability, the agreement and the log-odds of the reliability.
    coefficients: [f32; FACTORS],
}

impl Default for Belief {
    /// What an answer's own probability says.
    fn default() -> Self {
        Belief { coefficients: [1.0, 1.0, 1.0, 1.0] }
    }
}

impl Belief {
    /// Fits the coefficients to cases: evidence, and whether the answer was right.
    pub(crate) fn fit(cases: &[(Evidence, bool)]) -> Belief {
        let mut belief = Belief::default();
        if cases.is_empty() {
            return belief;
        }
        for _ in 0..STEPS {
            let mut gradient = [0.0; FACTORS];
            for (evidence, right) in cases {
                let error = f32::from(*right) - belief.in_answer(evidence);
                gradient.iter_mut().zip(evidence.values()).for_each(|(g, x)| *g += error * x);
            }
            for (coefficient, gradient) in belief.coefficients.iter_mut().zip(gradient) {
                *coefficient += STEP * (gradient / cases.len() as f32 - SHRINKAGE * *coefficient);
            }
        }
        belief
    }

    /// The probability that an answer with this evidence is right.
    pub(crate) fn in_answer(&self, evidence: &Evidence) -> f32 {
        let sum: f32 = self.coefficients.iter().zip(evidence.values()).map(|(c, x)| c * x).sum();
        1.0 / (1.0 + (-sum).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belief_follows_the_cases() {
        let case = |log_probability, reliability, right| {
            (Evidence { log_probability, agreement: 1.0, reliability }, right)
        };
        // Right where it is likely and reliable, wrong where not.
        let cases: Vec<_> = (0..200)
            .map(|i| {
                let (likely, reliable) = (i % 2 == 0, i % 3 > 0);
                case(if likely { -0.1 } else { -3.0 }, if reliable { 0.9 } else { 0.1 }, likely && reliable)
            })
            .collect();
        let belief = Belief::fit(&cases);
        let of = |p: f32, r| belief.in_answer(&case(p, r, true).0);
        assert!(of(-0.1, 0.9) > 0.8, "{}", of(-0.1, 0.9));
        assert!(of(-0.1, 0.1) < 0.3 && of(-3.0, 0.9) < 0.3 && of(-3.0, 0.1) < 0.1);
    }
}
