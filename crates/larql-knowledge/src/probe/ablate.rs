//! Ablation: the effect of removing a feature on answers.

use std::collections::HashMap;

use larql_inference::Model;
use larql_inference::nats;
use larql_models::Tokenizer;
use larql_vindex::{FeatureEdit, FeatureEdits};

use super::label::CarriedQuestion;
use crate::KnowledgeError;
use crate::reading::{AskableRelations, Batch, PrefixCache, Prompt};

/// Runs questions with and without features.
pub(super) struct Ablation<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    relations: &'a AskableRelations,
    /// Logarithms of the probabilities of answers, of the model as it is, by relation and subject.
    whole: HashMap<(&'a str, &'a str), f32>,
}

impl<'a> Ablation<'a> {
    pub(super) fn new(model: &'a Model, tokenizer: &'a Tokenizer, relations: &'a AskableRelations) -> Self {
        Ablation { model, tokenizer, relations, whole: HashMap::new() }
    }

    /// By how much the logarithms of the answers' probabilities fall, on average, when the feature is removed.
    pub(super) fn drop(
        &mut self,
        layer: usize,
        feature: usize,
        carried: &[CarriedQuestion<'a>],
    ) -> Result<f32, KnowledgeError> {
        let unknown: Vec<CarriedQuestion<'a>> =
            carried.iter().filter(|(q, _)| !self.whole.contains_key(&key(q))).copied().collect();
        let found = self.log_probabilities(self.model, &unknown)?;
        self.whole.extend(unknown.iter().map(|(q, _)| key(q)).zip(found));
        let mut edits = FeatureEdits::default();
        edits.set(layer, feature, FeatureEdit::Deleted);
        let without = self.log_probabilities(&self.model.edited(&edits)?, carried)?;
        let drops = carried.iter().zip(&without).map(|((q, _), without)| self.whole[&key(q)] - without);
        Ok(drops.sum::<f32>() / carried.len().max(1) as f32)
    }

    /// The logarithms of the probabilities of answers' first tokens after their relation's best wording.
    fn log_probabilities(
        &self,
        model: &Model,
        carried: &[CarriedQuestion<'a>],
    ) -> Result<Vec<f32>, KnowledgeError> {
        if carried.is_empty() {
            return Ok(Vec::new());
        }
        let mut prompts = Vec::new();
        for (question, _) in carried {
            let relation = self.relations.relation(&question.relation);
            let template =
                relation.and_then(|relation| relation.templates.first()).map_or("", String::as_str);
            prompts.push(Prompt::new(self.tokenizer, &self.relations.names, template, &question.subject)?);
        }
        let batch = Batch::run(model, &PrefixCache::default(), &prompts)?;
        let tokens = carried.iter().map(|(_, token)| *token).enumerate();
        Ok(tokens.map(|(prompt, token)| -nats(batch.logits_of(prompt), token) as f32).collect())
    }
}

fn key(question: &super::ProbedQuestion) -> (&str, &str) {
    (&question.relation, &question.subject)
}
