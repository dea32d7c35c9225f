//! The features that fire most for an entity's embedding: the cheapest retrieval, which
//! needs level browse only.

use std::ops::Range;

use larql_compute::{Activations, Pool, top_k_by_value};
use larql_models::WeightSource;

use super::FiringRates;
use crate::{FeatureStore, Vindex, VindexError};

/// The features of one layer that fire most for an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// The layer.
    pub layer: usize,
    /// Features with their strength, damped by their firing rate; strongest first.
    pub features: Vec<(usize, f32)>,
}

/// Features of a layer that are considered. More would only add edges below every limit.
const FEATURES_A_LAYER: usize = 64;

impl Firing {
    /// The strongest of all features of a layer, `[features]`; features without a positive strength do not fire.
    pub fn new(layer: usize, strengths: &[f32], rates: &FiringRates) -> Firing {
        let mut features = top_k_by_value(&rates.damped(strengths), FEATURES_A_LAYER);
        features.retain(|(_, strength)| *strength > 0.0);
        Firing { layer, features }
    }
}

/// Tokens over which firing rates are measured.
const SAMPLE: usize = 128;

/// Evenly spread token ids of a vocabulary, the same ones every time.
pub fn sample_of_vocabulary(vocab_size: usize) -> impl Iterator<Item = u32> {
    let count = SAMPLE.min(vocab_size);
    (0..count).map(move |i| ((2 * i + 1) * vocab_size / (2 * count)) as u32)
}

impl Vindex {
    /// Gate scores of the features of `layers` for the average embedding of `tokens`: the gate row times the
    /// query, which each layer's own norm has prepared. Layers whose gates are not held are left out.
    ///
    /// # Errors
    /// As [`Vindex::embedding_query`].
    pub fn embedding_firings(
        &self,
        pool: &Pool,
        tokens: &[u32],
        layers: Range<usize>,
    ) -> Result<Vec<Firing>, VindexError> {
        self.embedding_firings_in(self, pool, tokens, layers, |layer| self.embedding_rates(pool, layer))
    }

    /// [`Vindex::embedding_firings`] in `store`, which is this vindex or an overlay of it, with the given firing rates.
    pub(crate) fn embedding_firings_in<'r>(
        &self,
        store: &dyn FeatureStore,
        pool: &Pool,
        tokens: &[u32],
        layers: Range<usize>,
        rates: impl Fn(usize) -> Result<&'r FiringRates, VindexError>,
    ) -> Result<Vec<Firing>, VindexError> {
        let query = self.embedding_query(tokens)?;
        let held = layers.filter(|layer| store.features(*layer) > 0);
        let rates = held.map(|layer| Ok((layer, rates(layer)?))).collect::<Result<Vec<_>, VindexError>>()?;
        let nothing = |&(layer, _): &(usize, _)| Firing { layer, features: Vec::new() };
        let mut firings: Vec<Firing> = rates.iter().map(nothing).collect();
        // A layer is little work: threads take whole ones.
        pool.for_each_piece(&mut firings, 1, |first, firings| {
            for (firing, (layer, rates)) in firings.iter_mut().zip(&rates[first..]) {
                let query = self.layer_query(*layer, &query);
                let query = Activations::new(&query, store.hidden_size());
                let mut strengths = vec![0.0; store.features(*layer)];
                store.gate_scores(pool, *layer, &query, &mut strengths);
                *firing = Firing::new(*layer, &strengths, rates);
            }
        });
        Ok(firings)
    }

    /// Firing rates of a layer's features for embeddings, measured at the first use.
    pub(crate) fn embedding_rates(&self, pool: &Pool, layer: usize) -> Result<&FiringRates, VindexError> {
        if let Some(rates) = self.embedding_rates[layer].get() {
            return Ok(rates);
        }
        let rates = self.measure_embedding_rates(self, pool, layer)?;
        Ok(self.embedding_rates[layer].get_or_init(|| rates))
    }

    /// Firing rates of a layer's features in `store`, which is this vindex or an overlay of it, for embeddings.
    pub(crate) fn measure_embedding_rates(
        &self,
        store: &dyn FeatureStore,
        pool: &Pool,
        layer: usize,
    ) -> Result<FiringRates, VindexError> {
        let mut queries = Vec::new();
        for token in sample_of_vocabulary(self.spec().vocab_size) {
            let query = self.embedding_query(&[token])?;
            queries.extend(self.layer_query(layer, &query));
        }
        let features = store.features(layer);
        let queries = Activations::new(&queries, store.hidden_size());
        let mut strengths = vec![0.0; queries.batch() * features];
        store.gate_scores(pool, layer, &queries, &mut strengths);
        Ok(FiringRates::of_sample(&strengths, features))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_spread_over_the_vocabulary() {
        assert_eq!(sample_of_vocabulary(3).collect::<Vec<_>>(), [0, 1, 2]);
        let sample: Vec<u32> = sample_of_vocabulary(262_144).collect();
        assert_eq!((sample.len(), sample[0], sample[127]), (SAMPLE, 1024, 261_120));
    }
}
