//! REBALANCE, COMPACT and SHOW COMPACT STATUS: many edits in good order.

use std::collections::{BTreeMap, HashSet};

use larql_inference::edit::{Carried, RebalanceOptions, Wording, rebalance as balance};
use larql_models::Tokenizer;
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, FeatureOperation, Operation};

use super::insert::{Lowered, lower, question};
use super::target::OpenVindex;
use super::{ExecuteError, Session, edit};
use crate::ast::{Compact, Rebalance};
use crate::output::{BalancedEdge, Change, Changed, CompactStatus, Output, Rebalanced};

const MOST_ROUNDS: usize = 16;
const FLOOR: f64 = 0.3;
const CEILING: f64 = 0.9;

pub(super) fn compact(session: &mut Session, statement: &Compact) -> Result<Output, ExecuteError> {
    match statement {
        Compact::Minor => minor(session).map(Output::Changed),
        Compact::Major { .. } => Err(ExecuteError::NotAvailable { statement: "COMPACT MAJOR".into() }),
    }
}

/// Turns edges beside the weights into features.
fn minor(session: &mut Session) -> Result<Changed, ExecuteError> {
    let open = session.vindex("COMPACT")?;
    if open.vindex.knn().is_empty() {
        return edit::change(session, Change::Compacted, 0, Vec::new());
    }
    let language = session.language_of(open)?;
    let Lowered { operations, inserted } = lower(session, &open.vindex, language, &open.statistics)?;
    let changed = edit::change(session, Change::Compacted, inserted.len(), operations)?;
    Ok(Changed { inserted, ..changed })
}

pub(super) fn status(session: &Session) -> Result<Output, ExecuteError> {
    let open = session.vindex("SHOW COMPACT STATUS")?;
    let (edits, knn) = (open.vindex.edits(), open.vindex.knn());
    let operations = open.patches.patches().iter().flat_map(|applied| applied.patch.operations());
    let by_patches = operations.filter_map(|operation| match operation {
        Operation::InsertKnn(entry) => Some(question(&entry.entity, &entry.relation)),
        _ => None,
    });
    let by_base = open.patches.base().knn_store()?;
    let by_base = by_base.iter().map(|entry| question(&entry.entity, &entry.relation));
    let remembered: HashSet<(String, String)> = by_base.chain(by_patches).collect();
    let edges = carried_edges(edits);
    let compacted = edges.keys().filter(|edge| remembered.contains(&question(&edge.0, &edge.1))).count();
    let vectors = edits.iter().flat_map(|(_, _, edit)| match edit {
        FeatureEdit::Changed(EditedFeature { gate, up, down, .. }) => [gate, up, down].map(Option::as_ref),
        FeatureEdit::Deleted => [None; 3],
    });
    let bytes = |values: &[f32]| size_of_val(values) as u64;
    Ok(Output::CompactStatus(CompactStatus {
        entries: knn.len(),
        entry_bytes: knn.iter().map(|entry| bytes(&entry.key)).sum(),
        edges: edges.len(),
        compacted,
        features: edits.len(),
        feature_bytes: vectors.flatten().map(|vector| bytes(vector)).sum(),
    }))
}

/// The features that carry each edge, entity, relation and target, that patches state.
fn carried_edges(edits: &FeatureEdits) -> BTreeMap<(String, String, String), Vec<(usize, usize)>> {
    let mut edges: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (layer, feature, edit) in edits.iter() {
        let FeatureEdit::Changed(EditedFeature { edge, down: Some(_), .. }) = edit else { continue };
        if let (Some(entity), Some(relation), Some(target)) = (&edge.entity, &edge.relation, &edge.target) {
            let edge = (entity.clone(), relation.clone(), target.clone());
            edges.entry(edge).or_default().push((layer, feature));
        }
    }
    edges
}

pub(super) fn rebalance(session: &mut Session, statement: &Rebalance) -> Result<Output, ExecuteError> {
    let open = session.vindex("REBALANCE")?;
    let language = session.language_of(open)?;
    let floor = statement.floor.map_or(FLOOR, |floor| floor.value);
    let ceiling = statement.ceiling.map_or(CEILING, |ceiling| ceiling.value);
    let most = statement.max.map_or(MOST_ROUNDS, |max| max.value);
    let edges = carried_edges(open.vindex.edits());
    let carried = edges
        .iter()
        .map(|(edge, features)| carried(language.tokenizer(), edge, features))
        .collect::<Result<Vec<_>, _>>()?;
    let options = RebalanceOptions {
        range: floor as f32..=ceiling as f32,
        rounds: (!statement.until_converged).then_some(most),
    };
    let mut edits = open.vindex.edits().clone();
    let (balances, rounds) = balance(language.model(), &mut edits, &carried, &options)?;
    let operations = scaled(open, &edits);
    let rows = edges.into_keys().zip(&balances).map(|((entity, relation, target), balance)| BalancedEdge {
        entity,
        relation,
        target,
        before: balance.before,
        after: balance.after,
        scale: balance.scale,
        converged: options.range.contains(&balance.after),
    });
    let rows = rows.collect();
    let changed = edit::change(session, Change::Updated, 0, operations)?;
    Ok(Output::Rebalance(Rebalanced { rounds, floor, ceiling, rows, patch: changed.patch }))
}

/// An edge as it is asked for.
fn carried(
    tokenizer: &Tokenizer,
    (entity, relation, target): &(String, String, String),
    features: &[(usize, usize)],
) -> Result<Carried, ExecuteError> {
    let mut statement = Wording::of_unknown(relation).statement(tokenizer, entity, target)?;
    let prompt = statement.prompts.swap_remove(0);
    Ok(Carried { prompt, target: statement.target, features: features.to_vec() })
}

/// The operations that make the features of `edits` out of those of an open vindex: what they write is another.
fn scaled(open: &OpenVindex, edits: &FeatureEdits) -> Vec<Operation> {
    let changed = edits
        .iter()
        .filter(|(layer, feature, edit)| open.vindex.edits().get(*layer, *feature) != Some(*edit));
    let update = |(layer, feature, edit): (usize, usize, &FeatureEdit)| {
        let FeatureEdit::Changed(edited) = edit else { return None };
        let edited = EditedFeature { down: edited.down.clone(), ..EditedFeature::default() };
        Some(Operation::Update(FeatureOperation { layer, feature, edited, token_text: None }))
    };
    changed.filter_map(update).collect()
}
