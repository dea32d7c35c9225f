//! Edited features in the forward pass: a model that shares all weights with another but for some features.
//!
//! The features that an edit names become a small step of their own, in floats. Wherever a step looks at its features,
//! it overwrites those values with the small step's; where it writes them down, it takes them out first and has the
//! small step write them. So nothing is subtracted, thousands of edits are three small products, and everything that
//! reads features sees the edits: the dense step, the walk, attribution.

use larql_compute::{ComputeError, Matrix};
use larql_vindex::FeatureEdit;

use super::Dense;
use crate::projection::Projection;

/// Features of a step that are not what its weights say.
#[derive(Clone, Debug)]
pub(crate) struct EditedFeatures {
    /// Their numbers in the step, ascending.
    features: Vec<usize>,
    /// A step of these features alone.
    pub(crate) step: Box<Dense>,
}

impl EditedFeatures {
    /// The step that a feature is in, if it is edited, and its number there.
    pub(crate) fn place(&self, feature: usize) -> Option<(&Dense, usize)> {
        self.features.binary_search(&feature).ok().map(|place| (&*self.step, place))
    }

    /// Overwrites values `[tokens, all features]` with those of the edited ones, `[tokens, edited features]`.
    pub(crate) fn put(&self, values: &mut [f32], edited: &[f32]) {
        let tokens = edited.len() / self.features.len();
        let rows = values.chunks_exact_mut(values.len() / tokens.max(1));
        for (values, edited) in rows.zip(edited.chunks_exact(self.features.len())) {
            self.features.iter().zip(edited).for_each(|(feature, value)| values[*feature] = *value);
        }
    }

    /// Takes the values of edited features, `[tokens, edited features]`, out of `values`, which has `[tokens, all
    /// features]`, and leaves zeros.
    pub(crate) fn take(&self, values: &mut [f32], all_features: usize) -> Vec<f32> {
        let rows = values.chunks_exact_mut(all_features);
        rows.flat_map(|row| self.features.iter().map(|feature| std::mem::take(&mut row[*feature]))).collect()
    }
}

impl Dense {
    /// Sets the edits of its features, in order of their numbers.
    pub(crate) fn edit(&mut self, edits: &[(usize, &FeatureEdit)]) -> Result<(), ComputeError> {
        self.edits = None;
        if edits.is_empty() {
            return Ok(());
        }
        let features: Vec<usize> = edits.iter().map(|(feature, _)| *feature).collect();
        let gate = self.gate.edited_rows(edits, |edited| edited.gate.as_deref())?;
        let up =
            self.up.as_ref().map(|up| up.edited_rows(edits, |edited| edited.up.as_deref())).transpose()?;
        let down = self.edited_down(edits)?;
        let step = Dense { activation: self.activation, gate, up, down, edits: None };
        self.edits = Some(EditedFeatures { features, step: Box::new(step) });
        Ok(())
    }

    /// Down vectors of edited features, `[hidden, edited features]`. The bias belongs to no feature and stays where it is.
    fn edited_down(&self, edits: &[(usize, &FeatureEdit)]) -> Result<Projection, ComputeError> {
        let base = self.down.weight.view();
        let mut values = vec![0.0; base.rows() * edits.len()];
        let mut column = vec![0.0; base.rows()];
        for (place, (feature, edit)) in edits.iter().enumerate() {
            let written = match edit {
                FeatureEdit::Deleted => continue,
                FeatureEdit::Changed(edited) => match &edited.down {
                    Some(down) => down,
                    None => {
                        base.decode_column(*feature, &mut column);
                        &column[..]
                    }
                },
            };
            let places = values.iter_mut().skip(place).step_by(edits.len());
            places.zip(written).for_each(|(value, written)| *value = *written);
        }
        let weight = Matrix::from_f32(base.rows(), edits.len(), &values)?;
        Ok(Projection { weight, bias: None })
    }
}

impl Projection {
    /// The rows of edited features, `[edited features, hidden]`, with their biases: `vector` where the edit has one,
    /// else this projection's, and nothing for deleted ones.
    fn edited_rows(
        &self,
        edits: &[(usize, &FeatureEdit)],
        vector: impl Fn(&larql_vindex::EditedFeature) -> Option<&[f32]>,
    ) -> Result<Projection, ComputeError> {
        let hidden = self.weight.cols();
        let mut values = vec![0.0; edits.len() * hidden];
        for ((feature, edit), row) in edits.iter().zip(values.chunks_exact_mut(hidden)) {
            let FeatureEdit::Changed(edited) = edit else { continue };
            match vector(edited) {
                Some(vector) => row.copy_from_slice(vector),
                None => self.weight.view().decode_row(*feature, row),
            }
        }
        let bias_of = |(feature, edit): &(usize, &FeatureEdit), bias: &[f32]| match edit {
            FeatureEdit::Deleted => 0.0,
            FeatureEdit::Changed(_) => bias[*feature],
        };
        let bias = self.bias.as_ref().map(|bias| edits.iter().map(|edit| bias_of(edit, bias)).collect());
        Ok(Projection { weight: Matrix::from_f32(edits.len(), hidden, &values)?, bias })
    }
}
