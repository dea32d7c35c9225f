//! DELETE and UPDATE of edges: inserted ones are taken away or replaced, and what the model knows by itself is unlearned or
//! replaced by an insertion.

use std::collections::BTreeSet;

use larql_core::Triple;
use larql_edit::Assertion;
use larql_lql::ast::{Delete, EditTable, InsertMode, Update};
use larql_lql::output::{Change, Changed, InsertedEdge, Output};
use larql_vindex::{EditedFeature, FeatureEdit, FeatureOperation, KnnEntry, Operation, StatedEdge};

use crate::common::assigned::Assigned;
use crate::common::change::change;
use crate::common::effects::Effects;
use crate::common::entries::{EntryKey, replace_entries};
use crate::common::meant::{Carrier, Meant, StatedByPatch};
use crate::common::writing::{Purpose, Writing, restored};
use crate::insert::{CONFIDENCE, InsertOptions, Inserted, composed, insert};
use crate::{ChangeError, ExecuteError, Session, View, feature_edit};

pub(crate) fn delete(session: &mut Session, statement: &Delete) -> Result<Output, ExecuteError> {
    if statement.table == EditTable::Features {
        return feature_edit::delete(session, &statement.conditions);
    }
    let view = session.viewed("DELETE")?;
    let Meant { stated, mut known, uncertain } = Meant::of(session, view, "DELETE", &statement.conditions)?;
    let asked: Vec<Triple> = stated.iter().map(|stated| stated.edge.clone()).chain(known.clone()).collect();
    let effects = match view.can_predict() {
        true => Effects::of_edges(view, &asked)?,
        false => Effects::default(),
    };
    let mut operations = take_away(view, &stated);
    // The model itself says what edges solved for together made it say.
    let (solved, taken): (Vec<_>, Vec<_>) =
        stated.into_iter().partition(|stated| matches!(stated.carrier, Carrier::Solved(_)));
    known.extend(solved.into_iter().map(|stated| stated.edge));
    let unlearned = unlearn(session, view, known)?;
    // Each edge that is unlearned takes one feature.
    let count = taken.len() + unlearned.len();
    operations.extend(unlearned);
    let changed = change(session, Change::Deleted, count, operations)?;
    effects.measured(session, Changed { uncertain, ..changed }).map(Output::Changed)
}

/// Computes the operations with which the model no longer says some edges: one for each edge that it says. What was
/// unlearned before stays so.
fn unlearn(session: &Session, view: &View, edges: Vec<Triple>) -> Result<Vec<Operation>, ExecuteError> {
    if edges.is_empty() {
        return Ok(Vec::new());
    }
    let language = &view.language()?.with_cancel(session.cancel_token());
    let edges: Vec<Assertion> =
        edges.into_iter().map(|triple| Assertion { triple, confidence: CONFIDENCE }).collect();
    let writing = Writing {
        purpose: Purpose::Unlearn,
        ..Writing::new(session, view.overlay(), view.measured(), language, &edges)
    };
    let (operations, _) = writing.features(view.overlay().edits(), None)?;
    Ok(operations)
}

/// The operations that take stated edges away: their features are the base's again. Features that were solved for together
/// keep what they write, and lose the edge's words.
fn take_away(view: &View, stated: &[StatedByPatch]) -> Vec<Operation> {
    let mut operations = Vec::new();
    let mut entries: BTreeSet<EntryKey> = BTreeSet::new();
    for StatedByPatch { carrier, .. } in stated {
        match carrier {
            Carrier::Features(features) => operations.extend(features.iter().copied().map(restored)),
            Carrier::Solved(features) => {
                operations.extend(features.iter().filter_map(|(layer, feature)| {
                    let (layer, feature) = (*layer, *feature);
                    let FeatureEdit::Changed(edited) = view.overlay().edits().get(layer, feature)? else {
                        return None;
                    };
                    let edited = EditedFeature { edge: StatedEdge::default(), ..edited.clone() };
                    Some(Operation::Insert(FeatureOperation { layer, feature, edited, token_text: None }))
                }));
            }
            Carrier::Entry(key) => drop(entries.insert(key.clone())),
        }
    }
    operations.extend(replace_entries(view.overlay().knn(), &entries, |_| None));
    operations
}

