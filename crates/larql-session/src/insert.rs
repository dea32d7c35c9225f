//! INSERT: edges become features of the model, or are remembered beside its weights.

use std::collections::{BTreeSet, HashSet};

use larql_core::Triple;
use larql_core::progress::{CancelToken, Meter, Stage};
use larql_edit::{
    Assertion, ComposeOptions, Composer, Wording, Written, build_entries, check_composable, default_layer,
    layers_for,
};
use larql_inference::Model;
use larql_knowledge::LanguageModel;
use larql_lql::ast::{Insert, InsertMode, NewEdge};
use larql_lql::output::{Change, Changed, InsertedEdge, Output, Stored};
use larql_models::Tokenizer;
use larql_vindex::{
    EditedFeature, FeatureEdit, FeatureEdits, FeatureOperation, KnnEntry, Operation, Overlay, StatedEdge,
};

use crate::View;
use crate::common::change::change;
use crate::common::entries::{entry_key, question, replace_entries};
use crate::common::stated::{CarriedEdges, carried_edges};
use crate::measured::Measured;
use crate::{ExecuteError, Session};

/// The confidence of edges that are inserted without one.
const CONFIDENCE: f64 = 0.9;

pub(crate) fn run(session: &mut Session, statement: &Insert) -> Result<Output, ExecuteError> {
    let view = session.viewed("INSERT")?;
    let language = &view.language()?.with_cancel(session.cancel_token());
    let layer = statement.layer.map(|layer| view.layer(layer)).transpose()?;
    let confidence = statement.confidence.map_or(CONFIDENCE, |confidence| confidence.value);
    let edge = |NewEdge { entity, relation, target }: &NewEdge| Assertion {
        triple: Triple::new(&entity.value, &relation.value, &target.value),
        confidence,
    };
    let edges: Vec<Assertion> = statement.edges.iter().map(edge).collect();
    let inserting = Inserting {
        overlay: view.overlay(),
        language,
        measured: view.measured(),
        layer,
        edges: &edges,
        cancel: session.cancel_token(),
    };
    let mode =
        statement.mode.unwrap_or_else(|| match check_composable(language.model(), inserting.layer()) {
            Ok(()) => InsertMode::Compose,
            Err(_) => InsertMode::Knn,
        });
    let (operations, stored) = match mode {
        InsertMode::Compose => inserting.composed(statement.alpha.map(|alpha| alpha.value as f32))?,
        InsertMode::Knn => inserting.remembered()?,
    };
    let inserted = told(edges, stored);
    let changed = change(session, Change::Inserted, statement.edges.len(), operations)?;
    Ok(Output::Changed(Changed { inserted, ..changed }))
}

/// Edges with what carries them.
fn told(edges: Vec<Assertion>, stored: Vec<Stored>) -> Vec<InsertedEdge> {
    let told = edges.into_iter().zip(stored).map(|(edge, stored)| {
        let Triple { entity, relation, target } = edge.triple;
        InsertedEdge { entity, relation, target, stored }
    });
    told.collect()
}

/// Edges that were beside the weights, as features.
pub(crate) struct Lowered {
    /// The operations that turn them into features.
    pub(crate) operations: Vec<Operation>,
    /// The edges, with how well the model learned each.
    pub(crate) inserted: Vec<InsertedEdge>,
}

/// Turns all edges beside the weights of an overlay, whose model is `language`, into features of the usual layers.
pub(crate) fn lower(
    session: &Session,
    overlay: &Overlay,
    language: &LanguageModel,
    measured: &Measured,
) -> Result<Lowered, ExecuteError> {
    let assertion = |KnnEntry { triple, confidence, .. }: KnnEntry| Assertion { triple, confidence };
    let edges: Vec<Assertion> = overlay.knn().iter().cloned().map(assertion).collect();
    let inserting =
        Inserting { overlay, language, measured, layer: None, edges: &edges, cancel: session.cancel_token() };
    let (operations, stored) = inserting.composed(None)?;
    Ok(Lowered { operations, inserted: told(edges, stored) })
}

