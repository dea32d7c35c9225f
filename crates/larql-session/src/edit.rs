//! DELETE and UPDATE: which edges are meant, and what becomes of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use larql_compute::vector::{norm, normalise};
use larql_core::Triple;
use larql_knowledge::entity_tokens;
use larql_lql::ast::{Assignment, Comparison, Condition, Delete, Field, Test, Update, Value};
use larql_lql::output::{Change, Output, Record, Via};
use larql_models::WeightSource;
use larql_vindex::{
    EditedFeature, FeatureOperation, FeatureStore, Holdings, KnnEntry, Operation, StatedEdge, TokenScore,
};

use crate::View;
use crate::common::change::change;
use crate::common::edges::{EdgeOptions, edges_with_features};
use crate::common::entries::{EntryKey, entry_key, remembered, replace_entries};
use crate::common::records::{FeatureRecords, entity_condition, labelled_features, record_of_entry};
use crate::common::stated::carried_edges;
use crate::common::table::passes;
use crate::common::wire;
use crate::{ChangeError, ExecuteError, QueryError, Session};

/// Edges of an entity that conditions choose among.
const EDGES: usize = 1000;

pub(crate) fn delete(session: &mut Session, statement: &Delete) -> Result<Output, ExecuteError> {
    let view = session.viewed("DELETE")?;
    let matched = Matched::of(session, view, &statement.conditions)?;
    matched.check_own(view)?;
    let features = matched.features.iter();
    let mut operations: Vec<Operation> = features
        .map(|(layer, feature)| Operation::Delete { layer: *layer, feature: *feature, reason: None })
        .collect();
    operations.extend(replace_entries(view.overlay().knn(), &matched.entries, |_| None));
    change(session, Change::Deleted, matched.edges, operations).map(Output::Changed)
}

pub(crate) fn update(session: &mut Session, statement: &Update) -> Result<Output, ExecuteError> {
    let view = session.viewed("UPDATE")?;
    let change_to = Assigned::of(&statement.assignments)?;
    let matched = Matched::of(session, view, &statement.conditions)?;
    let target = change_to.edge.target.as_deref().filter(|_| matched.edges > 0);
    let target = target.map(|target| Target::of(view, target)).transpose()?;
    if target.is_some() {
        matched.check_own(view)?;
    }
    let mut operations = Vec::new();
    for (layer, feature) in &matched.features {
        let mut edited = EditedFeature { edge: change_to.edge.clone(), ..EditedFeature::default() };
        if let Some(target) = &target {
            target.write(view, *layer, *feature, &mut edited)?;
        }
        let token_text = target.as_ref().map(|target| target.text.clone());
        operations.push(Operation::Update(FeatureOperation {
            layer: *layer,
            feature: *feature,
            edited,
            token_text,
        }));
    }
    operations.extend(replace_entries(view.overlay().knn(), &matched.entries, |entry| {
        let StatedEdge { entity, relation, target: word, confidence } = change_to.edge.clone();
        Some(KnnEntry {
            triple: Triple {
                entity: entity.unwrap_or(entry.triple.entity),
                relation: relation.unwrap_or(entry.triple.relation),
                target: word.unwrap_or(entry.triple.target),
            },
            target_id: target.as_ref().map_or(entry.target_id, |target| target.token),
            confidence: confidence.unwrap_or(entry.confidence),
            ..entry
        })
    }));
    change(session, Change::Updated, matched.edges, operations).map(Output::Changed)
}

/// The edges that conditions mean.
#[derive(Default)]
struct Matched {
    edges: usize,
    /// Layer and number of the features that carry them.
    features: BTreeSet<(usize, usize)>,
    /// Those that are remembered beside the weights.
    entries: BTreeSet<EntryKey>,
}

