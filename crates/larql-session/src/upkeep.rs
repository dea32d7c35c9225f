//! REBALANCE: the targets of many edges in a range of probabilities.

use std::collections::BTreeMap;

use larql_inference::edit::{Carried, RebalanceOptions, Wording, rebalance as balance};
use larql_lql::ast::Rebalance;
use larql_lql::output::{BalancedEdge, Change, Output, Rebalanced};
use larql_models::Tokenizer;
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, FeatureOperation, Operation};

use crate::target::OpenVindex;
use crate::{ExecuteError, Session, edit};

const MOST_ROUNDS: usize = 16;
const FLOOR: f64 = 0.3;
const CEILING: f64 = 0.9;

/// The features that stand for each edge, entity, relation and target, that patches state.
pub(crate) type CarriedEdges = BTreeMap<(String, String, String), Vec<(usize, usize)>>;

/// The edges that features of their own carry, and those that were solved for together: there a feature fires as it
/// always did, and only keeps the edge's words.
pub(crate) fn carried_edges(edits: &FeatureEdits) -> [CarriedEdges; 2] {
    let [mut own, mut solved] = [CarriedEdges::new(), CarriedEdges::new()];
    for (layer, feature, edit) in edits.iter() {
        let FeatureEdit::Changed(EditedFeature { edge, gate, down: Some(_), .. }) = edit else { continue };
        if let (Some(entity), Some(relation), Some(target)) = (&edge.entity, &edge.relation, &edge.target) {
            let edge = (entity.clone(), relation.clone(), target.clone());
            let edges = if gate.is_some() { &mut own } else { &mut solved };
            edges.entry(edge).or_default().push((layer, feature));
        }
    }
    [own, solved]
}

pub(crate) fn rebalance(session: &mut Session, statement: &Rebalance) -> Result<Output, ExecuteError> {
    let open = session.vindex("REBALANCE")?;
    let language = session.language_of(open)?;
    let floor = statement.floor.map_or(FLOOR, |floor| floor.value);
    let ceiling = statement.ceiling.map_or(CEILING, |ceiling| ceiling.value);
    let most = statement.max.map_or(MOST_ROUNDS, |max| max.value);
    let [edges, _] = carried_edges(open.vindex.edits());
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
pub(crate) fn carried(
    tokenizer: &Tokenizer,
    (entity, relation, target): &(String, String, String),
    features: &[(usize, usize)],
) -> Result<Carried, ExecuteError> {
    let mut statement = Wording::of(entity, relation).statement(tokenizer, entity, target)?;
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
