//! Weights outside of features that differ between two vindexes, such as those of attention.

use std::ops::Range;

use larql_compute::Matrix;
use larql_lql::output::WeightDifference;
use larql_models::{Role, Shape, WeightSource};
use larql_vindex::Overlay;

use crate::diff::ROUNDING;
use crate::{ExecuteError, Session};

/// Returns the tensors outside of features that differ in some layers and, if these are all, outside of layers; those that
/// only one of the two holds, or holds in another shape or order, are left out.
pub(crate) fn other_weights(
    session: &Session,
    base: &Overlay,
    other: &Overlay,
    layers: &Range<usize>,
) -> Result<Vec<WeightDifference>, ExecuteError> {
    let spec = base.spec();
    let mut found: Vec<WeightDifference> = Vec::new();
    for (role, shape) in spec.tensors() {
        session.check_cancelled()?;
        let layer = match role {
            Role::Layer(layer, role) if layers.contains(&layer) && !role.holds_features() => Some(layer),
            Role::Layer(..) => continue,
            _ if layers.len() < spec.layers.len() => continue,
            _ => None,
        };
        if spec.orders_rows_otherwise(other.spec(), role) {
            continue;
        }
        let share = match shape {
            Shape::Matrix(..) => match (base.matrix(role), other.matrix(role)) {
                (Ok(before), Ok(after)) => share_of_matrices(&before, &after),
                _ => None,
            },
            Shape::Vector(_) => match (base.vector(role), other.vector(role)) {
                (Ok(before), Ok(after)) if before.len() == after.len() => {
                    Some(share_of(squares(&before, &after)))
                }
                _ => None,
            },
        };
        let Some(share) = share.filter(|share| *share > ROUNDING) else { continue };
        let name = spec.tensor_name(role);
        let tensor = match layer {
            Some(layer) => name.trim_start_matches(&format!("layers.{layer}.")).to_owned(),
            None => name,
        };
        match found.iter_mut().find(|found| found.tensor == tensor) {
            Some(found) => {
                found.layers.extend(layer);
                found.share = found.share.max(share);
            }
            None => found.push(WeightDifference { tensor, layers: layer.into_iter().collect(), share }),
        }
    }
    Ok(found)
}

/// Norm of the difference of two matrices, as a share of the norm of the first; none if they differ in shape.
fn share_of_matrices(before: &Matrix, after: &Matrix) -> Option<f32> {
    if (before.rows(), before.cols()) != (after.rows(), after.cols()) {
        return None;
    }
    if before.format() == after.format() && before.bytes() == after.bytes() {
        return Some(0.0);
    }
    let (mut x, mut y) = (vec![0.0; before.cols()], vec![0.0; after.cols()]);
    let rows = (0..before.rows()).map(|row| {
        before.view().decode_row(row, &mut x);
        after.view().decode_row(row, &mut y);
        squares(&x, &y)
    });
    Some(share_of(rows.fold([0.0; 2], |sums, [difference, length]| [sums[0] + difference, sums[1] + length])))
}

/// Square of the length of the difference of two vectors, and of the first.
fn squares(before: &[f32], after: &[f32]) -> [f64; 2] {
    before.iter().zip(after).fold([0.0; 2], |[difference, length], (before, after)| {
        let (before, after) = (f64::from(*before), f64::from(*after));
        [difference + (before - after).powi(2), length + before * before]
    })
}

/// Length of a difference as a share of a length, from their squares; 1 where there is no length to compare with.
fn share_of([difference, length]: [f64; 2]) -> f32 {
    match (difference / length).sqrt() as f32 {
        share if share.is_finite() => share,
        _ if difference == 0.0 => 0.0,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_whatever_is_compared() {
        assert_eq!(share_of(squares(&[3.0, 4.0], &[3.0, 4.5])), 0.1);
        assert_eq!(share_of(squares(&[0.0, 0.0], &[0.0, 0.0])), 0.0);
        assert_eq!(share_of(squares(&[0.0, 0.0], &[0.0, 2.0])), 1.0);
        assert_eq!(share_of(squares(&[1.0, 0.0], &[f32::NAN, 0.0])), 1.0);
    }

    #[test]
    fn matrices_of_other_shapes_are_not_compared() {
        let matrix = |rows, cols| Matrix::from_f32(rows, cols, &vec![1.0; rows * cols]).unwrap();
        assert_eq!(share_of_matrices(&matrix(2, 3), &matrix(3, 2)), None);
        assert_eq!(share_of_matrices(&matrix(2, 3), &matrix(2, 3)), Some(0.0));
    }
}
