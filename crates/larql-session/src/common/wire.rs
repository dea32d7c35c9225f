//! Search results in the types that statements answer with.

use larql_lql::output::{Edge, LabelSource, Via};
use larql_vindex::search;

/// Returns an edge that a search found.
pub(crate) fn edge(edge: search::Edge) -> Edge {
    Edge {
        relation: edge.relation,
        target: edge.target,
        gate: edge.gate,
        layer: edge.layer,
        layer_max: edge.layer_max,
        feature: edge.feature,
        count: edge.count,
        source: edge.source.map(source),
        via: via(edge.via),
        confidence: edge.confidence,
        also: edge.also,
    }
}

/// Returns the origin of a label.
pub(crate) fn source(source: larql_vindex::LabelSource) -> LabelSource {
    match source {
        larql_vindex::LabelSource::Pattern => LabelSource::Pattern,
        larql_vindex::LabelSource::Cluster => LabelSource::Cluster,
        larql_vindex::LabelSource::ShippedWordings => LabelSource::ShippedWordings,
        larql_vindex::LabelSource::Probe => LabelSource::Probe,
        larql_vindex::LabelSource::Inserted => LabelSource::Inserted,
    }
}

fn via(via: search::Via) -> Via {
    match via {
        search::Via::Embedding => Via::Embedding,
        search::Via::Residual => Via::Residual,
        search::Via::Patch => Via::Patch,
        search::Via::Attribution => Via::Attribution,
        search::Via::Asked => Via::Asked,
    }
}
