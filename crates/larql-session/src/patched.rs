//! What patches say in words: edges that features carry, or that are remembered beside the weights.

use std::ops::Range;

use larql_vindex::search::{Edge, EdgeOfFeatures, Via};
use larql_vindex::{FeatureEdit, KnnEntry, LabelSource};

use crate::target::OpenVindex;

/// The edges of an entity that patches state in some layers, most confident first.
pub(crate) fn edges(open: &OpenVindex, entity: &str, layers: Range<usize>) -> Vec<EdgeOfFeatures> {
    let mut edges: Vec<EdgeOfFeatures> = Vec::new();
    for (layer, feature, edit) in open.vindex.edits().iter() {
        let FeatureEdit::Changed(edited) = edit else { continue };
        let (Some(about), Some(target)) = (&edited.edge.entity, &edited.edge.target) else { continue };
        if layers.contains(&layer) && is_same(about, entity) {
            let same = |(edge, _): &&mut EdgeOfFeatures| {
                edge.relation == edited.edge.relation && edge.target == target.trim()
            };
            // A target of several tokens takes several features.
            if let Some((_, features)) = edges.iter_mut().find(same) {
                features.push((layer, feature));
                continue;
            }
            let confidence = edited.edge.confidence.unwrap_or(1.0);
            let edge = edge(edited.edge.relation.clone(), target, layer, feature, confidence);
            edges.push((edge, vec![(layer, feature)]));
        }
    }
    for entry in remembered(open, entity).filter(|entry| layers.contains(&entry.layer)) {
        let edge = edge(Some(entry.relation.clone()), &entry.target, entry.layer, 0, entry.confidence);
        edges.push((edge, Vec::new()));
    }
    edges.sort_by(|(a, _), (b, _)| b.gate.total_cmp(&a.gate));
    edges
}

/// The entries beside the weights that are about an entity.
pub(crate) fn remembered<'a>(open: &'a OpenVindex, entity: &'a str) -> impl Iterator<Item = &'a KnnEntry> {
    open.vindex.knn().iter().filter(move |entry| is_same(&entry.entity, entity))
}

/// Whether an edge that was found is one that a patch states: its strongest feature is the one that carries it, or it
/// is of the same target under the same relation or none.
pub(crate) fn says_the_same((stated, carrier): &EdgeOfFeatures, (found, features): &EdgeOfFeatures) -> bool {
    let same_relation = found.relation.is_none() || found.relation == stated.relation;
    let same_feature = !carrier.is_empty() && carrier.first() == features.first();
    same_feature || (same_relation && is_same(&found.target, &stated.target))
}

/// The strength of a stated edge is its confidence: what it was stated with, not what fires.
fn edge(relation: Option<String>, target: &str, layer: usize, feature: usize, confidence: f64) -> Edge {
    Edge {
        relation,
        target: target.trim().to_owned(),
        gate: confidence as f32,
        layer,
        layer_max: layer,
        feature,
        count: 1,
        source: Some(LabelSource::Inserted),
        via: Via::Patch,
        confidence: None,
        also: Vec::new(),
    }
}

fn is_same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}
