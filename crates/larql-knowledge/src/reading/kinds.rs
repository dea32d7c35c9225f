//! Prediction of the relations that an entity has: kernel ridge regression on the feed-forward input of one layer at the
//! entity's last token.
//!
//! Linear discriminants on the same vectors told held-out subjects apart less well; `docs/src/notebook/knowledge.md` has the figures.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use larql_compute::vector::{dot, normalised};

/// Entities whose relations are known, and how much they say about an entity that resembles them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubjectKinds {
    /// The layer whose feed-forward input is looked at.
    pub(crate) layer: usize,
    /// Relations with a lower score need not be asked about: hardly any that an entity has is below.
    pub(crate) least: f32,
    /// Number of relations.
    pub(crate) relations: usize,
    /// Feed-forward inputs of known entities, each of length 1, `[entities, hidden]`.
    pub(crate) known: Vec<f32>,
    /// Dual coefficients of the regression, `[entities, relations]`.
    pub(crate) weights: Vec<f32>,
    /// Score of an entity that resembles none, `[relations]`.
    pub(crate) offsets: Vec<f32>,
}

/// Scores of entities by what is known without them, `[entities][relations]`.
pub(crate) type CrossScores = Vec<Vec<f32>>;

/// Parts that entities are cut into so that each can be scored by what the others teach.
pub(crate) const FOLDS: usize = 5;
/// The share of relations that entities have whose scores may be below [`SubjectKinds::least`].
const MISSED: f64 = 0.01;
/// Ridge: added to every entity's likeness to itself, so that none is believed alone.
const RIDGE: f64 = 0.1;

impl SubjectKinds {
    /// Learns from entities, `inputs` `[entities, hidden]`, of which `has` says for each relation which ones have it; and
    /// says how each would be scored by what the others teach.
    pub(crate) fn learn(
        layer: usize,
        inputs: &[f32],
        hidden: usize,
        has: &[Vec<bool>],
    ) -> (SubjectKinds, CrossScores) {
        let all: Vec<Vec<f32>> = inputs.chunks_exact(hidden).map(normalised).collect();
        let fit = |chosen: &[usize]| SubjectKinds::fit(layer, &all, chosen, has);
        let everyone: Vec<usize> = (0..all.len()).collect();
        let mut kinds = fit(&everyone);
        let mut scores: CrossScores = vec![Vec::new(); all.len()];
        for fold in 0..FOLDS {
            let others: Vec<usize> =
                everyone.iter().copied().filter(|entity| entity % FOLDS != fold).collect();
            let fitted = fit(&others);
            for entity in (fold..all.len()).step_by(FOLDS) {
                scores[entity] = fitted.scores(&all[entity]);
            }
        }
        let mut own: Vec<f32> = Vec::new();
        for (relation, has) in has.iter().enumerate() {
            own.extend(has.iter().zip(&scores).filter(|(has, _)| **has).map(|(_, scores)| scores[relation]));
        }
        own.sort_by(f32::total_cmp);
        kinds.least = own.get((own.len() as f64 * MISSED) as usize).copied().unwrap_or(0.0);
        (kinds, scores)
    }

    fn fit(layer: usize, all: &[Vec<f32>], chosen: &[usize], has: &[Vec<bool>]) -> SubjectKinds {
        let sign = |has: bool| if has { 1.0 } else { -1.0 };
        let count = chosen.len();
        let offsets: Vec<f64> = has
            .iter()
            .map(|has| chosen.iter().map(|i| sign(has[*i])).sum::<f64>() / count.max(1) as f64)
            .collect();
        let likeness = Mat::from_fn(count, count, |i, j| {
            let ridge = if i == j { RIDGE } else { 0.0 };
            f64::from(likeness(&all[chosen[i]], &all[chosen[j]])) + ridge
        });
        let wanted = Mat::from_fn(count, has.len(), |i, r| sign(has[r][chosen[i]]) - offsets[r]);
        // The ridge makes it positive definite; only values that are no numbers can break that.
        let weights = match likeness.llt(Side::Lower) {
            Ok(factors) => factors.solve(&wanted),
            Err(_) => Mat::zeros(count, has.len()),
        };
        SubjectKinds {
            layer,
            least: 0.0,
            relations: has.len(),
            known: chosen.iter().flat_map(|i| all[*i].iter().copied()).collect(),
            weights: (0..count)
                .flat_map(|i| (0..has.len()).map(move |r| (i, r)))
                .map(|at| weights[at] as f32)
                .collect(),
            offsets: offsets.into_iter().map(|offset| offset as f32).collect(),
        }
    }

    /// The feed-forward inputs of known entities, `[hidden]` each.
    pub(crate) fn known_rows(&self) -> impl Iterator<Item = &[f32]> {
        let entities = self.weights.len() / self.relations.max(1);
        self.known.chunks_exact((self.known.len() / entities.max(1)).max(1))
    }

    /// Predicts the relations of an entity, about 1 for one that it has and -1 for another, from its feed-forward input,
    /// `[hidden]`, in the layer of the regression.
    pub(crate) fn scores(&self, input: &[f32]) -> Vec<f32> {
        let input = normalised(input);
        let mut scores = self.offsets.clone();
        let known = self.known.chunks_exact(input.len()).zip(self.weights.chunks_exact(self.relations));
        for (known, weights) in known {
            let likeness = likeness(known, &input);
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += weight * likeness);
        }
        scores
    }
}

/// Gaussian kernel of two vectors of length 1, from 0 to 1.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    (2.0 * (dot(a, b) - 1.0)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_have_the_relations_of_those_they_resemble() {
        let entity =
            |i: usize| [if i.is_multiple_of(2) { 1.0 } else { -1.0 }, (i % 7) as f32 * 0.2 - 0.6, 0.5];
        let entities: Vec<f32> = (0..60).flat_map(entity).collect();
        let has: Vec<bool> = (0..60usize).map(|i| i.is_multiple_of(2)).collect();
        let hasnt: Vec<bool> = has.iter().map(|has| !has).collect();
        let (kinds, cross) = SubjectKinds::learn(3, &entities, 3, &[has, hasnt]);
        for noise in [-0.5, 0.0, 0.5] {
            let [one, other] = kinds.scores(&[1.0, noise, 0.5])[..] else { panic!("two relations") };
            assert!(one > 0.7 && other < -0.7, "{one} {other}");
            assert!(kinds.scores(&[-1.0, noise, 0.5])[0] < -0.7);
        }
        assert!(cross[0][0] > 0.5 && cross[1][0] < -0.5 && kinds.least > 0.5);
    }
}
