//! COMPACT and SHOW COMPACT STATUS: accumulated edges go into the weights, edge by edge or all together.

use std::collections::{BTreeSet, HashSet};

use larql_core::Triple;
use larql_edit::{BatchEdit, Carried, DEFAULT_LAMBDA, SolvedLayer, Statement, Wording, target_probabilities};
use larql_knowledge::LanguageModel;
use larql_knowledge::calibration_texts;
use larql_lql::ast::Compact;
use larql_lql::output::{Change, Changed, ChangedLayer, CompactStatus, Output, Solved, SolvedEdge};
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, FeatureOperation, Operation};

use crate::common::change::change;
use crate::common::entries::question;
use crate::common::stated::{CarriedEdges, carried, carried_edges};
use crate::insert::{Inserted, compose, lower};
use crate::{ExecuteError, Session};

pub(crate) fn run(session: &mut Session, statement: &Compact) -> Result<Output, ExecuteError> {
    match statement {
        Compact::Minor => minor(session).map(Output::Changed),
        Compact::Major { full, lambda } => {
            let lambda = lambda.map_or(DEFAULT_LAMBDA, |lambda| lambda.value);
            major(session, *full, lambda).map(Output::Solved)
        }
    }
}

/// Turns edges of the edge memory into features.
fn minor(session: &mut Session) -> Result<Changed, ExecuteError> {
    let view = session.viewed("COMPACT")?;
    if view.overlay().knn().is_empty() {
        return change(session, Change::Compacted, 0, Vec::new());
    }
    let language = &view.language()?.with_cancel(session.cancel_token());
    let Inserted { operations, edges: inserted } = lower(session, view.overlay(), language, view.measured())?;
    let changed = change(session, Change::Compacted, inserted.len(), operations)?;
    Ok(Changed { inserted, ..changed })
}

/// Solves for all edges together: the down vectors of their layers change, and their own features are removed.
fn major(session: &mut Session, full: bool, lambda: f64) -> Result<Solved, ExecuteError> {
    let view = session.viewed("COMPACT")?;
    let language = &view.language()?.with_cancel(session.cancel_token());
    let spec = language.model().spec();
    let (mut edits, mut operations) = (view.overlay().edits().clone(), Vec::new());
    if !view.overlay().knn().is_empty() {
        let Inserted { operations: lowered, .. } = lower(session, view.overlay(), language, view.measured())?;
        lowered.iter().for_each(|operation| edits.apply(spec, operation));
        operations.extend(lowered.into_iter().filter(|operation| operation.feature().is_none()));
    }
    let [_, solved_before] = carried_edges(&edits);
    if full && !solved_before.is_empty() {
        let again = compose(session, view, language, &edits, &solved_before)?;
        again.iter().for_each(|operation| edits.apply(spec, operation));
    }
    let [edges, before] = carried_edges(&edits);
    let mut solved = Solved { lambda, rows: Vec::new(), layers: Vec::new(), patch: None, automatic: false };
    if edges.is_empty() {
        return Ok(solved);
    }

    let mut without = edits.clone();
    let carriers = edges.values().flatten();
    carriers.for_each(|(layer, feature)| drop(without.remove(*layer, *feature)));
    let model = language.model();
    let (with_model, without_model) = (model.edited(&edits)?, model.edited(&without)?);
    let layers: BTreeSet<usize> = edges.values().flatten().map(|(layer, _)| *layer).collect();
    let layers: Vec<usize> = layers.into_iter().collect();
    let together = BatchEdit {
        with: &with_model,
        without: &without_model,
        layers: &layers,
        statements: &statements(language, &edges)?,
        kept: &stated(&statements(language, &before)?),
        background: &calibration_texts(language.tokenizer())?,
        lambda,
    };
    let layers = together.solve(session.cancel_token())?;

    let asked = edges
        .iter()
        .map(|(edge, features)| carried(language.tokenizer(), edge, features))
        .collect::<Result<Vec<Carried>, _>>()?;
    let changes = rewritten(&edits, &without, &edges, &layers);
    let mut after = edits;
    changes.iter().for_each(|operation| after.apply(spec, operation));
    let probabilities = [with_model, model.edited(&after)?].map(|model| target_probabilities(&model, &asked));
    let [before, after] = probabilities;
    let rows = edges.into_keys().zip(before?.into_iter().zip(after?));
    let row = |(Triple { entity, relation, target }, (before, after))| SolvedEdge {
        entity,
        relation,
        target,
        before,
        after,
    };
    solved.rows = rows.map(row).collect();
    let changed_layer =
        |SolvedLayer { layer, change, .. }: &SolvedLayer| ChangedLayer { layer: *layer, change: *change };
    solved.layers = layers.iter().map(changed_layer).collect();
    operations.extend(changes);
    let changed = change(session, Change::Compacted, solved.rows.len(), operations)?;
    (solved.patch, solved.automatic) = (changed.patch, changed.automatic);
    Ok(solved)
}

