//! Centre of the features of a relation.

use larql_compute::vector::{axpy, normalise};

use crate::{FeatureStore, Labels};

/// Mean direction of the gate rows of the features that carry a relation, `[hidden]`, of length 1; none if no feature does.
pub fn relation_centre(store: &dyn FeatureStore, labels: &Labels, relation: &str) -> Option<Vec<f32>> {
    let mut centre = vec![0.0; store.hidden_size()];
    let mut row = centre.clone();
    let mut found = false;
    for (layer, feature, _) in labels.iter().filter(|(_, _, label)| label.relation == relation) {
        if feature < store.features(layer) {
            store.gate_row(layer, feature, &mut row);
            normalise(&mut row);
            axpy(1.0, &row, &mut centre);
            found = true;
        }
    }
    normalise(&mut centre);
    found.then_some(centre)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{EditedFeature, FeatureEdit, FeatureEdits, Overlay, StatedEdge, Vindex};

    #[test]
    fn a_centre_is_the_mean_direction_of_labelled_gate_rows() {
        let path = larql_testing::repository("fixtures/llama-f32-browse.vindex");
        let mut edits = FeatureEdits::default();
        for (feature, place, length) in [(3, 0, 2.0), (8, 1, 5.0)] {
            let mut gate = vec![0.0; 256];
            gate[place] = length;
            let edge = StatedEdge { relation: Some("moon".into()), ..StatedEdge::default() };
            let edited = EditedFeature { gate: Some(gate.into()), edge, ..EditedFeature::default() };
            edits.set(1, feature, FeatureEdit::Changed(edited));
        }
        let overlay = Overlay::new(Arc::new(Vindex::open(&path).unwrap()), edits).unwrap();
        let centre = relation_centre(&overlay, overlay.labels(), "moon").unwrap();
        let half = 0.5_f32.sqrt();
        assert!((centre[0] - half).abs() < 1e-6 && (centre[1] - half).abs() < 1e-6, "{:?}", &centre[..3]);
        assert!(centre[2..].iter().all(|value| *value == 0.0));
        assert_eq!(relation_centre(&overlay, overlay.labels(), "no such relation"), None);
    }
}
