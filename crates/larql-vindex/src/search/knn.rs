//! The nearest gate rows to a query.

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
