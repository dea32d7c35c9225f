//! Activations of a model that reads an entity alone.

use std::ops::Range;

use larql_compute::Activations;
use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::Model;
use larql_models::Tokenizer;
use larql_vindex::FeatureStore;
use larql_vindex::search::{Firing, FiringRates, Via, sample_of_vocabulary};

use super::batch::LastTokens;
use crate::KnowledgeError;

/// The tokens of an entity as it stands within a sentence: after a space, unless the vocabulary spells it in fewer
/// tokens without one.
///
/// # Errors
/// If the tokenizer cannot encode it.
pub fn entity_tokens(tokenizer: &Tokenizer, entity: &str) -> Result<Vec<u32>, KnowledgeError> {
    let entity = entity.trim();
    let bare = tokenizer.encode(entity, false)?;
    let spaced = tokenizer.encode(&format!(" {entity}"), false)?;
    Ok(if bare.len() < spaced.len() { bare } else { spaced })
}

/// The tokens of an entity after the one that starts a text. Models give their first token a part of its own, whatever
/// it is; without one before it the entity would play that part.
fn entity_text(tokenizer: &Tokenizer, entity: &[u32]) -> Vec<u32> {
    let start = tokenizer.bos().or_else(|| tokenizer.eos().first().copied());
    start.iter().chain(entity).copied().collect()
}

/// Activations at an entity's last token.
#[derive(Clone, Debug)]
pub struct EntityResidual {
    /// For each layer the feed-forward input, `[hidden]`.
    pub inputs: Vec<Vec<f32>>,
    /// The last layer's output, `[hidden]`.
    pub output: Vec<f32>,
}

impl EntityResidual {
    /// Runs the model on an entity's tokens.
    ///
    /// # Errors
    /// If there are no tokens, or one is outside the model.
    pub fn of(
        model: &Model,
        tokenizer: &Tokenizer,
        entity: &[u32],
    ) -> Result<EntityResidual, KnowledgeError> {
        let LastTokens { inputs, outputs, .. } = LastTokens::run(model, &[entity_text(tokenizer, entity)])?;
        Ok(EntityResidual { inputs, output: outputs })
    }

    /// The features of `layers` that fire most there, damped by how often they fire for anything. By
    /// [`Via::Attribution`] each strength is multiplied by how much the feature pushes the token that it writes most, at
    /// the scale that the final norm has here: what the feature contributes to that token's logit, but for later layers.
    ///
    /// # Errors
    /// If `store` does not hold what activations take.
    pub fn firings(
        &self,
        model: &Model,
        store: &dyn FeatureStore,
        rates: &ResidualRates,
        layers: Range<usize>,
        via: Via,
    ) -> Result<Vec<Firing>, KnowledgeError> {
        let mean_square = self.output.iter().map(|x| x * x).sum::<f32>() / self.output.len() as f32;
        let scale = (mean_square + model.spec().final_norm.epsilon).sqrt().recip();
        let firing = |layer: usize| {
            let mut strengths = strengths(model, store, layer, &self.inputs[layer])?;
            if via == Via::Attribution {
                for (feature, strength) in strengths.iter_mut().enumerate().filter(|(_, s)| **s > 0.0) {
                    let push = store.top_tokens(layer, feature).next().map_or(0.0, |token| token.score);
                    *strength *= push * scale;
                }
            }
            Ok(Firing::new(layer, &strengths, &rates.layers[layer]))
        };
        layers.map(firing).collect()
    }
}

/// For each layer, how often its features fire for anything.
#[derive(Clone, Debug)]
pub struct ResidualRates {
    layers: Vec<FiringRates>,
}

impl ResidualRates {
    /// Measures over a sample of the vocabulary how often features fire anyway: one batched pass.
    ///
    /// # Errors
    /// If `store` does not hold what activations take.
    pub fn measure(
        model: &Model,
        store: &dyn FeatureStore,
        tokenizer: &Tokenizer,
    ) -> Result<ResidualRates, KnowledgeError> {
        let sample = sample_of_vocabulary(model.spec().vocab_size);
        let texts: Vec<Vec<u32>> = sample.map(|token| entity_text(tokenizer, &[token])).collect();
        let inputs = LastTokens::run(model, &texts)?.inputs;
        let rates = |(layer, inputs): (usize, &Vec<f32>)| {
            let strengths = strengths(model, store, layer, inputs)?;
            Ok(FiringRates::of_sample(&strengths, store.features(layer)))
        };
        let layers = inputs.iter().enumerate().map(rates).collect::<Result<_, KnowledgeError>>()?;
        Ok(ResidualRates { layers })
    }
}

/// Entities that go through the model together.
const TOGETHER: usize = 64;

/// The feed-forward inputs of one layer at the entities' last tokens, `[entities, hidden]`.
pub(crate) fn entity_inputs(
    model: &Model,
    tokenizer: &Tokenizer,
    entities: &[&str],
    layer: usize,
    progress: &dyn Progress,
) -> Result<Vec<f32>, KnowledgeError> {
    let mut inputs = Vec::new();
    let mut meter = Meter::new(progress, Stage::Subjects, entities.len() as u64);
    for entities in entities.chunks(TOGETHER) {
        meter.advance(entities.len() as u64)?;
        let texts: Vec<Vec<u32>> = entities
            .iter()
            .map(|entity| Ok(entity_text(tokenizer, &entity_tokens(tokenizer, entity)?)))
            .collect::<Result<_, KnowledgeError>>()?;
        inputs.extend_from_slice(&LastTokens::run(model, &texts)?.inputs[layer]);
    }
    Ok(inputs)
}

/// Activations `[texts, features]` for feed-forward inputs `[texts, hidden]`.
fn strengths(
    model: &Model,
    store: &dyn FeatureStore,
    layer: usize,
    inputs: &[f32],
) -> Result<Vec<f32>, KnowledgeError> {
    let inputs = Activations::new(inputs, store.hidden_size());
    let mut strengths = vec![0.0; inputs.batch() * store.features(layer)];
    store.activations(model.pool(), layer, &inputs, &mut strengths)?;
    Ok(strengths)
}
