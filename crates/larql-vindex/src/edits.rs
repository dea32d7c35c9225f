//! Edited features: the data of an overlay.

use std::collections::BTreeMap;
use std::sync::Arc;

use larql_models::ModelSpec;

use crate::{Damage, TokenScore, VindexError};

/// Edited parts of a feature, which replace those of the base.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureEdit {
    /// The feature is deleted: it never fires and has no label.
    Deleted,
    /// Parts of the feature are replaced.
    Changed(EditedFeature),
}

/// The parts of a feature that an edit replaces; absent parts are the base's. So are its biases, where the
/// layer has any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EditedFeature {
    /// The gate row, `[hidden]`.
    pub gate: Option<Arc<[f32]>>,
    /// The up row, `[hidden]`; only where the layer is gated.
    pub up: Option<Arc<[f32]>>,
    /// The down vector, `[hidden]`.
    pub down: Option<Arc<[f32]>>,
    /// The tokens that it writes most, strongest first.
    pub tokens: Option<Vec<TokenScore>>,
    /// The edge that it stands for.
    pub edge: StatedEdge,
}

/// The edge that an edit assigns to a feature; any part may be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatedEdge {
    /// Its entity.
    pub entity: Option<String>,
    /// Its relation, which is the feature's label.
    pub relation: Option<String>,
    /// Its target.
    pub target: Option<String>,
    /// Confidence, 0 to 1.
    pub confidence: Option<f64>,
}

impl StatedEdge {
    /// True if it names a question whose answer was unlearned: what the feature writes in its place is no target.
    pub fn is_unlearned(&self) -> bool {
        self.entity.is_some() && self.relation.is_some() && self.target.is_none()
    }
}

/// Edited features by layer and feature. Vectors are shared, so a copy costs little.
///
/// In a mixture of experts features are numbered expert by expert, those of the step that every token passes last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureEdits {
    features: BTreeMap<(usize, usize), FeatureEdit>,
}

impl FeatureEdits {
    /// Edits a feature; an earlier edit of it is replaced.
    pub fn set(&mut self, layer: usize, feature: usize, edit: FeatureEdit) {
        self.features.insert((layer, feature), edit);
    }

    /// Removes the edit of a feature and returns it.
    pub fn remove(&mut self, layer: usize, feature: usize) -> Option<FeatureEdit> {
        self.features.remove(&(layer, feature))
    }

    /// State of a feature under edits.
    pub fn get(&self, layer: usize, feature: usize) -> Option<&FeatureEdit> {
        self.features.get(&(layer, feature))
    }

    /// The edited features of a layer, in order.
    pub fn of_layer(&self, layer: usize) -> impl Iterator<Item = (usize, &FeatureEdit)> {
        let range = (layer, 0)..=(layer, usize::MAX);
        self.features.range(range).map(|((_, feature), edit)| (*feature, edit))
    }

    /// All edited features as layer, feature and edit, in that order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, &FeatureEdit)> {
        self.features.iter().map(|((layer, feature), edit)| (*layer, *feature, edit))
    }

    /// Number of edited features.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// True if no part differs from the base.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Validates edits of a model: features must exist, and vectors must have the right width and finite values.
    ///
    /// # Errors
    /// [`VindexError::BadEdit`] with the first that does not fit.
    pub fn check(&self, spec: &ModelSpec) -> Result<(), VindexError> {
        self.iter().try_for_each(|(layer, feature, edit)| {
            edit.check(spec, layer, feature).map_err(|problem| VindexError::BadEdit {
                layer,
                feature,
                problem,
            })
        })
    }
}

impl FeatureEdit {
    /// True if a vector of the feature differs, and not its edge only.
    pub fn changes_vectors(&self) -> bool {
        match self {
            FeatureEdit::Deleted => true,
            FeatureEdit::Changed(EditedFeature { gate, up, down, .. }) => {
                gate.is_some() || up.is_some() || down.is_some()
            }
        }
    }

