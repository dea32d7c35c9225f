//! INSERT: edges become features of the model, or entries of the edge memory.

use larql_core::Triple;
use larql_edit::{Assertion, check_composable};
use larql_knowledge::LanguageModel;
use larql_lql::ast::{Insert, InsertMode, NewEdge, Spanned};
use larql_lql::output::{Change, Changed, InsertedEdge, Output, Stored};
use larql_vindex::{FeatureEdits, KnnEntry, Operation, Overlay};

use crate::View;
use crate::common::change::change;
use crate::common::effects::Effects;
use crate::common::stated::{CarriedEdges, confidence_of};
use crate::common::writing::Writing;
use crate::measured::Measured;
use crate::{ChangeError, ExecuteError, Session};

/// The confidence of edges that are inserted without one.
pub(crate) const CONFIDENCE: f64 = 0.9;

pub(crate) fn run(session: &mut Session, statement: &Insert) -> Result<Output, ExecuteError> {
    for NewEdge { entity, relation, target } in &statement.edges {
        [("entity", entity), ("relation", relation), ("target", target)]
            .into_iter()
            .try_for_each(|(field, text)| check_text(field, text))?;
    }
    let view = session.viewed("INSERT")?;
    let layer = statement.layer.map(|layer| view.layer(layer)).transpose()?;
    let confidence = statement.confidence.map_or(CONFIDENCE, |confidence| confidence.value);
    let edge = |NewEdge { entity, relation, target }: &NewEdge| Assertion {
        triple: Triple::new(entity.trim(), relation.trim(), target.trim()),
        confidence,
    };
    let edges: Vec<Assertion> = statement.edges.iter().map(edge).collect();
    let inserting = InsertOptions {
        layer,
        greatest_norm: statement.alpha.map(|alpha| alpha.value as f32),
        mode: statement.mode,
    };
    let Inserted { operations, edges: inserted } = insert(session, view, edges, inserting)?;
    let effects = Effects::of_edges(view, &composed(&inserted))?;
    let count = inserted.len();
    let changed = change(session, Change::Inserted, count, operations)?;
    effects.measured(session, Changed { inserted, ..changed }).map(Output::Changed)
}

/// Fails if a field of an edge has no text.
pub(crate) fn check_text(field: &'static str, text: &Spanned<String>) -> Result<(), ChangeError> {
    match text.trim().is_empty() {
        true => Err(ChangeError::EmptyField { field, at: text.span }),
        false => Ok(()),
    }
}

/// Options of inserting edges.
#[derive(Clone, Copy, Default)]
pub(crate) struct InsertOptions {
    /// The layer; chosen for the model if it is none.
    pub(crate) layer: Option<usize>,
    /// Greatest norm of a down vector, where that of the residual is 1.
    pub(crate) greatest_norm: Option<f32>,
    /// The carrier; features where the model can be composed if it is none.
    pub(crate) mode: Option<InsertMode>,
}

/// Edges with the operations that insert them.
pub(crate) struct Inserted {
    pub(crate) operations: Vec<Operation>,
    /// The edges, with how well the model learned each.
    pub(crate) edges: Vec<InsertedEdge>,
}

/// Computes the operations that insert edges, which replace other answers to the same questions.
pub(crate) fn insert(
    session: &Session,
    view: &View,
    edges: Vec<Assertion>,
    options: InsertOptions,
) -> Result<Inserted, ExecuteError> {
    let language = &view.language()?.with_cancel(session.cancel_token());
    let writing = Writing {
        layer: options.layer,
        ..Writing::new(session, view.overlay(), view.measured(), language, &edges)
    };
    let mode =
        options.mode.unwrap_or_else(|| match check_composable(language.model(), writing.memory_layer()) {
            Ok(()) => InsertMode::Compose,
            Err(_) => InsertMode::Knn,
        });
    let (operations, stored) = match mode {
        InsertMode::Compose => writing.composed(options.greatest_norm)?,
        InsertMode::Knn => writing.remembered()?,
    };
    Ok(Inserted { operations, edges: told(edges, stored) })
}

/// The edges that became features, whose effect on the model can be measured.
pub(crate) fn composed(inserted: &[InsertedEdge]) -> Vec<Triple> {
    let features = inserted.iter().filter(|edge| matches!(edge.stored, Stored::Compose { .. }));
    features.map(|edge| Triple::new(&edge.entity, &edge.relation, &edge.target)).collect()
}

/// Edges with what carries them.
fn told(edges: Vec<Assertion>, stored: Vec<Stored>) -> Vec<InsertedEdge> {
    let told = edges.into_iter().zip(stored).map(|(edge, stored)| {
        let Triple { entity, relation, target } = edge.triple;
        InsertedEdge { entity, relation, target, stored }
    });
    told.collect()
}

/// Turns all edges in the edge memory of an overlay, whose model is `language`, into features of the usual layers.
pub(crate) fn lower(
    session: &Session,
    overlay: &Overlay,
    language: &LanguageModel,
    measured: &Measured,
) -> Result<Inserted, ExecuteError> {
    let assertion = |KnnEntry { triple, confidence, .. }: KnnEntry| Assertion { triple, confidence };
    let edges: Vec<Assertion> = overlay.knn().iter().cloned().map(assertion).collect();
    let (operations, stored) = Writing::new(session, overlay, measured, language, &edges).composed(None)?;
    Ok(Inserted { operations, edges: told(edges, stored) })
}

/// Edges that were solved for together as features of their own, as far as the model does not say them any more.
pub(crate) fn compose(
    session: &Session,
    view: &View,
    language: &LanguageModel,
    edits: &FeatureEdits,
    edges: &CarriedEdges,
) -> Result<Vec<Operation>, ExecuteError> {
    let edges: Vec<Assertion> = edges
        .iter()
        .map(|(triple, features)| Assertion {
            triple: triple.clone(),
            confidence: confidence_of(edits, features).unwrap_or(CONFIDENCE),
        })
        .collect();
    let writing = Writing::new(session, view.overlay(), view.measured(), language, &edges);
    Ok(writing.features(edits, None)?.0)
}
