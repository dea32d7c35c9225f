//! Edges that patches state: carried by features, or remembered beside the weights.

use std::collections::BTreeMap;
use std::ops::Range;

use larql_core::Triple;
use larql_edit::{Carried, Wording};
use larql_models::Tokenizer;
use larql_vindex::search::{Edge, EdgeOfFeatures, Via};
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, LabelSource};

use crate::ExecuteError;
use crate::View;
use crate::common::entries::{is_same, remembered};

/// The edges of an entity that patches state in some layers, most confident first.
pub(crate) fn edges(view: &View, entity: &str, layers: Range<usize>) -> Vec<EdgeOfFeatures> {
    let mut edges: Vec<EdgeOfFeatures> = Vec::new();
    for (layer, feature, edit) in view.overlay().edits().iter() {
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
    for entry in remembered(view, entity).filter(|entry| layers.contains(&entry.layer)) {
        let edge =
            edge(Some(entry.triple.relation.clone()), &entry.triple.target, entry.layer, 0, entry.confidence);
        edges.push((edge, Vec::new()));
    }
    edges.sort_by(|(a, _), (b, _)| b.gate.total_cmp(&a.gate));
    edges
}

/// Returns true if an edge that was found is one that a patch states: its strongest feature is the one that carries it, or
/// it is of the same target under the same relation or none.
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

/// The features that stand for each edge, entity, relation and target, that patches state.
pub(crate) type CarriedEdges = BTreeMap<Triple, Vec<(usize, usize)>>;

/// The edges that features of their own carry, and those that were solved for together: there a feature fires as it
/// always did, and only keeps the edge's words.
pub(crate) fn carried_edges(edits: &FeatureEdits) -> [CarriedEdges; 2] {
    let [mut own, mut solved] = [CarriedEdges::new(), CarriedEdges::new()];
    for (layer, feature, edit) in edits.iter() {
        let FeatureEdit::Changed(EditedFeature { edge, gate, down: Some(_), .. }) = edit else { continue };
        if let (Some(entity), Some(relation), Some(target)) = (&edge.entity, &edge.relation, &edge.target) {
            let edge = Triple::new(entity, relation, target);
            let edges = if gate.is_some() { &mut own } else { &mut solved };
            edges.entry(edge).or_default().push((layer, feature));
        }
    }
    [own, solved]
}

/// An edge as it is asked for.
pub(crate) fn carried(
    tokenizer: &Tokenizer,
    Triple { entity, relation, target }: &Triple,
    features: &[(usize, usize)],
) -> Result<Carried, ExecuteError> {
    let mut statement = Wording::of(entity, relation).statement(tokenizer, entity, target)?;
    let prompt = statement.prompts.swap_remove(0);
    Ok(Carried { prompt, target: statement.target, features: features.to_vec() })
}