/// Returns edges as statements to solve for.
fn statements(language: &LanguageModel, edges: &CarriedEdges) -> Result<Vec<Statement>, ExecuteError> {
    let statement = |Triple { entity, relation, target }: &Triple| {
        Wording::of(entity, relation).statement(language.tokenizer(), entity, target)
    };
    Ok(edges.keys().map(statement).collect::<Result<_, _>>()?)
}

/// The texts after which tokens of targets are due.
fn stated(statements: &[Statement]) -> Vec<Vec<u32>> {
    let texts = statements.iter().flat_map(|Statement { prompts, target, .. }| {
        let ends = (0..target.len()).map(|end| &target[..end]);
        ends.flat_map(|begun| prompts.iter().map(move |prompt| [&prompt[..], begun].concat()))
    });
    texts.collect()
}

/// The operations that change what the features of layers write. The features that carried edges fire as the base's again
/// and keep the edges' words.
fn rewritten(
    edits: &FeatureEdits,
    without: &FeatureEdits,
    edges: &CarriedEdges,
    layers: &[SolvedLayer],
) -> Vec<Operation> {
    let carriers: HashSet<(usize, usize)> = edges.values().flatten().copied().collect();
    let mut operations = Vec::new();
    for SolvedLayer { layer, downs, .. } in layers {
        for (feature, down) in downs.iter().enumerate() {
            let layer = *layer;
            let mut edited = EditedFeature { down: Some(down.clone()), ..EditedFeature::default() };
            let operation = |edited| FeatureOperation { layer, feature, edited, token_text: None };
            operations.push(match (edits.get(layer, feature), without.get(layer, feature)) {
                (Some(FeatureEdit::Changed(carrier)), _) if carriers.contains(&(layer, feature)) => {
                    edited.edge = carrier.edge.clone();
                    Operation::Insert(operation(edited))
                }
                (_, Some(FeatureEdit::Deleted)) => continue,
                _ => Operation::Update(operation(edited)),
            });
        }
    }
    operations
}

pub(crate) fn status(session: &Session) -> Result<Output, ExecuteError> {
    let view = session.viewed("SHOW COMPACT STATUS")?;
    let (edits, knn) = (view.overlay().edits(), view.overlay().knn());
    let operations = view.patches().patches().iter().flat_map(|applied| applied.patch.operations());
    let by_patches = operations.filter_map(|operation| match operation {
        Operation::InsertKnn(entry) => Some(question(&entry.triple.entity, &entry.triple.relation)),
        _ => None,
    });
    let by_base = view.patches().base().knn_store()?;
    let by_base = by_base.iter().map(|entry| question(&entry.triple.entity, &entry.triple.relation));
    let remembered: HashSet<(String, String)> = by_base.chain(by_patches).collect();
    let [own, solved] = carried_edges(edits);
    let edges: BTreeSet<_> = own.keys().chain(solved.keys()).collect();
    let compacted =
        edges.iter().filter(|edge| remembered.contains(&question(&edge.entity, &edge.relation))).count();
    Ok(Output::CompactStatus(CompactStatus {
        entries: knn.len(),
        entry_bytes: knn.iter().map(|entry| size_of_val(&*entry.key) as u64).sum(),
        edges: edges.len(),
        compacted,
        solved: solved.len(),
        features: edits.len(),
        feature_bytes: edits.iter().map(|(_, _, edit)| edit.bytes() as u64).sum(),
    }))
}
