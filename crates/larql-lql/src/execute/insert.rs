//! INSERT: edges become features of the model.

use std::collections::BTreeSet;

use larql_inference::edit::{
    ComposeOptions, Composer, LayerStatistics, Wording, calibration_texts, default_layer,
};
use larql_inference::{LanguageModel, Model};
use larql_vindex::{FeatureEdit, FeatureOperation, Operation, StatedEdge};

use super::target::OpenVindex;
use super::{ExecuteError, Session, edit};
use crate::ast::{Insert, InsertMode, NewEdge};
use crate::output::{Change, Changed, InsertedEdge, Output};

/// The confidence of edges that are inserted without one.
const CONFIDENCE: f64 = 0.9;

pub(super) fn run(session: &mut Session, statement: &Insert) -> Result<Output, ExecuteError> {
    let open = session.vindex("INSERT")?;
    if statement.mode == Some(InsertMode::Knn) {
        return Err(ExecuteError::NotAvailable { statement: "INSERT with MODE KNN".into() });
    }
    let language = session.language_of(open)?;
    let layer = match statement.layer {
        Some(layer) => open.layer(layer)?,
        None => default_layer(language.model()),
    };
    let (operations, inserted) = compose(open, language, layer, statement)?;
    let changed = edit::change(session, Change::Inserted, statement.edges.len(), operations)?;
    Ok(Output::Changed(Changed { inserted, ..changed }))
}

/// The operations that write all edges of a statement into a layer, and how well the model learns each.
fn compose(
    open: &OpenVindex,
    language: &LanguageModel,
    layer: usize,
    statement: &Insert,
) -> Result<(Vec<Operation>, Vec<InsertedEdge>), ExecuteError> {
    let replaced = carriers(open, &statement.edges);
    let tokenizer = language.tokenizer();
    let statements = statement
        .edges
        .iter()
        .map(|edge| Wording::of_unknown(&edge.relation).statement(tokenizer, &edge.entity, &edge.target))
        .collect::<Result<Vec<_>, _>>()?;
    let model = without(open, language.model(), &replaced)?;
    let taken = open.vindex.edits().of_layer(layer).map(|(feature, _)| feature).collect();
    let options = ComposeOptions {
        greatest_norm: statement.alpha.map(|alpha| alpha.value as f32),
        ..ComposeOptions::default()
    };
    let statistics = statistics(open, &model, language, layer)?;
    let written = Composer { model: &model, statistics, options }.write(&statements, &taken)?;

    let mut operations: Vec<Operation> = replaced
        .into_iter()
        .map(|(layer, feature)| Operation::Delete { layer, feature, reason: Some("replaced".into()) })
        .collect();
    let mut inserted = Vec::with_capacity(statement.edges.len());
    for (edge, written) in statement.edges.iter().zip(written) {
        let NewEdge { entity, relation, target } = edge;
        inserted.push(InsertedEdge {
            entity: entity.value.clone(),
            relation: relation.value.clone(),
            target: target.value.clone(),
            probability: written.probability,
        });
        for written in written.features {
            let mut edited = written.edited;
            edited.edge = StatedEdge {
                entity: Some(edge.entity.value.clone()),
                relation: Some(edge.relation.value.clone()),
                target: Some(edge.target.value.clone()),
                confidence: Some(statement.confidence.map_or(CONFIDENCE, |confidence| confidence.value)),
            };
            let token = edited.tokens.iter().flatten().next().and_then(|top| tokenizer.token_text(top.token));
            let (layer, feature) = (written.layer, written.feature);
            operations.push(Operation::Insert(FeatureOperation {
                layer,
                feature,
                edited,
                token_text: token,
            }));
        }
    }
    Ok((operations, inserted))
}

/// The features that carry an answer to the same question as one of `edges`.
fn carriers(open: &OpenVindex, edges: &[NewEdge]) -> BTreeSet<(usize, usize)> {
    let asks_the_same = |stated: &StatedEdge| {
        let same = |a: &Option<String>, b: &str| a.as_deref().is_some_and(|a| a.eq_ignore_ascii_case(b));
        edges.iter().any(|edge| same(&stated.entity, &edge.entity) && same(&stated.relation, &edge.relation))
    };
    let carriers = open.vindex.edits().iter().filter_map(|(layer, feature, edit)| match edit {
        FeatureEdit::Changed(edited) if asks_the_same(&edited.edge) => Some((layer, feature)),
        _ => None,
    });
    carriers.collect()
}

/// The model with all edits but some features, which write nothing.
fn without(
    open: &OpenVindex,
    model: &Model,
    features: &BTreeSet<(usize, usize)>,
) -> Result<Model, ExecuteError> {
    let mut edits = open.vindex.edits().clone();
    features.iter().for_each(|(layer, feature)| edits.set(*layer, *feature, FeatureEdit::Deleted));
    Ok(model.edited(&edits)?)
}

/// What a layer sees on ordinary text, measured when it is first written to.
fn statistics<'a>(
    open: &'a OpenVindex,
    model: &Model,
    language: &LanguageModel,
    layer: usize,
) -> Result<&'a LayerStatistics, ExecuteError> {
    let kept = &open.statistics[layer];
    if let Some(statistics) = kept.get() {
        return Ok(statistics);
    }
    let measured = LayerStatistics::measure(model, layer, &calibration_texts(language.tokenizer())?)?;
    Ok(kept.get_or_init(|| measured))
}
