//! The nearest gate rows to a query.

use std::ops::Range;

use larql_compute::{Activations, Pool, top_k_by_magnitude};
use serde::{Deserialize, Serialize};

use crate::FeatureStore;

/// A feature that fires for a query.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureHit {
    /// Its layer.
    pub layer: usize,
    /// Its number in the layer.
    pub feature: usize,
    /// Its gate row times the query.
    pub gate: f32,
    /// What it contributes, where that was computed: `act(gate) * up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<f32>,
}

/// The `k` features of a layer whose gates answer most to `query`, `[hidden]`, in either direction; strongest first.
/// Exact: every gate row is read once.
///
/// # Panics
/// If the query has the wrong width.
pub fn gate_knn(
    store: &dyn FeatureStore,
    pool: &Pool,
    layer: usize,
    query: &[f32],
    k: usize,
) -> Vec<FeatureHit> {
    let mut scores = vec![0.0; store.features(layer)];
    store.gate_scores(pool, layer, &Activations::new(query, store.hidden_size()), &mut scores);
    top_k_by_magnitude(&scores, k)
        .into_iter()
        .map(|(feature, gate)| FeatureHit { layer, feature, gate, activation: None })
        .collect()
}

/// [`gate_knn`] in each of `layers`, in their order: up to `k` features of each.
///
/// # Panics
/// As [`gate_knn`].
pub fn gate_knn_in_layers(
    store: &dyn FeatureStore,
    pool: &Pool,
    layers: Range<usize>,
    query: &[f32],
    k: usize,
) -> Vec<FeatureHit> {
    let mut of_layers = vec![Vec::new(); layers.len()];
    // A layer is little work: threads take whole ones.
    pool.for_each_piece(&mut of_layers, 1, |first, of_layers| {
        for (layer, hits) in (layers.start + first..).zip(of_layers) {
            *hits = gate_knn(store, pool, layer, query, k);
        }
    });
    of_layers.concat()
}
