//! DELETE and UPDATE of raw features, by layer and number, and their vectors.

use std::sync::Arc;

use larql_compute::vector::{norm, normalise};
use larql_knowledge::entity_tokens;
use larql_lql::ast::{Comparison, Condition, Field, Span, Spanned, Test, Value};
use larql_lql::output::{Change, Changed, Output};
use larql_models::WeightSource;
use larql_vindex::{EditedFeature, FeatureOperation, FeatureStore, Operation, TokenScore};

use crate::common::assigned::Assigned;
use crate::common::change::change;
use crate::common::condition::passes;
use crate::common::records::FeatureRecords;
use crate::view::check_layer;
use crate::{ChangeError, ExecuteError, Session, View};

/// Deletes the features that conditions on layer and feature name.
pub(crate) fn delete(session: &mut Session, conditions: &[Condition]) -> Result<Output, ExecuteError> {
    let features = named(session.viewed("DELETE")?, "DELETE", conditions)?;
    let delete = |(layer, feature): &(usize, usize)| Operation::Delete {
        layer: *layer,
        feature: *feature,
        reason: None,
    };
    let operations = features.iter().map(delete).collect();
    let changed = change(session, Change::Deleted, features.len(), operations)?;
    Ok(Output::Changed(Changed { features: true, ..changed }))
}

/// Changes the words of the features that conditions on layer and feature name and, with a target, what they write.
pub(crate) fn update(
    session: &mut Session,
    assigned: &Assigned,
    conditions: &[Condition],
) -> Result<Output, ExecuteError> {
    let view = session.viewed("UPDATE")?;
    let features = named(view, "UPDATE", conditions)?;
    let target = assigned.edge.target.as_deref().map(|target| Target::of(view, target)).transpose()?;
    let mut operations = Vec::new();
    for (layer, feature) in &features {
        let mut edited = EditedFeature { edge: assigned.edge.clone(), ..EditedFeature::default() };
        if let Some(target) = &target {
            target.write(view, *layer, *feature, &mut edited)?;
        }
        let token_text = target.as_ref().map(|target| target.text.clone());
        let (layer, feature) = (*layer, *feature);
        operations.push(Operation::Update(FeatureOperation { layer, feature, edited, token_text }));
    }
    let changed = change(session, Change::Updated, features.len(), operations)?;
    Ok(Output::Changed(Changed { features: true, ..changed }))
}

impl Session {
    /// Replaces the parts of a feature that `edited` has, in the open patch. With `word`, a text and a score, the feature is
    /// listed as one that writes the text's first token; that changes no vector.
    ///
    /// # Errors
    /// If no vindex is open, the text has no tokens, or the parts do not fit the layer; nothing is changed then.
    pub fn edit_feature(
        &mut self,
        (layer, feature): (usize, usize),
        mut edited: EditedFeature,
        word: Option<(&str, f32)>,
    ) -> Result<Output, ExecuteError> {
        let view = self.viewed("editing a feature")?;
        let mut token_text = None;
        if let Some((word, score)) = word {
            let tokenizer = view.tokenizer()?;
            let Some(token) = entity_tokens(tokenizer, word)?.first().copied() else {
                return Err(ChangeError::EmptyTarget { target: word.into() }.into());
            };
            edited.tokens = Some(vec![TokenScore { token, score }]);
            token_text = tokenizer.token_text(token);
        }
        let operation = FeatureOperation { layer, feature, edited, token_text };
        let changed = change(self, Change::Updated, 1, vec![Operation::Update(operation)])?;
        Ok(Output::Changed(Changed { features: true, ..changed }))
    }

    /// Returns the feature of a layer that INSERT would write over next: the least important one on background text that is not
    /// edited yet. The text is run at the first call for a layer.
    ///
    /// # Errors
    /// If no vindex is open, there is no such layer, its features cannot be written, or all are edited.
    pub fn free_feature(&self, layer: usize) -> Result<usize, ExecuteError> {
        let view = self.viewed("finding a free feature")?;
        view.layer(layer.into())?;
        let language = view.language()?.with_cancel(self.cancel_token());
        let statistics = view.measured().statistics(&language, &[layer], self.progress())?;
        let taken = view.overlay().edits().of_layer(layer).map(|(feature, _)| (layer, feature)).collect();
        let free = statistics.first().and_then(|of_layer| of_layer.free_features(&taken).first().copied());
        let features = view.overlay().features(layer);
        free.ok_or_else(|| larql_edit::EditError::NoFeatureLeft { layer, features }.into())
    }
}

