//! Belief in answers: a logistic regression on evidence, piecewise linear in each factor, with offsets for each relation.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use serde::{Deserialize, Serialize};

use super::kinds::FOLDS;

/// Evidence for an answer.
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
    /// Number of times that the probe got this answer to this relation, about other subjects.
    pub said: u32,
    /// Predicted score of the relation for the entity, about 1 or about -1; see [`SubjectKinds`](super::SubjectKinds).
    pub kind: f32,
    /// Predicted score of the question, about 1 or about -1; see [`QuestionSense`](super::QuestionSense).
    pub sense: f32,
}

const FACTORS: usize = 7;

impl Evidence {
    /// The numbers that belief depends on.
    fn factors(&self) -> [f32; FACTORS] {
        let odds = self.reliability.clamp(0.01, 0.99);
        [
            self.log_probability.exp(),
            self.log_probability.max(-8.0),
            self.agreement,
            (odds / (1.0 - odds)).ln(),
            (self.said as f32).ln_1p(),
            self.kind.clamp(-2.0, 2.0),
            self.sense.clamp(-2.0, 2.0),
        ]
    }
}

/// An answer of which it is known whether it is right.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct JudgedAnswer {
    pub(crate) evidence: Evidence,
    pub(crate) right: bool,
    /// Weight, as a number of answers.
    pub(crate) weight: f32,
    /// The part, of [`FOLDS`], that all answers about the subject are in.
    pub(crate) fold: usize,
}

/// Positions at which the slope of a factor may change, in deviations from its mean.
const BENDS: [f32; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];
/// Coefficients that all relations share: a constant, and of each factor its slope and the changes of it.
const COMMON: usize = 1 + FACTORS * (1 + BENDS.len());
/// Coefficients that each relation adds: a constant, and of each factor a slope.
const OWN: usize = 1 + FACTORS;
/// L2 penalties: slope, slope change, relation intercept, relation slope (a misclassified answer costs about 1).
const COSTS: [f64; 4] = [0.15, 0.6, 0.3, 1.0];
/// Steps of Newton's method at most, and the change of coefficients below which it has arrived.
const STEPS: usize = 50;
const ARRIVED: f64 = 1e-4;

/// The probability that an answer is right, given its [`Evidence`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Belief {
    /// Mean and deviation of each factor over the cases.
    scales: [(f32, f32); FACTORS],
    /// Coefficients of all relations together, followed by those of each.
    coefficients: Vec<f32>,
    /// Answers at least this probable are believed: where, over the cases, as many wrong ones are let in as right ones
    /// are lost.
    pub threshold: f32,
}

impl Belief {
    /// Fits the coefficients to answers, and the threshold by cross-validation over [folds](JudgedAnswer::fold), so that as
    /// many right answers are hidden as wrong ones shown.
    pub(crate) fn fit(cases: &[JudgedAnswer]) -> Belief {
        let right: f32 = cases.iter().filter(|case| case.right).map(|case| case.weight).sum();
        Belief::with_threshold(cases, |right_in, wrong_in| wrong_in <= right - right_in)
    }

    /// Fits the coefficients to answers, and the threshold by cross-validation over [folds](JudgedAnswer::fold), so that at
    /// least the share `right` of the believed answers is right.
    pub(crate) fn fit_right(cases: &[JudgedAnswer], right: f32) -> Belief {
        Belief::with_threshold(cases, |right_in, wrong_in| right_in >= right * (right_in + wrong_in))
    }

    /// Fits the coefficients to cases. The threshold is the least belief at which `holds` for the weights of the right and the
    /// wrong answers that are let in.
    fn with_threshold(cases: &[JudgedAnswer], holds: impl Fn(f32, f32) -> bool) -> Belief {
        let mut belief = Belief { threshold: 0.5, ..Belief::of(&cases.iter().collect::<Vec<_>>()) };
        let (mut right_in, mut wrong_in) = (0.0, 0.0);
        for (probability, right, weight) in Belief::judged(cases) {
            *(if right { &mut right_in } else { &mut wrong_in }) += weight;
            if holds(right_in, wrong_in) {
                belief.threshold = probability.clamp(0.05, 0.95);
            }
        }
        belief
    }

    /// Beliefs in cases by what the other folds teach, whether they are right, and their weights; the most believed first.
    fn judged(cases: &[JudgedAnswer]) -> Vec<(f32, bool, f32)> {
        let mut judged: Vec<(f32, bool, f32)> = Vec::with_capacity(cases.len());
        for fold in 0..FOLDS {
            let (own, others): (Vec<&JudgedAnswer>, Vec<&JudgedAnswer>) =
                cases.iter().partition(|case| case.fold == fold);
            let belief = Belief::of(&others);
            judged.extend(own.iter().map(|case| (belief.in_answer(&case.evidence), case.right, case.weight)));
        }
        judged.sort_by(|a, b| b.0.total_cmp(&a.0));
        judged
    }

