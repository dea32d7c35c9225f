//! Writing edges: features of the model, or entries of its edge memory, which replace other answers to the same questions.

use std::collections::{BTreeSet, HashSet};

use larql_core::Triple;
use larql_core::progress::{Meter, Progress, Stage};
use larql_edit::{
    Assertion, ComposeOptions, Composer, Wording, Written, build_entries, default_layer, layers_for,
};
use larql_knowledge::LanguageModel;
use larql_lql::output::Stored;
use larql_models::Tokenizer;
use larql_vindex::{
    EditedFeature, FeatureEdit, FeatureEdits, FeatureOperation, KnnEntry, Operation, Overlay, StatedEdge,
};

use crate::common::entries::{entry_key, question, replace_entries};
use crate::common::stated::carried_edges;
use crate::measured::Measured;
use crate::{ExecuteError, Session};

/// Purpose of writing edges.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Purpose {
    /// The model says them.
    Learn,
    /// The model no longer says them.
    Unlearn,
}

/// Edges to be written into a model, or into its edge memory.
pub(crate) struct Writing<'a> {
    pub(crate) overlay: &'a Overlay,
    /// The model with the overlay's edits.
    pub(crate) language: &'a LanguageModel,
    pub(crate) measured: &'a Measured,
    /// The layer that the statement names.
    pub(crate) layer: Option<usize>,
    pub(crate) edges: &'a [Assertion],
    pub(crate) purpose: Purpose,
    /// Receives reports, and is cancelled when the statement is to stop.
    pub(crate) progress: &'a dyn Progress,
}

impl<'a> Writing<'a> {
    /// Returns the writing of edges that `language`, the model with the overlay's edits, is to learn, in a layer that is
    /// chosen for it.
    pub(crate) fn new(
        session: &'a Session,
        overlay: &'a Overlay,
        measured: &'a Measured,
        language: &'a LanguageModel,
        edges: &'a [Assertion],
    ) -> Writing<'a> {
        let (layer, purpose, progress) = (None, Purpose::Learn, session.progress());
        Writing { overlay, language, measured, layer, edges, purpose, progress }
    }

    /// The layer whose inputs are remembered, and at which COMPOSE is judged possible.
    pub(crate) fn memory_layer(&self) -> usize {
        self.layer.unwrap_or_else(|| default_layer(self.language.model()))
    }

    /// Computes the operations that write the edges as features, which replace what answered the same questions, and how well
    /// the model learns each.
    pub(crate) fn composed(
        &self,
        greatest_norm: Option<f32>,
    ) -> Result<(Vec<Operation>, Vec<Stored>), ExecuteError> {
        let carriers = self.carriers();
        let (features, stored) = self.features(&without(self.overlay, &carriers), greatest_norm)?;
        let mut operations = self.replacing(carriers);
        operations.extend(features);
        Ok((operations, stored))
    }

    /// The operations that write the edges as features of a model with `edits`.
    pub(crate) fn features(
        &self,
        edits: &FeatureEdits,
        greatest_norm: Option<f32>,
    ) -> Result<(Vec<Operation>, Vec<Stored>), ExecuteError> {
        let (model, tokenizer) = (&self.language.model().edited(edits)?, self.language.tokenizer());
        let statements = self
            .edges
            .iter()
            .map(|Assertion { triple: Triple { entity, relation, target }, .. }| {
                let wording = Wording::of(entity, relation);
                match self.purpose {
                    Purpose::Learn => wording.statement(tokenizer, entity, target),
                    Purpose::Unlearn => wording.unlearning(tokenizer, entity, target),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        // Where edges were solved for together every feature writes otherwise, and any may be given up.
        let taken = edits.iter().filter(|(_, _, edit)| match edit {
            FeatureEdit::Changed(edited) => edited.gate.is_some() || edited.edge != StatedEdge::default(),
            FeatureEdit::Deleted => true,
        });
        let taken = taken.map(|(layer, feature, _)| (layer, feature)).collect();
        let options = match self.purpose {
            Purpose::Learn => ComposeOptions { greatest_norm, ..ComposeOptions::default() },
            Purpose::Unlearn => ComposeOptions { greatest_norm, ..ComposeOptions::unlearning() },
        };
        let layers = match self.layer {
            Some(layer) => vec![layer],
            None => {
                layers_for(model, self.measured.editing_layer(self.language, self.progress)?, &statements)
            }
        };
        let statistics = self.measured.statistics(self.language, &layers, self.progress)?;
        let composer = Composer { model, edits, statistics: &statistics, options };
        let mut meter = Meter::new(self.progress, Stage::Inserting, statements.len() as u64);
        let written = composer.write(&statements, &taken, &mut meter)?;
        let stored = written.iter().map(|written| Stored::Compose { probability: written.probability });
        let stored = stored.collect();
        let edges = self.edges.iter().zip(written);
        let operations =
            edges.flat_map(|(edge, written)| feature_operations(tokenizer, edge, self.purpose, written));
        Ok((operations.collect(), stored))
    }

    /// The operations that store the edges in the edge memory, and the least cosine at which each answers.
    pub(crate) fn remembered(&self) -> Result<(Vec<Operation>, Vec<Stored>), ExecuteError> {
        let Writing { overlay, language, edges, .. } = *self;
        let layer = self.memory_layer();
        let carriers = self.carriers();
        let model = language.model().edited(&without(overlay, &carriers))?;
        let space = language.key_space(layer)?;
        let entries = build_entries(&model, language.tokenizer(), space, edges, self.progress)?;
        let stored = |entry: &KnnEntry| Stored::Knn { layer, threshold: entry.threshold.unwrap_or(1.0) };
        let stored = entries.iter().map(stored).collect();
        let mut operations = self.replacing(carriers);
        operations.extend(entries.into_iter().map(Operation::InsertKnn));
        Ok((operations, stored))
    }

    /// The operations that take away what answered the same questions before: the features that carry the answers, and
    /// entries of the edge memory.
    fn replacing(&self, carriers: BTreeSet<(usize, usize)>) -> Vec<Operation> {
        let mut operations: Vec<Operation> = carriers.into_iter().map(restored).collect();
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
    purpose: Purpose,
    written: Written,
) -> impl Iterator<Item = Operation> {
    written.features.into_iter().map(move |written| {
        let mut edited = written.edited;
        edited.edge = StatedEdge {
            entity: Some(edge.triple.entity.clone()),
            relation: Some(edge.triple.relation.clone()),
            // A feature that unlearns states no target.
            target: (purpose == Purpose::Learn).then(|| edge.triple.target.clone()),
            confidence: Some(edge.confidence),
        };
        let token_text =
            edited.tokens.iter().flatten().next().and_then(|top| tokenizer.token_text(top.token));
        let (layer, feature) = (written.layer, written.feature);
        Operation::Insert(FeatureOperation { layer, feature, edited, token_text })
    })
}

/// The operation that gives a feature back to the base.
pub(crate) fn restored((layer, feature): (usize, usize)) -> Operation {
    Operation::Insert(FeatureOperation { layer, feature, ..FeatureOperation::default() })
}

/// All edits but those of some features, which are the base's.
fn without(overlay: &Overlay, features: &BTreeSet<(usize, usize)>) -> FeatureEdits {
    let mut edits = overlay.edits().clone();
    features.iter().for_each(|(layer, feature)| drop(edits.remove(*layer, *feature)));
    edits
}
