//! The nearest gate rows to a query.

use std::ops::Range;

use larql_compute::{Activations, Pool};
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
    /// Activation `act(gate) * up`, where it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<f32>,
}

/// The `k` features of a layer whose gate rows have the largest products with `query`, `[hidden]`, by magnitude; strongest first.
/// The result is exact, although not all products are computed exactly.
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
    hits(store, pool, layer, &Activations::new(query, store.hidden_size()), k)
}

fn hits(
    store: &dyn FeatureStore,
    pool: &Pool,
    layer: usize,
    query: &Activations<'_>,
    k: usize,
) -> Vec<FeatureHit> {
    let strongest = store.strongest_gates(pool, layer, query, k).into_iter();
    strongest.map(|(feature, gate)| FeatureHit { layer, feature, gate, activation: None }).collect()
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
    let query = Activations::new(query, store.hidden_size());
    let mut of_layers = vec![Vec::new(); layers.len()];
    // A layer is little work: threads take whole ones.
    pool.for_each_piece(&mut of_layers, 1, |first, of_layers| {
        for (layer, of_layer) in (layers.start + first..).zip(of_layers) {
            *of_layer = hits(store, pool, layer, &query, k);
        }
    });
    of_layers.concat()
}
