//! Features and stored edges as records of a table.

use std::collections::{HashMap, HashSet};

use larql_knowledge::probe::LabelledFeature;
use larql_lql::ast::{Comparison, Condition, Field, Filter, Spanned, Test, Value};
use larql_lql::output::{Datum, FeatureRow};
use larql_models::Tokenizer;
use larql_vindex::search::TokenTexts;
use larql_vindex::{FeatureStore, TokenScore};

use crate::ExecuteError;
use crate::View;
use crate::common::table::Row;
use crate::common::wire;

/// Tokens that a feature shows.
pub(crate) const TOKENS: usize = 3;
/// Tokens that a feature shows when asked for everything.
pub(crate) const ALL_TOKENS: usize = 10;

/// Returns a feature with what extraction and labelling noted about it.
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
        score: top.clone().next().map(|score| score.score),
        tokens: token_texts(top, tokenizer, tokens),
        source: label.as_ref().map(|label| wire::source(label.source)),
        label: label.map(|label| label.relation),
        ..FeatureRow::default()
    }
}

/// The features of a view as rows.
#[derive(Clone)]
pub(crate) struct FeatureRecords<'a> {
    view: &'a View,
    pub(crate) tokenizer: &'a Tokenizer,
}

impl<'a> FeatureRecords<'a> {
    pub(crate) fn of(view: &'a View) -> Result<FeatureRecords<'a>, ExecuteError> {
        Ok(FeatureRecords { view, tokenizer: view.tokenizer()? })
    }

    /// Returns the row of a feature.
    pub(crate) fn row(&self, layer: usize, feature: usize) -> FeatureRecord<'a> {
        FeatureRecord { view: self.view, tokenizer: self.tokenizer, layer, feature }
    }
}

/// A feature as a row.
#[derive(Clone, Copy)]
pub(crate) struct FeatureRecord<'a> {
    view: &'a View,
    tokenizer: &'a Tokenizer,
    layer: usize,
    feature: usize,
}

impl Row for FeatureRecord<'_> {
    fn cell(&self, field: Field) -> Option<Datum> {
        let FeatureRecord { view, tokenizer, layer, feature } = *self;
        let mut top = view.overlay().top_tokens(layer, feature);
        let label = || view.overlay().label(layer, feature);
        match field {
            Field::Layer => Some(layer.into()),
            Field::Feature => Some(feature.into()),
            Field::Tokens => Some(token_texts(top, tokenizer, ALL_TOKENS).into()),
            Field::Target => {
                let word = top.find_map(|score| tokenizer.word(score.token))?;
                Some(word.trim().into())
            }
            Field::Score => top.next().map(|score| score.score.into()),
            Field::Source => Some(wire::source(label()?.source).name().into()),
            Field::Label | Field::Relation => Some(label()?.relation.into()),
            _ => None,
        }
    }
}

/// Returns the texts of some tokens, strongest first.
fn token_texts(top: impl Iterator<Item = TokenScore>, tokenizer: &Tokenizer, tokens: usize) -> Vec<String> {
    top.take(tokens).filter_map(|score| tokenizer.token_text(score.token)).collect()
}

/// Facts, as subject and answer, by the layer and number of a feature that carries them.
pub(crate) type CarriedFacts = HashMap<(usize, usize), Vec<(String, String)>>;

/// Some of the facts that a probe saw features carry.
pub(crate) fn carried_facts(view: &View) -> Result<CarriedFacts, ExecuteError> {
    let evidence = LabelledFeature::read_all(view.base().path())?;
    Ok(evidence.into_iter().map(|label| ((label.layer, label.feature), label.evidence.examples)).collect())
}

/// The features that have a label. Label files are written by others; what they say of features that there are not
/// is passed over.
pub(crate) fn labelled_features(view: &View) -> impl Iterator<Item = (usize, usize)> {
    let labelled = view.overlay().labels().iter().map(|(layer, feature, _)| (layer, feature));
    labelled.filter(|(layer, feature)| *layer < view.layers() && *feature < view.overlay().features(*layer))
}

/// The entities that a filter pins down, so that only their edges can pass it.
pub(crate) fn pinned_entities(filter: &Filter) -> Option<Vec<&str>> {
    match filter {
        Filter::Test(condition) => entities_of(condition),
        Filter::All(parts) => parts.iter().find_map(pinned_entities),
        Filter::Any(parts) => {
            let parts = parts.iter().map(pinned_entities).collect::<Option<Vec<_>>>()?;
            let mut seen = HashSet::new();
            Some(parts.concat().into_iter().filter(|entity| seen.insert(*entity)).collect())
        }
    }
}

/// The entities that a condition names.
fn entities_of(condition: &Condition) -> Option<Vec<&str>> {
    match &condition.test {
        _ if condition.field.value != Field::Entity => None,
        Test::Compare(Comparison::Equal, value) => entity(value).map(|entity| vec![entity]),
        // Without a sign for other text, LIKE is equality.
        Test::Compare(Comparison::Like, value) => {
            entity(value).filter(|entity| !entity.contains(['%', '_'])).map(|entity| vec![entity])
        }
        Test::In(values) => values.iter().map(entity).collect(),
        Test::Compare(..) => None,
    }
}

fn entity(value: &Spanned<Value>) -> Option<&str> {
    match &value.value {
        Value::Text(entity) => Some(entity),
        Value::Integer(_) | Value::Number(_) => None,
    }
}
