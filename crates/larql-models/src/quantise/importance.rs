//! Importance of the columns of matrices.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Role;

/// Smallest importance of a column, as a share of the mean: text beyond the calibration text may need the column.
const FLOOR: f32 = 1e-3;

/// Importance of each column of each matrix: the mean square of what the column is multiplied with on calibration text.
/// Blocks whose codes are chosen by it keep products near, rather than weights.
///
/// Serialised, it is a number that differs from that of other importance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnImportance {
    columns: HashMap<Role, Arc<[f32]>>,
}

impl ColumnImportance {
    /// Adds matrices that are multiplied with the same values, whose mean squares are `squares`, `[cols]`. Squares that are
    /// all zero, or not finite, say nothing and are left out.
    pub fn insert(&mut self, roles: impl IntoIterator<Item = Role>, squares: &[f32]) {
        let mean = squares.iter().sum::<f32>() / squares.len().max(1) as f32;
        if !mean.is_finite() || mean <= 0.0 {
            return;
        }
        // Only ratios count; around one they neither overflow nor vanish.
        let columns: Arc<[f32]> = squares.iter().map(|square| (square / mean).max(FLOOR)).collect();
        self.columns.extend(roles.into_iter().map(|role| (role, Arc::clone(&columns))));
    }

    /// The importance of a matrix's columns, `[cols]`, around one and above zero; none if it is not known.
    pub fn of(&self, role: Role) -> Option<&[f32]> {
        self.columns.get(&role).map(|columns| &**columns)
    }

    /// Number of matrices whose importance is known.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// True if that of no matrix is known.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

impl Serialize for ColumnImportance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let squares = |columns: &Arc<[f32]>| columns.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let mut sums: Vec<f64> = self.columns.values().map(squares).collect();
        // In an order that does not depend on the map's.
        sums.sort_by(f64::total_cmp);
        serializer.serialize_f64(sums.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LayerRole;

    #[test]
    fn importance_is_around_one_and_never_zero() {
        let mut importance = ColumnImportance::default();
        let role = |layer| Role::Layer(layer, LayerRole::Query);
        importance.insert([role(0), role(1)], &[0.0, 2.0, 4.0]);
        importance.insert([role(2)], &[0.0, 0.0]);
        importance.insert([role(3)], &[f32::NAN, 1.0]);
        assert_eq!(importance.of(role(1)), Some(&[FLOOR, 1.0, 2.0][..]));
        assert_eq!((importance.len(), importance.of(role(2))), (2, None));
    }
}
