//! Features and stored edges as records of a table.

use std::collections::HashMap;
use std::sync::Arc;

use larql_inference::InferenceError;
use larql_knowledge::probe::LabelledFeature;
use larql_lql::ast::{Comparison, Condition, Field, Spanned, Test, Value};
use larql_lql::output::{FeatureRow, Record};
use larql_models::Tokenizer;
use larql_vindex::search::TokenTexts;
use larql_vindex::{FeatureStore, KnnEntry};

use crate::ExecuteError;
use crate::View;

/// Tokens that a feature shows.
pub(crate) const TOKENS: usize = 3;
/// Tokens that a feature shows when asked for everything.
pub(crate) const ALL_TOKENS: usize = 10;

/// What is known of a feature without asking anything of it.
pub(crate) fn feature_row(
    vindex: &dyn FeatureStore,
    tokenizer: &Tokenizer,
    layer: usize,
    feature: usize,
    tokens: usize,
) -> FeatureRow {
    let top = vindex.top_tokens(layer, feature);
    let label = vindex.label(layer, feature);
    FeatureRow {
        layer,
        feature,
        confidence: top.clone().next().map(|score| score.score),
        tokens: top.take(tokens).filter_map(|score| tokenizer.token_text(score.token)).collect(),
        source: label.as_ref().map(|label| label.source),
        label: label.map(|label| label.relation),
        ..FeatureRow::default()
    }
}

/// Makes records of features.
pub(crate) struct FeatureRecords<'a> {
    view: &'a View,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

impl<'a> FeatureRecords<'a> {
    pub(crate) fn of(view: &'a View) -> Result<FeatureRecords<'a>, ExecuteError> {
        Ok(FeatureRecords { view, tokenizer: Arc::clone(view.tokenizer()?) })
    }

    pub(crate) fn record(&self, layer: usize, feature: usize) -> Record {
        let vindex = self.view.overlay();
        let row = feature_row(vindex, &self.tokenizer, layer, feature, ALL_TOKENS);
        let mut record = Record::default()
            .with(Field::Layer, layer)
            .with(Field::Feature, feature)
            .with(Field::Tokens, row.tokens);
        let mut top = vindex.top_tokens(layer, feature);
        if let Some(word) = top.find_map(|score| self.tokenizer.word(score.token)) {
            record = record.with(Field::Target, word.trim());
        }
        if let Some(confidence) = row.confidence {
            record = record.with(Field::Confidence, confidence);
        }
        if let Some(source) = row.source {
            record = record.with(Field::Source, source.name());
        }
        if let Some(label) = row.label {
            record = record.with(Field::Label, &*label).with(Field::Relation, label);
        }
        record
    }
}

pub(crate) fn record_of_entry(entry: &KnnEntry) -> Record {
    Record::default()
        .with(Field::Entity, &*entry.entity)
        .with(Field::Relation, &*entry.relation)
        .with(Field::Target, &*entry.target)
        .with(Field::Layer, entry.layer)
        .with(Field::Confidence, entry.confidence as f32)
        .with(Field::Source, "inserted")
}

/// Facts, as subject and answer, by the layer and number of a feature that carries them.
pub(crate) type CarriedFacts = HashMap<(usize, usize), Vec<(String, String)>>;

/// Some of the facts that a probe saw features carry.
pub(crate) fn carried_facts(view: &View) -> Result<CarriedFacts, ExecuteError> {
    let evidence = LabelledFeature::read_all(view.base().path()).map_err(InferenceError::from)?;
    Ok(evidence.into_iter().map(|label| ((label.layer, label.feature), label.evidence.examples)).collect())
}

/// The features that have a label. Label files are written by others; what they say of features that there are not
/// is passed over.
pub(crate) fn labelled_features(view: &View) -> impl Iterator<Item = (usize, usize)> {
    let labelled = view.overlay().labels().iter().map(|(layer, feature, _)| (layer, feature));
    labelled.filter(|(layer, feature)| *layer < view.layers() && *feature < view.overlay().features(*layer))
}

/// The entities that a condition pins down.
pub(crate) fn entity_condition(conditions: &[Condition]) -> Option<Vec<&str>> {
    let entities = conditions.iter().filter(|condition| condition.field.value == Field::Entity);
    entities.into_iter().find_map(|condition| match &condition.test {
        Test::Compare(Comparison::Equal, value) => entity(value).map(|entity| vec![entity]),
        Test::In(values) => values.iter().map(entity).collect(),
        _ => None,
    })
}

fn entity(value: &Spanned<Value>) -> Option<&str> {
    match &value.value {
        Value::Text(entity) => Some(entity),
        Value::Integer(_) | Value::Number(_) => None,
    }
}
