//! What features fire inside the model when it reads an entity.

use std::ops::Range;

use larql_compute::Activations;
use larql_models::Tokenizer;
use larql_vindex::FeatureStore;
use larql_vindex::search::{Firing, FiringRates, sample_of_vocabulary};

use super::batch::last_inputs;
use crate::{InferenceError, Model};

/// The tokens of an entity as it stands within a sentence: after a space, unless the vocabulary spells it in fewer
/// tokens without one.
///
/// # Errors
/// If the tokenizer cannot encode it.
pub fn entity_tokens(tokenizer: &Tokenizer, entity: &str) -> Result<Vec<u32>, InferenceError> {
    let entity = entity.trim();
    let bare = tokenizer.encode(entity, false)?;
    let spaced = tokenizer.encode(&format!(" {entity}"), false)?;
    Ok(if bare.len() < spaced.len() { bare } else { spaced })
}

/// Asks a model by running it: the strength of a feature is its true activation at the entity's last token.
#[derive(Clone, Debug)]
pub struct ResidualFirings {
    /// The token before the entity, if there is one.
    start: Option<u32>,
    /// For each layer, how often its features fire for anything.
    rates: Vec<FiringRates>,
}

impl ResidualFirings {
    /// Measures over a sample of the vocabulary how often features fire anyway: one batched pass.
    ///
    /// # Errors
    /// If `store` does not hold what activations take.
    pub fn measure(
        model: &Model,
        store: &dyn FeatureStore,
        start: Option<u32>,
    ) -> Result<ResidualFirings, InferenceError> {
        let mut firings = ResidualFirings { start, rates: Vec::new() };
        let texts: Vec<Vec<u32>> = sample_of_vocabulary(model.spec().vocab_size)
            .map(|token| firings.after_start(&[token]))
            .collect();
        let inputs = last_inputs(model, &texts)?;
        for (layer, inputs) in inputs.iter().enumerate() {
            let strengths = strengths(model, store, layer, inputs)?;
            firings.rates.push(FiringRates::of_sample(&strengths, store.features(layer)));
        }
        Ok(firings)
    }

    /// How strongly the features of `layers` fire at the last of `tokens`.
    ///
    /// # Errors
    /// If there are no tokens, or one is outside the model.
    pub fn of(
        &self,
        model: &Model,
        store: &dyn FeatureStore,
        tokens: &[u32],
        layers: Range<usize>,
    ) -> Result<Vec<Firing>, InferenceError> {
        let inputs = last_inputs(model, &[self.after_start(tokens)])?;
        layers
            .map(|layer| {
                let strengths = strengths(model, store, layer, &inputs[layer])?;
                Ok(Firing { layer, strengths, rates: self.rates[layer].clone() })
            })
            .collect()
    }

    fn after_start(&self, tokens: &[u32]) -> Vec<u32> {
        self.start.iter().chain(tokens).copied().collect()
    }
}

/// Activations `[texts, features]` for feed-forward inputs `[texts, hidden]`.
fn strengths(
    model: &Model,
    store: &dyn FeatureStore,
    layer: usize,
    inputs: &[f32],
) -> Result<Vec<f32>, InferenceError> {
    let inputs = Activations::new(inputs, store.hidden_size());
    let mut strengths = vec![0.0; inputs.batch() * store.features(layer)];
    store.activations(model.pool(), layer, &inputs, &mut strengths)?;
    Ok(strengths)
}