impl Matched {
    /// Finds edges as SELECT does: those of the entities that the conditions pin down, else labelled features, else the
    /// one feature that layer and number pin down.
    fn of(session: &Session, view: &View, conditions: &[Condition]) -> Result<Matched, ExecuteError> {
        if let Some(condition) = conditions.iter().find(|c| c.field.value == Field::Relation)
            && view.overlay().labels().is_empty()
            && view.overlay().knn().is_empty()
        {
            return Err(QueryError::NoLabels { at: condition.field.span }.into());
        }
        let mut matched = Matched::default();
        if let Some(entities) = entity_condition(conditions) {
            let options = EdgeOptions { limit: EDGES, relations_only: false, in_words: true };
            for entity in entities {
                let found = edges_with_features(session, view, entity, 0..view.layers(), options)?;
                for (edge, features) in found {
                    let edge = wire::edge(edge);
                    if !passes(&Record::of_edge(entity, &edge), conditions)? {
                        continue;
                    }
                    matched.edges += 1;
                    if edge.via == Via::Patch && features.is_empty() {
                        let relation = edge.relation.as_deref();
                        let entries = remembered(view, entity);
                        let meant = entries.filter(|entry| Some(&*entry.triple.relation) == relation);
                        matched.entries.extend(meant.map(entry_key));
                    }
                    matched.features.extend(features);
                }
            }
            return Ok(matched);
        }
        let records = FeatureRecords::of(view)?;
        let pinned = pinned_feature(view, conditions);
        for (layer, feature) in pinned.into_iter().chain(labelled_features(view)) {
            if passes(&records.row(layer, feature), conditions)? && matched.features.insert((layer, feature))
            {
                matched.edges += 1;
            }
        }
        for entry in view.overlay().knn().iter() {
            if passes(&record_of_entry(entry), conditions)? && matched.entries.insert(entry_key(entry)) {
                matched.edges += 1;
            }
        }
        Ok(matched)
    }
}

impl Matched {
    /// Judges whether each edge is carried by features of its own, so that it can change alone.
    fn check_own(&self, view: &View) -> Result<(), ExecuteError> {
        let [_, solved] = carried_edges(view.overlay().edits());
        let meant = |features: &[(usize, usize)]| features.iter().any(|at| self.features.contains(at));
        match solved.into_iter().find(|(_, features)| meant(features)) {
            Some((Triple { entity, relation, target }, _)) => {
                Err(ChangeError::SolvedTogether { entity, relation, target }.into())
            }
            None => Ok(()),
        }
    }
}

/// The feature that `layer = n AND feature = m` name, if it exists.
fn pinned_feature(view: &View, conditions: &[Condition]) -> Option<(usize, usize)> {
    let number = |field: Field| {
        conditions.iter().find_map(|condition| match (&condition.test, condition.field.value == field) {
            (Test::Compare(Comparison::Equal, value), true) => match value.value {
                Value::Integer(number) => usize::try_from(number).ok(),
                Value::Number(_) | Value::Text(_) => None,
            },
            _ => None,
        })
    };
    let (layer, feature) = (number(Field::Layer)?, number(Field::Feature)?);
    (layer < view.layers() && feature < view.overlay().features(layer)).then_some((layer, feature))
}

/// The assignments of UPDATE.
struct Assigned {
    edge: StatedEdge,
}

impl Assigned {
    fn of(assignments: &[Assignment]) -> Result<Assigned, ChangeError> {
        let mut edge = StatedEdge::default();
        for Assignment { field, value } in assignments {
            let refused =
                |expected| ChangeError::NotAssignable { field: field.value.name(), expected, at: field.span };
            let text = || match &value.value {
                Value::Text(text) => Ok(Some(text.clone())),
                Value::Integer(_) | Value::Number(_) => Err(refused("a text")),
            };
            match field.value {
                Field::Entity => edge.entity = text()?,
                Field::Relation | Field::Label => edge.relation = text()?,
                Field::Target => edge.target = text()?,
                Field::Confidence => {
                    let confidence = match &value.value {
                        Value::Integer(number) => *number as f64,
                        Value::Number(number) => *number,
                        Value::Text(_) => return Err(refused("a number from 0 to 1")),
                    };
                    if !(0.0..=1.0).contains(&confidence) {
                        return Err(refused("a number from 0 to 1"));
                    }
                    edge.confidence = Some(confidence);
                }
                _ => return Err(refused("no value: it is what the model computes")),
            }
        }
        Ok(Assigned { edge })
    }
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
        if !view.base().holdings().contains_all(&Holdings::PREDICTING) {
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