/// The features that conditions name by layer and number, by `=` or `IN`, and that pass the other conditions.
fn named(
    view: &View,
    statement: &'static str,
    conditions: &[Condition],
) -> Result<Vec<(usize, usize)>, ExecuteError> {
    let (Some(layers), Some(features)) =
        (numbers(conditions, Field::Layer), numbers(conditions, Field::Feature))
    else {
        let at = conditions.first().map(|condition| condition.field.span).unwrap_or_default();
        return Err(ChangeError::NoFeatureNamed { statement, at }.into());
    };
    let records = FeatureRecords::of(view)?;
    let mut named = Vec::new();
    for (layer, at) in layers {
        check_layer(layer, at, view.layers())?;
        for (feature, at) in &features {
            let count = view.overlay().features(layer);
            if *feature >= count {
                let (feature, at) = (*feature, *at);
                return Err(ChangeError::NoSuchFeature { layer, feature, count, at }.into());
            }
            if passes(&records.row(layer, *feature), conditions)? {
                named.push((layer, *feature));
            }
        }
    }
    named.sort_unstable();
    named.dedup();
    Ok(named)
}

/// The numbers that a field must equal, by `=` or `IN`, with their places; none if no condition says so.
fn numbers(conditions: &[Condition], field: Field) -> Option<Vec<(usize, Span)>> {
    let number = |value: &Spanned<Value>| match value.value {
        Value::Integer(number) => usize::try_from(number).ok().map(|number| (number, value.span)),
        Value::Number(_) | Value::Text(_) => None,
    };
    let of_field = conditions.iter().filter(|condition| condition.field.value == field);
    of_field.into_iter().find_map(|condition| match &condition.test {
        Test::Compare(Comparison::Equal, value) => number(value).map(|number| vec![number]),
        Test::In(values) => values.iter().map(number).collect(),
        Test::Compare(..) => None,
    })
}

/// A word that features are to write.
struct Target {
    /// Its first token.
    token: u32,
    text: String,
    /// The direction of the residual stream along which the token's logit grows, `[hidden]`, of length 1; none below
    /// the level that has what features write.
    direction: Option<Vec<f32>>,
}

impl Target {
    fn of(view: &View, target: &str) -> Result<Target, ExecuteError> {
        let tokenizer = view.tokenizer()?;
        let Some(token) = entity_tokens(tokenizer, target)?.first().copied() else {
            return Err(ChangeError::EmptyTarget { target: target.into() }.into());
        };
        let text = tokenizer.token_text(token).unwrap_or_default();
        if !view.can_predict() {
            return Ok(Target { token, text, direction: None });
        }
        let model = view.language()?.model();
        let mut direction = model.logit_direction(token, &vec![1.0; model.spec().hidden_size])?;
        normalise(&mut direction);
        Ok(Target { token, text, direction: Some(direction) })
    }

    /// Has a feature write the word as strongly as it wrote what it did.
    fn write(
        &self,
        view: &View,
        layer: usize,
        feature: usize,
        edited: &mut EditedFeature,
    ) -> Result<(), ExecuteError> {
        let strongest = view.overlay().top_tokens(layer, feature).next().map_or(1.0, |top| top.score);
        edited.tokens = Some(vec![TokenScore { token: self.token, score: strongest }]);
        if let Some(direction) = &self.direction {
            let mut down = vec![0.0; view.overlay().spec().hidden_size];
            view.overlay().down_vector(layer, feature, &mut down)?;
            let strength = norm(&down);
            edited.down = Some(direction.iter().map(|value| value * strength).collect::<Arc<[f32]>>());
        }
        Ok(())
    }
}