    /// Fits the coefficients, by Newton's method on the penalised likelihood.
    fn of(cases: &[&JudgedAnswer]) -> Belief {
        let relations = cases.iter().map(|case| case.evidence.relation + 1).max().unwrap_or(0);
        let size = COMMON + relations * OWN;
        let mut belief = Belief { scales: scales(cases), coefficients: vec![0.0; size], ..Belief::default() };
        let mut solution = vec![0.0; size];
        for _ in 0..STEPS {
            let mut gradient = Mat::from_fn(size, 1, |place, _| -cost(place) * solution[place]);
            let mut curvature = Mat::from_fn(size, size, |i, j| if i == j { cost(i) } else { 0.0 });
            for case in cases {
                let terms: Vec<(usize, f64)> = belief.terms(&case.evidence).collect();
                let probability = sigmoid(terms.iter().map(|(place, x)| solution[*place] * x).sum());
                let weight = f64::from(case.weight);
                let error = weight * (f64::from(case.right) - probability);
                let slope = weight * probability * (1.0 - probability);
                for (i, x) in &terms {
                    gradient[(*i, 0)] += error * x;
                    terms.iter().for_each(|(j, y)| curvature[(*i, *j)] += slope * x * y);
                }
            }
            // The costs make it positive definite; only values that are no numbers can break that.
            let Ok(factors) = curvature.llt(Side::Lower) else { break };
            let step = factors.solve(&gradient);
            solution.iter_mut().enumerate().for_each(|(place, value)| *value += step[(place, 0)]);
            if (0..size).all(|place| step[(place, 0)].abs() < ARRIVED) {
                break;
            }
        }
        belief.coefficients.iter_mut().zip(solution).for_each(|(to, from)| *to = from as f32);
        belief
    }

    /// The probability that an answer with this evidence is right.
    pub(crate) fn in_answer(&self, evidence: &Evidence) -> f32 {
        let coefficient = |place: usize| f64::from(self.coefficients.get(place).copied().unwrap_or(0.0));
        sigmoid(self.terms(evidence).map(|(place, x)| coefficient(place) * x).sum()) as f32
    }

    /// Design vector, sparse: places of coefficients, and numbers.
    fn terms(&self, evidence: &Evidence) -> impl Iterator<Item = (usize, f64)> + use<> {
        let mut factors = evidence.factors();
        for (factor, (mean, deviation)) in factors.iter_mut().zip(self.scales) {
            *factor = (*factor - mean) / deviation.max(1e-3);
        }
        let bent = factors
            .into_iter()
            .flat_map(|x| std::iter::once(x).chain(BENDS.into_iter().map(move |bend| (x - bend).max(0.0))));
        let common = std::iter::once(1.0).chain(bent).enumerate();
        let start = COMMON + evidence.relation * OWN;
        let own = std::iter::once(1.0).chain(factors).enumerate().map(move |(place, x)| (start + place, x));
        common.chain(own).map(|(place, x)| (place, f64::from(x)))
    }
}

/// L2 penalty of the coefficient at a place.
fn cost(place: usize) -> f64 {
    let [slope, bend, constant, own_slope] = COSTS;
    match place {
        0 => slope,
        place if place < COMMON && (place - 1).is_multiple_of(1 + BENDS.len()) => slope,
        place if place < COMMON => bend,
        place if (place - COMMON).is_multiple_of(OWN) => constant,
        _ => own_slope,
    }
}

/// Mean and deviation of each factor.
fn scales(cases: &[&JudgedAnswer]) -> [(f32, f32); FACTORS] {
    let count = cases.len().max(1) as f32;
    std::array::from_fn(|factor| {
        let of = |case: &&JudgedAnswer| case.evidence.factors()[factor];
        let mean = cases.iter().map(of).sum::<f32>() / count;
        let square = cases.iter().map(|case| (of(case) - mean).powi(2)).sum::<f32>() / count;
        (mean, square.sqrt())
    })
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belief_follows_the_cases() {
        let case = |log_probability, reliability, right, fold| {
            let evidence = Evidence {
                relation: 0,
                log_probability,
                agreement: 1.0,
                reliability,
                said: 3,
                kind: 1.0,
                sense: 1.0,
            };
            JudgedAnswer { evidence, right, weight: 1.0, fold }
        };
        // Right where it is likely and reliable, wrong where not.
        let cases: Vec<_> = (0..200)
            .map(|i| {
                let (likely, reliable) = (i % 2 == 0, i % 3 > 0);
                let (log_probability, reliability) =
                    (if likely { -0.1 } else { -3.0 }, if reliable { 0.9 } else { 0.1 });
                case(log_probability, reliability, likely && reliable, i % FOLDS)
            })
            .collect();
        let belief = Belief::fit(&cases);
        let of = |p: f32, r| belief.in_answer(&case(p, r, true, 0).evidence);
        assert!(of(-0.1, 0.9) > 0.8, "{}", of(-0.1, 0.9));
        // The more of it must be right, the less is believed.
        let noisy = cases.iter().enumerate();
        let noisy = noisy.map(|(i, case)| JudgedAnswer { right: case.right != (i % 7 == 0), ..*case });
        let noisy: Vec<JudgedAnswer> = noisy.collect();
        let threshold = |right| Belief::fit_right(&noisy, right).threshold;
        assert!(threshold(0.3) < threshold(0.8), "{} {}", threshold(0.3), threshold(0.8));
        assert!(of(-0.1, 0.1) < 0.3 && of(-3.0, 0.9) < 0.3 && of(-3.0, 0.1) < 0.1);
    }
}
