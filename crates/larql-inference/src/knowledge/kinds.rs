//! What kind of thing an entity is, as far as it decides which relations it has: linear discriminants on the
//! feed-forward input of a middle layer at the entity's last token.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use serde::{Deserialize, Serialize};

/// For each relation a direction along which entities that have it differ from those that do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubjectKinds {
    /// The layer whose feed-forward input is looked at.
    pub layer: usize,
    /// For each relation a direction, `[hidden]`, and what is added to the product with it: entities that have
    /// the relation lie about 1, others about -1.
    discriminants: Vec<(Vec<f32>, f32)>,
}

/// How much of the average variance is added to every direction's, since there are fewer entities than it takes to
/// know it.
const SHRINKAGE: f64 = 0.1;

impl SubjectKinds {
    /// Fits discriminants to entities, `inputs` `[entities, hidden]`, of which `has` says for each relation which
    /// ones have it.
    pub(crate) fn fit(layer: usize, inputs: &[f32], hidden: usize, has: &[Vec<bool>]) -> SubjectKinds {
        let count = inputs.len() / hidden;
        let rows = |wanted: &dyn Fn(usize) -> bool| -> Vec<&[f32]> {
            inputs.chunks_exact(hidden).enumerate().filter(|(i, _)| wanted(*i)).map(|(_, row)| row).collect()
        };
        // Entities with the same relations are one class; the spread within classes is what does not matter.
        let class = |entity: usize| has.iter().map(|has| has[entity]).collect::<Vec<bool>>();
        let mut classes: Vec<Vec<bool>> = (0..count).map(class).collect();
        let of_entity = classes.clone();
        classes.sort();
        classes.dedup();
        let mut centred = Mat::<f64>::zeros(count, hidden);
        for kind in &classes {
            let mean = mean(&rows(&|i| of_entity[i] == *kind), hidden);
            for entity in (0..count).filter(|i| of_entity[*i] == *kind) {
                for (column, (x, mean)) in inputs[entity * hidden..][..hidden].iter().zip(&mean).enumerate() {
                    centred[(entity, column)] = f64::from(*x) - mean;
                }
            }
        }
        let mut spread = centred.transpose() * &centred;
        let average = (0..hidden).map(|i| spread[(i, i)]).sum::<f64>() / hidden as f64;
        for i in 0..hidden {
            spread[(i, i)] += SHRINKAGE * average + f64::MIN_POSITIVE;
        }
        let mut differences = Mat::<f64>::zeros(hidden, has.len());
        for (relation, has) in has.iter().enumerate() {
            let (with, without) = (mean(&rows(&|i| has[i]), hidden), mean(&rows(&|i| !has[i]), hidden));
            for (row, (a, b)) in with.iter().zip(&without).enumerate() {
                differences[(row, relation)] = a - b;
            }
        }
        let directions = match spread.llt(Side::Lower) {
            Ok(factors) => factors.solve(&differences),
            // Entities that do not differ at all have no spread to divide by.
            Err(_) => differences,
        };
        let discriminants = has
            .iter()
            .enumerate()
            .map(|(relation, has)| {
                let direction: Vec<f64> = (0..hidden).map(|row| directions[(row, relation)]).collect();
                let along = |row: &[f32]| row.iter().zip(&direction).map(|(x, d)| f64::from(*x) * d).sum();
                let with: Vec<f64> = rows(&|i| has[i]).into_iter().map(along).collect();
                let without: Vec<f64> = rows(&|i| !has[i]).into_iter().map(along).collect();
                normalised(direction, &with, &without)
            })
            .collect();
        SubjectKinds { layer, discriminants }
    }

    /// How much an entity seems to have each relation, above 0 rather than not, for its feed-forward input
    /// `[hidden]` in the layer that is looked at.
    pub(crate) fn scores(&self, input: &[f32]) -> Vec<f32> {
        let score = |(direction, offset): &(Vec<f32>, f32)| {
            offset + direction.iter().zip(input).map(|(d, x)| d * x).sum::<f32>()
        };
        self.discriminants.iter().map(score).collect()
    }
}

/// The direction and offset with which those with a relation come to about 1, and those without to about -1; the border
/// is where both are equally many standard deviations away.
fn normalised(direction: Vec<f64>, with: &[f64], without: &[f64]) -> (Vec<f32>, f32) {
    let (high, high_spread) = mean_and_deviation(with);
    let (low, low_spread) = mean_and_deviation(without);
    let border = (high * low_spread + low * high_spread) / (high_spread + low_spread).max(f64::MIN_POSITIVE);
    let scale = 2.0 / (high - low).max(f64::MIN_POSITIVE);
    (direction.iter().map(|d| (d * scale) as f32).collect(), (-border * scale) as f32)
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    // A few entities never show all of the spread.
    (mean, (variance + 1e-6).sqrt())
}

fn mean(rows: &[&[f32]], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for row in rows {
        sum.iter_mut().zip(*row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sum.iter_mut().for_each(|sum| *sum /= rows.len().max(1) as f64);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_along_what_matters() {
        // The first value says the kind, the second is as large and says nothing.
        let entities: Vec<f32> = (0..40)
            .flat_map(|i| [if i % 2 == 0 { 1.0 } else { -1.0 } + (i % 5) as f32 * 0.01, (i % 7) as f32 - 3.0])
            .collect();
        let has: Vec<bool> = (0..40).map(|i| i % 2 == 0).collect();
        let kinds = SubjectKinds::fit(3, &entities, 2, &[has.clone(), has.iter().map(|h| !h).collect()]);
        for noise in [-3.0, 0.0, 3.0] {
            let [one, other] = kinds.scores(&[1.0, noise])[..] else { panic!("two relations") };
            assert!(one > 0.5 && other < -0.5, "{one} {other}");
            assert!(kinds.scores(&[-1.0, noise])[0] < -0.5);
        }
    }
}