/// Edges that were solved for together as features of their own, as far as the model does not say them any more.
pub(crate) fn compose(
    session: &Session,
    view: &View,
    language: &LanguageModel,
    edits: &FeatureEdits,
    edges: &CarriedEdges,
) -> Result<Vec<Operation>, ExecuteError> {
    let confidence = |features: &[(usize, usize)]| {
        features.iter().find_map(|(layer, feature)| match edits.get(*layer, *feature) {
            Some(FeatureEdit::Changed(edited)) => edited.edge.confidence,
            _ => None,
        })
    };
    let edges: Vec<Assertion> = edges
        .iter()
        .map(|(triple, features)| Assertion {
            triple: triple.clone(),
            confidence: confidence(features).unwrap_or(CONFIDENCE),
        })
        .collect();
    let (overlay, measured) = (view.overlay(), view.measured());
    let inserting =
        Inserting { overlay, language, measured, layer: None, edges: &edges, cancel: session.cancel_token() };
    let model = language.model().edited(edits)?;
    Ok(inserting.features(&model, edits, None)?.0)
}

/// Edges on their way into a layer.
struct Inserting<'a> {
    overlay: &'a Overlay,
    /// The model with the overlay's edits.
    language: &'a LanguageModel,
    measured: &'a Measured,
    /// The layer that the statement names.
    layer: Option<usize>,
    edges: &'a [Assertion],
    /// Cancelled when the statement is to stop.
    cancel: &'a CancelToken,
}

