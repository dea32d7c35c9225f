//! REBALANCE: the targets of many edges in a range of probabilities.

use larql_core::Triple;
use larql_edit::{RebalanceOptions, rebalance as balance};
use larql_lql::ast::Rebalance;
use larql_lql::output::{BalancedEdge, Change, Output, Rebalanced};
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, FeatureOperation, Operation};

use crate::View;
use crate::common::change::change;
use crate::common::stated::{carried, carried_edges};
use crate::{ExecuteError, Session};

const MOST_ROUNDS: usize = 16;
const FLOOR: f64 = 0.3;
const CEILING: f64 = 0.9;

pub(crate) fn rebalance(session: &mut Session, statement: &Rebalance) -> Result<Output, ExecuteError> {
    let view = session.viewed("REBALANCE")?;
    let language = &view.language()?.with_cancel(session.cancel_token());
    let floor = statement.floor.map_or(FLOOR, |floor| floor.value);
    let ceiling = statement.ceiling.map_or(CEILING, |ceiling| ceiling.value);
    let most = statement.max.map_or(MOST_ROUNDS, |max| max.value);
    let [edges, _] = carried_edges(view.overlay().edits());
    let carried = edges
        .iter()
        .map(|(edge, features)| carried(language.tokenizer(), edge, features))
        .collect::<Result<Vec<_>, _>>()?;
    let options = RebalanceOptions {
        range: floor as f32..=ceiling as f32,
        rounds: (!statement.until_converged).then_some(most),
    };
    let mut edits = view.overlay().edits().clone();
    let (balances, rounds) = balance(language.model(), &mut edits, &carried, &options)?;
    let operations = scaled(view, &edits);
    let rows =
        edges.into_keys().zip(&balances).map(|(Triple { entity, relation, target }, balance)| BalancedEdge {
            entity,
            relation,
            target,
            before: balance.before,
            after: balance.after,
            scale: balance.scale,
            converged: options.range.contains(&balance.after),
        });
    let rows = rows.collect();
    let changed = change(session, Change::Updated, 0, operations)?;
    Ok(Output::Rebalance(Rebalanced { rounds, floor, ceiling, rows, patch: changed.patch }))
}

/// The operations that make the features of `edits` out of those of an open vindex: what they write is another.
fn scaled(view: &View, edits: &FeatureEdits) -> Vec<Operation> {
    let changed = edits
        .iter()
        .filter(|(layer, feature, edit)| view.overlay().edits().get(*layer, *feature) != Some(*edit));
    let update = |(layer, feature, edit): (usize, usize, &FeatureEdit)| {
        let FeatureEdit::Changed(edited) = edit else { return None };
        let edited = EditedFeature { down: edited.down.clone(), ..EditedFeature::default() };
        Some(Operation::Update(FeatureOperation { layer, feature, edited, token_text: None }))
    };
    changed.filter_map(update).collect()
}
