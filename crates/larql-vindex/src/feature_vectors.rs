//! All vectors of a layer's features, decoded, for comparing vindexes.

use larql_compute::Matrix;
use larql_models::{ModelError, ProjectionRoles, Role, StepRoles, WeightSource};

use crate::{EditedFeature, FeatureEdit, FeatureStore, Overlay, VindexError};

/// The vectors of a layer's features, `[hidden]` each.
#[derive(Clone, Debug)]
pub struct FeatureVectors {
    hidden: usize,
    gate: Vec<f32>,
    up: Option<Vec<f32>>,
    down: Option<Vec<f32>>,
}

impl FeatureVectors {
    fn of(&self, values: &[f32], feature: usize) -> Vec<f32> {
        values[feature * self.hidden..][..self.hidden].to_vec()
    }

    /// Gate row `[hidden]`.
    pub fn gate(&self, feature: usize) -> Vec<f32> {
        self.of(&self.gate, feature)
    }

    /// Its up row; none where the layer is not gated or the level does not have it.
    pub fn up(&self, feature: usize) -> Option<Vec<f32>> {
        self.up.as_ref().map(|up| self.of(up, feature))
    }

    /// Down vector `[hidden]`; none where the level does not have it.
    pub fn down(&self, feature: usize) -> Option<Vec<f32>> {
        self.down.as_ref().map(|down| self.of(down, feature))
    }
}

impl Overlay {
    /// Up row of a feature, decoded, `[hidden]`; none where the layer is not gated or its up rows are not held.
    ///
    /// # Errors
    /// If the matrix cannot be read.
    pub fn up_row(&self, layer: usize, feature: usize) -> Result<Option<Vec<f32>>, VindexError> {
        if let Some(FeatureEdit::Changed(EditedFeature { up: Some(up), .. })) =
            self.edits().get(layer, feature)
        {
            return Ok(Some(up.to_vec()));
        }
        let (step, row) = StepRoles::of_feature(&self.spec().layers[layer].feed_forward, feature);
        let Some(role) = step.up.map(|projection| Role::Layer(layer, projection.weight)) else {
            return Ok(None);
        };
        if !self.base().holds(role) {
            return Ok(None);
        }
        let rows = self.base().matrix(role)?;
        let mut up = vec![0.0; rows.cols()];
        rows.view().decode_row(row, &mut up);
        Ok(Some(up))
    }

    /// The vectors of all features of a layer, decoded: as much memory as the layer takes in f32.
    ///
    /// # Errors
    /// If a matrix cannot be read.
    pub fn feature_vectors(&self, layer: usize) -> Result<FeatureVectors, VindexError> {
        let (hidden, features) = (self.hidden_size(), self.features(layer));
        let mut gate = vec![0.0; features * hidden];
        for (feature, row) in gate.chunks_exact_mut(hidden).enumerate() {
            self.gate_row(layer, feature, row);
        }
        let steps = StepRoles::of_layer(&self.spec().layers[layer].feed_forward);
        let held = |projection: Option<ProjectionRoles>| -> Result<Option<Matrix>, ModelError> {
            let Some(projection) = projection else { return Ok(None) };
            let role = Role::Layer(layer, projection.weight);
            if self.base().holds(role) { self.base().matrix(role).map(Some) } else { Ok(None) }
        };
        let (mut up, mut down) = (Some(Vec::new()), Some(Vec::new()));
        for (step, count) in steps {
            up = match (up, held(step.up)?) {
                (Some(mut up), Some(rows)) => {
                    up.extend(rows.view().to_f32());
                    Some(up)
                }
                _ => None,
            };
            down = match (down, held(Some(step.down))?) {
                (Some(mut down), Some(columns)) => {
                    let start = down.len();
                    down.resize(start + count * hidden, 0.0);
                    let mut row = vec![0.0; count];
                    for r in 0..hidden {
                        columns.view().decode_row(r, &mut row);
                        let places = down[start + r..].iter_mut().step_by(hidden);
                        places.zip(&row).for_each(|(place, value)| *place = *value);
                    }
                    Some(down)
                }
                _ => None,
            };
        }
        let mut vectors = FeatureVectors { hidden, gate, up, down };
        for (feature, edit) in self.edits().of_layer(layer) {
            vectors.put(feature, edit);
        }
        Ok(vectors)
    }
}

impl FeatureVectors {
    /// Puts what an edit states of up and down in place.
    fn put(&mut self, feature: usize, edit: &FeatureEdit) {
        let zeros = vec![0.0; self.hidden].into();
        let deleted = EditedFeature { down: Some(zeros), ..EditedFeature::default() };
        let edited = match edit {
            FeatureEdit::Deleted => &deleted,
            FeatureEdit::Changed(edited) => edited,
        };
        for (values, vector) in [(&mut self.up, &edited.up), (&mut self.down, &edited.down)] {
            if let (Some(values), Some(vector)) = (values, vector) {
                values[feature * self.hidden..][..self.hidden].copy_from_slice(vector);
            }
        }
    }
}