impl Inserting<'_> {
    /// The layer whose inputs are remembered, and at which COMPOSE is judged possible.
    fn layer(&self) -> usize {
        self.layer.unwrap_or_else(|| default_layer(self.language.model()))
    }

    /// The operations that write the edges as features, in the place of what answered the same questions, and how well
    /// the model learns each.
    fn composed(&self, greatest_norm: Option<f32>) -> Result<(Vec<Operation>, Vec<Stored>), ExecuteError> {
        let carriers = self.carriers();
        let model = without(self.overlay, self.language.model(), &carriers)?;
        let (features, stored) = self.features(&model, self.overlay.edits(), greatest_norm)?;
        let mut operations = self.replacing(carriers);
        operations.extend(features);
        Ok((operations, stored))
    }

    /// The operations that write the edges as features of a model with `edits`.
    fn features(
        &self,
        model: &Model,
        edits: &FeatureEdits,
        greatest_norm: Option<f32>,
    ) -> Result<(Vec<Operation>, Vec<Stored>), ExecuteError> {
        let tokenizer = self.language.tokenizer();
        let statements = self
            .edges
            .iter()
            .map(|edge| {
                Wording::of(&edge.triple.entity, &edge.triple.relation).statement(
                    tokenizer,
                    &edge.triple.entity,
                    &edge.triple.target,
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        // Where edges were solved for together every feature writes otherwise, and any may be given up.
        let taken = edits.iter().filter(|(_, _, edit)| match edit {
            FeatureEdit::Changed(edited) => edited.gate.is_some() || edited.edge != StatedEdge::default(),
            FeatureEdit::Deleted => true,
        });
        let taken = taken.map(|(layer, feature, _)| (layer, feature)).collect();
        let options = ComposeOptions { greatest_norm, ..ComposeOptions::default() };
        let layers = match self.layer {
            Some(layer) => vec![layer],
            None => layers_for(model, self.measured.editing_layer(self.language)?, &statements),
        };
        let statistics = self.measured.statistics(self.language, &layers)?;
        let composer = Composer { model, statistics: &statistics, options };
        let mut meter = Meter::new(self.cancel, Stage::Inserting, statements.len() as u64);
        let written = composer.write(&statements, &taken, &mut meter)?;
        let stored = written.iter().map(|written| Stored::Compose { probability: written.probability });
        let stored = stored.collect();
        let edges = self.edges.iter().zip(written);
        let operations = edges.flat_map(|(edge, written)| feature_operations(tokenizer, edge, written));
        Ok((operations.collect(), stored))
    }

    /// The operations that remember the edges beside the weights, and from which cosine on each answers.
    fn remembered(&self) -> Result<(Vec<Operation>, Vec<Stored>), ExecuteError> {
        let Inserting { overlay, language, edges, .. } = *self;
        let layer = self.layer();
        let carriers = self.carriers();
        let model = without(overlay, language.model(), &carriers)?;
        let space = language.key_space(layer)?;
        let entries = build_entries(&model, language.tokenizer(), space, edges, self.cancel)?;
        let stored = |entry: &KnnEntry| Stored::Knn { layer, threshold: entry.threshold.unwrap_or(1.0) };
        let stored = entries.iter().map(stored).collect();
        let mut operations = self.replacing(carriers);
        operations.extend(entries.into_iter().map(Operation::InsertKnn));
        Ok((operations, stored))
    }

    /// The operations that take away what answered the same questions before: the features that carry the answers, and
    /// entries beside the weights.
    fn replacing(&self, carriers: BTreeSet<(usize, usize)>) -> Vec<Operation> {
        let delete = |(layer, feature)| Operation::Delete { layer, feature, reason: Some("replaced".into()) };
        let mut operations: Vec<Operation> = carriers.into_iter().map(delete).collect();
        let questions = self.questions();
        // What features of a layer write together stays: only the words go.
        let [_, solved] = carried_edges(self.overlay.edits());
        let solved =
            solved.iter().filter(|(edge, _)| questions.contains(&question(&edge.entity, &edge.relation)));
        for (layer, feature) in solved.flat_map(|(_, features)| features.iter().copied()) {
            let Some(FeatureEdit::Changed(edited)) = self.overlay.edits().get(layer, feature) else {
                continue;
            };
            let edited = EditedFeature { edge: StatedEdge::default(), ..edited.clone() };
            operations.push(Operation::Insert(FeatureOperation { layer, feature, edited, token_text: None }));
        }
        let entries = self.overlay.knn().iter();
        let replaced = entries
            .filter(|entry| questions.contains(&question(&entry.triple.entity, &entry.triple.relation)));
        operations.extend(replace_entries(self.overlay.knn(), &replaced.map(entry_key).collect(), |_| None));
        operations
    }

    /// The features of their own that carry an answer to the same question as one of the edges.
    fn carriers(&self) -> BTreeSet<(usize, usize)> {
        let questions = self.questions();
        let carriers = self.overlay.edits().iter().filter_map(|(layer, feature, edit)| match edit {
            FeatureEdit::Changed(edited) if edited.gate.is_none() => None,
            FeatureEdit::Changed(edited) => {
                let (entity, relation) = (edited.edge.entity.as_ref()?, edited.edge.relation.as_ref()?);
                questions.contains(&question(entity, relation)).then_some((layer, feature))
            }
            FeatureEdit::Deleted => None,
        });
        carriers.collect()
    }

    /// Returns the questions that the edges answer.
    fn questions(&self) -> HashSet<(String, String)> {
        self.edges.iter().map(|edge| question(&edge.triple.entity, &edge.triple.relation)).collect()
    }
}

/// The operations that put the features of an edge into a patch.
fn feature_operations(
    tokenizer: &Tokenizer,
    edge: &Assertion,
    written: Written,
) -> impl Iterator<Item = Operation> {
    written.features.into_iter().map(move |written| {
        let mut edited = written.edited;
        edited.edge = StatedEdge {
            entity: Some(edge.triple.entity.clone()),
            relation: Some(edge.triple.relation.clone()),
            target: Some(edge.triple.target.clone()),
            confidence: Some(edge.confidence),
        };
        let token_text =
            edited.tokens.iter().flatten().next().and_then(|top| tokenizer.token_text(top.token));
        let (layer, feature) = (written.layer, written.feature);
        Operation::Insert(FeatureOperation { layer, feature, edited, token_text })
    })
}

/// The model with all edits but some features, which write nothing.
fn without(
    overlay: &Overlay,
    model: &Model,
    features: &BTreeSet<(usize, usize)>,
) -> Result<Model, ExecuteError> {
    let mut edits = overlay.edits().clone();
    features.iter().for_each(|(layer, feature)| edits.set(*layer, *feature, FeatureEdit::Deleted));
    Ok(model.edited(&edits)?)
}
