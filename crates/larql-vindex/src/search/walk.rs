//! Walking a query down the layers: which features fire, layer by layer.

use larql_compute::{Activations, Pool, top_k_by_magnitude};

use crate::search::{FeatureHit, gate_knn};
use crate::{FeatureStore, VindexError};

/// By what the features of a layer are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ranking {
    /// The gate alone.
    Gate,
    /// What the feature contributes, `act(gate) * up`.
    Activation,
    /// The gate, and between gates that are nearly equal the contribution.
    #[default]
    GateThenActivation,
}

/// Gates this close, relative to the stronger, are nearly equal.
const NEAR_TIE: f32 = 0.02;

/// The `top` strongest features of one layer for its `query`, `[hidden]`, as the layer's own norm would hand it over.
///
/// In a mixture only features of the experts that the query is routed to are ranked; [`gate_knn`] ranks all.
///
/// Without up projections there is no contribution to rank by: [`Ranking::GateThenActivation`] is by gate then.
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
    if ranking == Ranking::Gate && weights.is_none() {
        return Ok(gate_knn(store, pool, layer, query, top));
    }
    let input = Activations::new(query, store.hidden_size());
    let mut contributions = vec![0.0; store.features(layer)];
    let has_contributions = ranking != Ranking::Gate
        && match store.activations(pool, layer, &input, &mut contributions) {
            Err(VindexError::NotHeld { .. }) if ranking == Ranking::GateThenActivation => false,
            result => result.map(|()| true)?,
        };
    let mut gates = vec![0.0; contributions.len()];
    store.gate_scores(pool, layer, &input, &mut gates);
    let is_routed = |feature: usize| weights.as_ref().is_none_or(|weights| weights[feature] != 0.0);
    for (_, gate) in gates.iter_mut().enumerate().filter(|(feature, _)| !is_routed(*feature)) {
        *gate = 0.0;
    }
    let ranked = if ranking == Ranking::Activation { &contributions } else { &gates };
    let mut hits: Vec<FeatureHit> = top_k_by_magnitude(ranked, top)
        .into_iter()
        .filter(|(feature, _)| is_routed(*feature))
        .map(|(feature, _)| FeatureHit {
            layer,
            feature,
            gate: gates[feature],
            activation: has_contributions.then_some(contributions[feature]),
        })
        .collect();
    if ranking == Ranking::GateThenActivation && has_contributions {
        break_near_ties(&mut hits);
    }
    Ok(hits)
}

/// Orders each run of hits whose gates nearly equal the run's first by what they contribute.
fn break_near_ties(hits: &mut [FeatureHit]) {
    let mut rest = hits;
    while let Some(first) = rest.first() {
        let least = first.gate.abs() * (1.0 - NEAR_TIE);
        let length = rest.iter().take_while(|hit| hit.gate.abs() >= least).count().max(1);
        let (run, after) = rest.split_at_mut(length);
        run.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
        rest = after;
    }
}

fn strength(hit: &FeatureHit) -> f32 {
    hit.activation.map_or(0.0, f32::abs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contribution_decides_between_near_equal_gates_only() {
        let hit =
            |feature, gate, activation| FeatureHit { layer: 0, feature, gate, activation: Some(activation) };
        let mut hits = [hit(0, 10.0, 1.0), hit(1, -9.9, -5.0), hit(2, 9.0, 50.0), hit(3, 8.95, 60.0)];
        break_near_ties(&mut hits);
        assert_eq!(hits.map(|hit| hit.feature), [1, 0, 3, 2]);
    }
}
