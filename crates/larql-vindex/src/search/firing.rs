//! How strongly features fire for an entity's embedding: the cheapest way of asking, which browse level allows.

use std::ops::Range;

use larql_compute::{Activations, Pool};
use larql_models::WeightSource;

use super::{Firing, FiringRates};
use crate::{FeatureStore, Vindex, VindexError};

/// Tokens over which firing rates are measured.
const SAMPLE: usize = 128;

/// Evenly spread token ids of a vocabulary, the same ones every time.
pub fn sample_of_vocabulary(vocab_size: usize) -> impl Iterator<Item = u32> {
    let count = SAMPLE.min(vocab_size);
    (0..count).map(move |i| ((2 * i + 1) * vocab_size / (2 * count)) as u32)
}

impl Vindex {
    /// How strongly the features of `layers` fire for the average embedding of `tokens`: the gate row times the
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
        let query = self.embedding_query(tokens)?;
        let held = layers.filter(|layer| self.features(*layer) > 0);
        let mut firings = held
            .map(|layer| {
                let strengths = vec![0.0; self.features(layer)];
                Ok(Firing { layer, strengths, rates: self.embedding_rates(pool, layer)?.clone() })
            })
            .collect::<Result<Vec<_>, VindexError>>()?;
        // A layer is little work: threads take whole ones.
        pool.for_each_piece(&mut firings, 1, |_, firings| {
            for Firing { layer, strengths, .. } in firings {
                let query = self.layer_query(*layer, &query);
                self.gate_scores(pool, *layer, &Activations::new(&query, self.hidden_size()), strengths);
            }
        });
        Ok(firings)
    }

    /// How often each feature of a layer fires for embeddings, measured when it is first asked for.
    fn embedding_rates(&self, pool: &Pool, layer: usize) -> Result<&FiringRates, VindexError> {
        if let Some(rates) = self.embedding_rates[layer].get() {
            return Ok(rates);
        }
        let rates = self.measure_embedding_rates(self, pool, layer)?;
        Ok(self.embedding_rates[layer].get_or_init(|| rates))
    }

    /// How often each feature of a layer of `store`, which is this vindex or lies over it, fires for embeddings.
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