pub(crate) fn update(session: &mut Session, statement: &Update) -> Result<Output, ExecuteError> {
    let assigned = Assigned::of(&statement.assignments)?;
    if statement.table == EditTable::Features {
        return feature_edit::update(session, &assigned, &statement.conditions);
    }
    let view = session.viewed("UPDATE")?;
    let Meant { stated, known, uncertain } = Meant::of(session, view, "UPDATE", &statement.conditions)?;
    let edges = stated.len() + known.len();
    if assigned.only_confidence() {
        let operations = with_confidence(view, &stated, assigned.edge.confidence.unwrap_or(CONFIDENCE));
        return change(session, Change::Updated, stated.len(), operations).map(Output::Changed);
    }
    // An answer that is not known can be replaced all the same.
    let unknown =
        uncertain.into_iter().map(|answer| Triple::new(&answer.entity, &answer.relation, &answer.says));
    let new_edge = |old: &Triple, confidence: f64| {
        let StatedEdge { entity, relation, target, confidence: new } = assigned.edge.clone();
        let triple = Triple {
            entity: entity.unwrap_or_else(|| old.entity.clone()),
            relation: relation.unwrap_or_else(|| old.relation.clone()),
            target: target.unwrap_or_else(|| old.target.clone()),
        };
        Assertion { triple, confidence: new.unwrap_or(confidence) }
    };
    let (mut features, mut entries) = (Vec::new(), Vec::new());
    for StatedByPatch { edge, confidence, carrier } in &stated {
        match carrier {
            Carrier::Entry(_) => entries.push(new_edge(edge, *confidence)),
            Carrier::Features(_) | Carrier::Solved(_) => features.push(new_edge(edge, *confidence)),
        }
    }
    let known: Vec<Triple> = known.into_iter().chain(unknown).collect();
    if !known.is_empty() && !assigned.only_target() {
        return Err(ChangeError::OnlyTarget { at: assigned.at }.into());
    }
    features.extend(known.iter().map(|edge| new_edge(edge, CONFIDENCE)));
    // Two answers to one question become one.
    features.dedup_by(|a, b| a.triple == b.triple);
    let count = edges.max(features.len() + entries.len());
    let mut operations = take_away(view, &stated);
    let mut inserted: Vec<InsertedEdge> = Vec::new();
    for (edges, mode) in [(features, None), (entries, Some(InsertMode::Knn))] {
        if !edges.is_empty() {
            let options = InsertOptions { mode, ..InsertOptions::default() };
            let Inserted { operations: of_edges, edges } = insert(session, view, edges, options)?;
            operations.extend(of_edges);
            inserted.extend(edges);
        }
    }
    let effects = Effects::of_edges(view, &composed(&inserted))?;
    let changed = change(session, Change::Updated, count, operations)?;
    effects.measured(session, Changed { inserted, ..changed }).map(Output::Changed)
}

/// The operations that give stated edges another confidence.
fn with_confidence(view: &View, stated: &[StatedByPatch], confidence: f64) -> Vec<Operation> {
    let mut operations = Vec::new();
    let mut entries: BTreeSet<EntryKey> = BTreeSet::new();
    for StatedByPatch { carrier, .. } in stated {
        match carrier {
            Carrier::Features(features) | Carrier::Solved(features) => {
                operations.extend(features.iter().map(|(layer, feature)| {
                    let edge = StatedEdge { confidence: Some(confidence), ..StatedEdge::default() };
                    let edited = EditedFeature { edge, ..EditedFeature::default() };
                    let (layer, feature) = (*layer, *feature);
                    Operation::Update(FeatureOperation { layer, feature, edited, token_text: None })
                }));
            }
            Carrier::Entry(key) => drop(entries.insert(key.clone())),
        }
    }
    let changed = |entry: KnnEntry| Some(KnnEntry { confidence, ..entry });
    operations.extend(replace_entries(view.overlay().knn(), &entries, changed));
    operations
}
