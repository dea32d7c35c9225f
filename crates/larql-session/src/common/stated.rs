//! Edges that patches state: carried by features, or stored in the edge memory.

use std::collections::BTreeMap;
use std::ops::Range;

use larql_core::Triple;
use larql_edit::{Carried, Wording};
use larql_models::Tokenizer;
use larql_vindex::search::{Edge, EdgeOfFeatures, Via};
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, LabelSource};

use crate::ExecuteError;
use crate::View;
use crate::common::entries::is_same;

/// The edges of an entity that patches state in some layers, most confident first.
pub(crate) fn edges(view: &View, entity: &str, layers: Range<usize>) -> Vec<EdgeOfFeatures> {
    let wanted = |about: &str, layer: usize| layers.contains(&layer) && is_same(about, entity);
    let mut edges: Vec<EdgeOfFeatures> = matching(view, wanted).into_iter().map(|(_, edge)| edge).collect();
    edges.sort_by(|(a, _), (b, _)| b.gate.total_cmp(&a.gate));
    edges
}

/// Every edge that patches state, with its entity.
pub(crate) fn all(view: &View) -> Vec<(String, EdgeOfFeatures)> {
    matching(view, |_, _| true)
}

/// The edges that patches state whose entity and layer are `wanted`, with their entities.
fn matching(view: &View, wanted: impl Fn(&str, usize) -> bool) -> Vec<(String, EdgeOfFeatures)> {
    let mut edges: Vec<(String, EdgeOfFeatures)> = Vec::new();
    for (layer, feature, edit) in view.overlay().edits().iter() {
        let FeatureEdit::Changed(edited) = edit else { continue };
        let (Some(about), Some(target)) = (&edited.edge.entity, &edited.edge.target) else { continue };
        if !wanted(about, layer) {
            continue;
        }
        let same = |(entity, (edge, _)): &&mut (String, EdgeOfFeatures)| {
            is_same(entity, about) && edge.relation == edited.edge.relation && edge.target == target.trim()
        };
        // A target of several tokens takes several features.
        if let Some((_, (_, features))) = edges.iter_mut().find(same) {
            features.push((layer, feature));
            continue;
        }
        let confidence = edited.edge.confidence.unwrap_or(1.0);
        let edge = edge(edited.edge.relation.clone(), target, layer, feature, confidence);
        edges.push((about.clone(), (edge, vec![(layer, feature)])));
    }
    for entry in view.overlay().knn().iter().filter(|entry| wanted(&entry.triple.entity, entry.layer)) {
        let edge =
            edge(Some(entry.triple.relation.clone()), &entry.triple.target, entry.layer, 0, entry.confidence);
        edges.push((entry.triple.entity.clone(), (edge, Vec::new())));
    }
    edges
}

/// Returns true if an edge that was found is one that a patch states: its strongest feature is the one that carries it, or
/// it is of the same target under the same relation or none.
pub(crate) fn says_the_same((stated, carrier): &EdgeOfFeatures, (found, features): &EdgeOfFeatures) -> bool {
    let same_relation = found.relation.is_none() || found.relation == stated.relation;
    let same_feature = !carrier.is_empty() && carrier.first() == features.first();
    same_feature || (same_relation && is_same(&found.target, &stated.target))
}

/// The stated confidence of an edge that features carry; none if none of them has one.
pub(crate) fn confidence_of(edits: &FeatureEdits, features: &[(usize, usize)]) -> Option<f64> {
    features.iter().find_map(|(layer, feature)| match edits.get(*layer, *feature)? {
        FeatureEdit::Changed(edited) => edited.edge.confidence,
        FeatureEdit::Deleted => None,
    })
}

/// The strength of a stated edge is its confidence: what it was stated with, not what fires.
pub(crate) fn edge(
    relation: Option<String>,
    target: &str,
    layer: usize,
    feature: usize,
    confidence: f64,
) -> Edge {
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
        confidence: Some(confidence as f32),
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
