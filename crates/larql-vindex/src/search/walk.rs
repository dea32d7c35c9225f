//! WALK: the features that fire for a query, layer by layer.

use larql_compute::{Activations, Pool, top_k_by_value};

use crate::search::FeatureHit;
use crate::{FeatureStore, VindexError};

/// Order of the features of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ranking {
    /// By gate score.
    Gate,
    /// By the magnitude of the activation, `act(gate) * up`.
    Activation,
    /// By the activation where up projections are held, otherwise by gate score.
    #[default]
    ActivationOrGate,
}

/// The `top` strongest features of one layer that fire for `query`, `[hidden]`, the layer's normed feed-forward
/// input. A feature fires if its gate score is positive; others are left out.
///
/// In a mixture only features of the experts that the query is routed to are ranked; [`gate_knn`](crate::search::gate_knn)
/// ranks all.
///
/// # Errors
/// [`VindexError::NotHeld`] for [`Ranking::Activation`] without up projections.
pub fn walk(
    store: &dyn FeatureStore,
    pool: &Pool,
    layer: usize,
    query: &[f32],
    ranking: Ranking,
    top: usize,
) -> Result<Vec<FeatureHit>, VindexError> {
    let weights = store.feature_weights(pool, layer, query)?;
    let input = Activations::new(query, store.hidden_size());
    let mut activations = vec![0.0; store.features(layer)];
    let has_activations = ranking != Ranking::Gate
        && match store.activations(pool, layer, &input, &mut activations) {
            Err(VindexError::NotHeld { .. }) if ranking == Ranking::ActivationOrGate => false,
            result => result.map(|()| true)?,
        };
    let mut gates = vec![0.0; activations.len()];
    store.gate_scores(pool, layer, &input, &mut gates);
    let fires = |feature: usize| {
        gates[feature] > 0.0 && weights.as_ref().is_none_or(|weights| weights[feature] != 0.0)
    };
    let strengths = if has_activations { &activations } else { &gates };
    let ranked: Vec<f32> =
        (0..gates.len()).map(|f| if fires(f) { strengths[f].abs() } else { 0.0 }).collect();
    let strongest = top_k_by_value(&ranked, top).into_iter().filter(|(_, strength)| *strength > 0.0);
    let hit = |(feature, _): (usize, f32)| FeatureHit {
        layer,
        feature,
        gate: gates[feature],
        activation: has_activations.then_some(activations[feature]),
    };
    Ok(strongest.map(hit).collect())
}
