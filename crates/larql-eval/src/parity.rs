//! Parity of two models that should be one: their weights tensor by tensor, and their logits on the same tokens.

use std::sync::Arc;

use larql_compute::{Matrix, Pool};
use larql_inference::{KeyValueCache, Model};
use larql_models::{Role, Shape, WeightSource};
use larql_vindex_spec::{Thresholds, sampled_layers};
use serde::Serialize;

use crate::error::EvalError;

/// Result of comparing two models.
#[derive(Clone, Debug, Serialize)]
pub struct ParityReport {
    /// The matrices that both have, in the order of the model.
    pub tensors: Vec<TensorParity>,
    /// Matrices that only one of them has.
    pub unpaired: Vec<String>,
    /// Comparison of their outputs, if both run.
    pub logits: Option<LogitParity>,
}

/// Difference of a matrix.
#[derive(Clone, Debug, Serialize)]
pub struct TensorParity {
    /// Its role.
    pub tensor: String,
    /// Formats in the one and the other.
    pub formats: [String; 2],
    /// Cosine of all values.
    pub cosine: f64,
    /// Largest difference of two values.
    pub max_difference: f64,
    /// True if both are within the limits.
    pub is_within: bool,
}

/// Difference of the logits after every token of a sequence.
#[derive(Clone, Debug, Serialize)]
pub struct LogitParity {
    /// Number of tokens.
    pub tokens: usize,
    /// Number of positions at which the most probable token is the same.
    pub same_top: usize,
    /// Largest difference of a logit.
    pub max_difference: f32,
}

impl ParityReport {
    /// Returns true if every matrix is within the limits, and none is missing.
    pub fn is_within(&self) -> bool {
        self.unpaired.is_empty() && self.tensors.iter().all(|tensor| tensor.is_within)
    }
}

/// Compares the matrices of two sources, those outside of layers and those of sampled layers, or of all, and the logits
/// on a sequence of token ids. Queries and keys whose rows lie in another order in the other one are left to the logits.
///
/// # Errors
/// If the models have other sizes, or a matrix cannot be read.
pub fn parity(
    one: &dyn WeightSource,
    other: &dyn WeightSource,
    limits: Thresholds,
    all_layers: bool,
    tokens: &[u32],
    pool: &Arc<Pool>,
) -> Result<ParityReport, EvalError> {
    let layers = one.spec().layers.len();
    let sampled = if all_layers { (0..layers).collect() } else { sampled_layers(layers) };
    let (mut tensors, mut unpaired) = (Vec::new(), Vec::new());
    for (role, shape) in one.spec().tensors() {
        let is_sampled = match role {
            Role::Layer(layer, _) => sampled.contains(&layer),
            _ => true,
        };
        let is_reordered = one.spec().orders_rows_otherwise(other.spec(), role);
        if !is_sampled || is_reordered || !matches!(shape, Shape::Matrix(..)) {
            continue;
        }
        match (one.matrix(role), other.matrix(role)) {
            (Ok(a), Ok(b)) if (a.rows(), a.cols()) == (b.rows(), b.cols()) => {
                let (cosine, max_difference) = difference(&a, &b);
                let formats = [a.format().to_string(), b.format().to_string()];
                let is_within = limits.accept(cosine, max_difference);
                tensors.push(TensorParity {
                    tensor: role.to_string(),
                    formats,
                    cosine,
                    max_difference,
                    is_within,
                });
            }
            (Err(_), Err(_)) => {}
            _ => unpaired.push(role.to_string()),
        }
    }
    let models = (Model::load(one, Arc::clone(pool)), Model::load(other, Arc::clone(pool)));
    let logits = match models {
        (Ok(a), Ok(b)) => Some(compare_logits(&a, &b, tokens)?),
        _ => None,
    };
    Ok(ParityReport { tensors, unpaired, logits })
}

/// Cosine and largest difference of two matrices of one shape, row by row. A cosine is at most 1, whatever rounding says.
fn difference(a: &Matrix, b: &Matrix) -> (f64, f64) {
    let (mut x, mut y) = (vec![0.0; a.cols()], vec![0.0; b.cols()]);
    let (mut product, mut squares, mut largest) = (0.0, [0.0, 0.0], 0.0_f64);
    for row in 0..a.rows() {
        a.view().decode_row(row, &mut x);
        b.view().decode_row(row, &mut y);
        for (x, y) in x.iter().zip(&y).map(|(x, y)| (f64::from(*x), f64::from(*y))) {
            product += x * y;
            squares[0] += x * x;
            squares[1] += y * y;
            let difference = (x - y).abs();
            // `max` would forget a value that is no number.
            largest =
                if difference.is_nan() || largest.is_nan() { f64::NAN } else { largest.max(difference) };
        }
    }
    // Equal values have cosine 1, zeros included.
    let cosine = if largest == 0.0 { 1.0 } else { (product / (squares[0] * squares[1]).sqrt()).min(1.0) };
    (cosine, largest)
}

fn compare_logits(one: &Model, other: &Model, tokens: &[u32]) -> Result<LogitParity, EvalError> {
    let logits = |model: &Model| model.pass().all_logits(&mut KeyValueCache::new(model.spec()), tokens);
    let (a, b) = (logits(one)?, logits(other)?);
    let vocabulary = one.spec().vocab_size;
    let top = |row: &[f32]| (0..row.len()).max_by(|i, j| row[*i].total_cmp(&row[*j]));
    let rows = a.chunks(vocabulary).zip(b.chunks(vocabulary));
    Ok(LogitParity {
        tokens: tokens.len(),
        same_top: rows.filter(|(a, b)| top(a) == top(b)).count(),
        max_difference: a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_measured_and_damage_is_not_hidden() {
        let matrix = |values: [f32; 4]| Matrix::from_f32(2, 2, &values).unwrap();
        let plain = matrix([1.0, 2.0, 0.0, -1.0]);
        assert_eq!(difference(&plain, &plain), (1.0, 0.0));
        assert_eq!(difference(&matrix([0.0; 4]), &matrix([0.0; 4])), (1.0, 0.0));
        let (cosine, largest) = difference(&plain, &matrix([1.0, 2.0, 0.0, 1.0]));
        assert!((cosine - 4.0 / 6.0).abs() < 1e-6 && largest == 2.0);
        assert!(difference(&plain, &matrix([1.0, f32::NAN, 0.0, -1.0])).1.is_nan());
    }
}
