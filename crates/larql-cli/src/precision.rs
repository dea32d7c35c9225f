//! The precision map of a vindex: formats and sizes of its projections.

use std::collections::BTreeMap;

use larql_models::{LayerRole, Role, Shape, WeightSource};
use larql_vindex::Vindex;
use serde::Serialize;

/// Weights of one projection in one format, in all layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PrecisionRow {
    pub(crate) projection: &'static str,
    pub(crate) format: String,
    pub(crate) weights: u64,
    pub(crate) bytes: u64,
}

impl PrecisionRow {
    pub(crate) fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes as f64 / self.weights as f64
    }
}

/// Returns the rows in the order of the forward pass.
pub(crate) fn map(vindex: &Vindex) -> Vec<PrecisionRow> {
    let mut sizes = BTreeMap::<(usize, String), (&'static str, u64, u64)>::new();
    for (role, shape) in vindex.spec().tensors() {
        let (Shape::Matrix(rows, columns), Ok(matrix)) = (shape, vindex.matrix(role)) else { continue };
        let Some((order, projection)) = projection(role) else { continue };
        let row = sizes.entry((order, matrix.format().to_string())).or_insert((projection, 0, 0));
        row.1 += (rows * columns) as u64;
        row.2 += matrix.bytes().len() as u64;
    }
    let row =
        |((_, format), (projection, weights, bytes))| PrecisionRow { projection, format, weights, bytes };
    sizes.into_iter().map(row).collect()
}

/// The projection that a matrix belongs to, with its place in the forward pass.
fn projection(role: Role) -> Option<(usize, &'static str)> {
    use LayerRole::*;
    Some(match role {
        Role::Embedding => (0, "embeddings"),
        Role::Layer(_, Query | QueryDown) => (1, "query"),
        Role::Layer(_, Key | KeyValueDown | KeyValueUp) => (2, "key"),
        Role::Layer(_, Value) => (3, "value"),
        Role::Layer(_, AttentionOutput) => (4, "attention output"),
        Role::Layer(_, LayerRole::Router) => (5, "router"),
        Role::Layer(_, Gate | ExpertGate(_)) => (6, "gate"),
        Role::Layer(_, Up | ExpertUp(_)) => (7, "up"),
        Role::Layer(_, Down | ExpertDown(_)) => (8, "down"),
        Role::PerLayerEmbedding | Role::PerLayerModelProjection => (9, "per-layer inputs"),
        Role::Head => (10, "head"),
        _ => return None,
    })
}