    /// Bytes that its vectors take.
    pub fn bytes(&self) -> usize {
        match self {
            FeatureEdit::Deleted => 0,
            FeatureEdit::Changed(EditedFeature { gate, up, down, .. }) => {
                [gate, up, down].into_iter().flatten().map(|vector| size_of_val(&**vector)).sum()
            }
        }
    }

    /// Validates the edit of one feature.
    pub(crate) fn check(&self, spec: &ModelSpec, layer: usize, feature: usize) -> Result<(), Damage> {
        let Some(layer_spec) = spec.layers.get(layer) else {
            return Err(Damage::new("layer", format_args!("a layer below {}", spec.layers.len()), layer));
        };
        let features = layer_spec.feed_forward.features();
        if feature >= features {
            let expected = format!("a feature below {features} in layer {layer}");
            return Err(Damage::new("feature", expected, feature));
        }
        let FeatureEdit::Changed(edited) = self else { return Ok(()) };
        if edited.up.is_some() && !layer_spec.feed_forward.is_gated() {
            return Err(Damage::new("up vector", "none, as the layer is not gated", "one"));
        }
        let vectors =
            [("gate vector", &edited.gate), ("up vector", &edited.up), ("down vector", &edited.down)];
        for (part, vector) in vectors {
            let Some(vector) = vector else { continue };
            if vector.len() != spec.hidden_size {
                let (expected, found) = (spec.hidden_size, vector.len());
                return Err(Damage::new(
                    part,
                    format_args!("{expected} values"),
                    format_args!("{found} values"),
                ));
            }
            if let Some(place) = vector.iter().position(|value| !value.is_finite()) {
                let found = format!("{} at place {place}", vector[place]);
                return Err(Damage::new(part, "finite numbers", found));
            }
        }
        for score in edited.tokens.iter().flatten() {
            if score.token as usize >= spec.vocab_size {
                let expected = format!("a token below {}", spec.vocab_size);
                return Err(Damage::new("output token", expected, score.token));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use larql_models::WeightSource;

    use super::*;
    use crate::Vindex;

    #[test]
    fn errors_name_edits_that_do_not_fit() {
        let vindex = Vindex::open(&larql_testing::repository("fixtures/llama-f16-all.vindex")).unwrap();
        let problem = |layer, feature, edited| {
            let mut edits = FeatureEdits::default();
            edits.set(layer, feature, FeatureEdit::Changed(edited));
            edits.check(vindex.spec()).map_err(|error| error.to_string())
        };
        let gate = |values: Vec<f32>| EditedFeature { gate: Some(values.into()), ..EditedFeature::default() };
        assert_eq!(problem(2, 511, gate(vec![1.0; 256])), Ok(()));
        let said = |result: Result<(), String>| result.unwrap_err();
        assert_eq!(
            said(problem(3, 0, gate(vec![]))),
            "edit of feature 0 of layer 3: layer: expected a layer below 3, found 3"
        );
        assert_eq!(
            said(problem(2, 512, gate(vec![]))),
            "edit of feature 512 of layer 2: feature: expected a feature below 512 in layer 2, found 512"
        );
        assert_eq!(
            said(problem(0, 1, gate(vec![0.0; 255]))),
            "edit of feature 1 of layer 0: gate vector: expected 256 values, found 255 values"
        );
        assert_eq!(
            said(problem(0, 1, gate([vec![0.0; 255], vec![f32::NAN]].concat()))),
            "edit of feature 1 of layer 0: gate vector: expected finite numbers, found NaN at place 255"
        );
        let tokens = Some(vec![TokenScore { token: 320, score: 1.0 }]);
        assert_eq!(
            said(problem(0, 1, EditedFeature { tokens, ..EditedFeature::default() })),
            "edit of feature 1 of layer 0: output token: expected a token below 320, found 320"
        );
    }
}
