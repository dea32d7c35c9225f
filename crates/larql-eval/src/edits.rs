//! Evaluation of knowledge editing: efficacy, paraphrase, specificity and retention of edges that are inserted, updated or
//! deleted.
//!
//! Edges that are false, so that no model says them by itself, are inserted, or replace what the model knows;
//! or what it knows is deleted: one edge at a time or many together. Then the edited model is asked.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use larql_compute::Precision;
use larql_core::Triple;
use larql_core::facts::Facts;
use larql_core::progress::{Meter, Progress, Stage};
use larql_edit::{
    BatchEdit, ComposeOptions, Composer, LayerStatistics, Statement, Written, editing_layer, layers_for,
};
use larql_inference::{Model, greedy_continuations, score_text};
use larql_knowledge::{LanguageModel, calibration_texts, held_out_text};
use larql_models::Tokenizer;
use larql_vindex::FeatureEdits;
use serde::Serialize;

use crate::edit_set::{Case, EditQuestion, EditSet};
use crate::error::EvalError;
use crate::share::Share;

/// Options of the evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EditEvaluation {
    /// The kind of edit.
    pub kind: EditKind,
    /// Edges, from the first of the set.
    pub edits: usize,
    /// Edges that are inserted together.
    pub together: usize,
    /// Options of writing them.
    pub compose: ComposeOptions,
    /// Method of writing them.
    pub method: EditMethod,
    /// The layer to write to; those of [`layers_for`] the edges where nothing is said.
    pub layer: Option<usize>,
}

/// Kind of edit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EditKind {
    /// False edges are inserted.
    #[default]
    Insert,
    /// False edges take the place of true ones that the model knows.
    Update,
    /// True edges that the model knows are deleted.
    Delete,
}

/// Method of writing edges.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum EditMethod {
    /// Features of their own.
    #[default]
    Features,
    /// One change of each layer, solved for with this lambda: [`BatchEdit`].
    ClosedForm(f64),
}

/// Scores of edited edges. Shares are from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EditScores {
    /// The kind of edit.
    pub kind: EditKind,
    /// Edges edited.
    pub edits: usize,
    /// Edges edited together.
    pub together: usize,
    /// Edges whose usual wording is answered with the whole target; of deleted edges, those after whose usual wording the
    /// target no longer comes out within [`DELETED_TOKENS`] tokens.
    pub efficacy: f64,
    /// The same for wordings that the solver did not see, and after sentences that it did not see; of deleted edges, those
    /// after which the target came out before.
    pub paraphrase: f64,
    /// Questions about other entities that keep the first tokens of their answer, as many as the target has.
    pub specificity: f64,
    /// Other questions about the same entity that keep theirs.
    pub retention: f64,
    /// Change of the bits per byte of a text that has nothing to do with the edges, as a share.
    pub drawdown: f64,
    /// Seconds for each edge.
    pub seconds: f64,
    /// Bytes that each edge takes.
    pub bytes: f64,
    /// Features that each edge takes.
    pub features: f64,
}

/// Tokens after a question among which the target of a deleted edge must not come out.
pub const DELETED_TOKENS: usize = 8;

/// Group of edges that were edited together.
#[derive(Clone, Copy, Debug)]
pub struct EditedGroup<'a> {
    /// Number of edges that are done, these included.
    pub done: usize,
    /// Features of each edge.
    pub written: &'a [Written],
    /// Questions that the edges should answer.
    pub questions: &'a [EditQuestion],
}

/// Edits the first edges of a set in groups, asks after each group, and takes the edits back. `on_group` receives each
/// group.
///
/// # Errors
/// If the model is of a kind that edges cannot be written into, the tokenizer cannot encode them, the model knows none of
/// the edges that are to be updated or deleted, or the evaluation is cancelled.
pub fn evaluate_edits(
    language: &LanguageModel,
    set: &EditSet,
    evaluation: &EditEvaluation,
    progress: &dyn Progress,
    on_group: &mut dyn FnMut(EditedGroup<'_>),
) -> Result<EditScores, EvalError> {
    let (model, tokenizer) = (&language.model().with_cancel(progress.cancel_token()), language.tokenizer());
    if let Some(layer) = evaluation.layer.filter(|layer| *layer >= model.spec().layers.len()) {
        return Err(EvalError::NoSuchLayer { layer });
    }
    let usual = match evaluation.layer {
        Some(layer) => layer,
        None => editing_layer(model, tokenizer, progress)?,
    };
    let calibration = calibration_texts(tokenizer)?;
    let mut measured: Vec<LayerStatistics> = Vec::new();
    let text = tokenizer.encode(held_out_text(), true)?;
    let loss = |model: &Model| Ok::<_, EvalError>(score_text(model, &text, Precision::Exact)?.total_nats());
    let before = loss(model)?;

    let edges = match evaluation.kind {
        EditKind::Insert => set.edits.iter().take(evaluation.edits).cloned().collect(),
        EditKind::Update | EditKind::Delete => {
            known_edges(model, tokenizer, set, evaluation.kind, evaluation.edits)?
        }
    };
    if edges.is_empty() {
        return Err(EvalError::NothingKnown { edges: set.edits.len() });
    }
    let [mut efficacy, mut paraphrase, mut specificity, mut retention] = [Share::default(); 4];
    let (mut time, mut features, mut bytes) = (Duration::ZERO, 0, 0);
    let mut losses = Vec::new();
    let together = evaluation.together.max(1);
    let mut meter = Meter::new(progress, Stage::Inserting, edges.len() as u64);
    for (group, edges) in edges.chunks(together).enumerate() {
        let cases = edges
            .iter()
            .enumerate()
            .map(|(index, edge)| set.case(tokenizer, evaluation.kind, group * together + index, edge))
            .collect::<Result<Vec<_>, _>>()?;
        let statements: Vec<Statement> = cases.iter().map(|case| case.statement.clone()).collect();
        let layers = match evaluation.layer {
            Some(layer) => vec![layer],
            None => layers_for(model, usual, &statements),
        };
        let missing: Vec<usize> =
            layers.iter().copied().filter(|layer| measured.iter().all(|of| of.layer != *layer)).collect();
        measured.extend(LayerStatistics::measure_all(model, &missing, &calibration, progress)?);
        let of_layers = layers.iter().filter_map(|layer| measured.iter().find(|of| of.layer == *layer));
        let statistics: Vec<&LayerStatistics> = of_layers.collect();
        let started = Instant::now();
        let (unedited, options) = (FeatureEdits::default(), evaluation.compose);
        let composer = Composer { model, edits: &unedited, statistics: &statistics, options };
        let written = composer.write(&statements, &BTreeSet::new(), &mut meter)?;
        let mut edits = FeatureEdits::default();
        written.iter().for_each(|written| written.lay_over(&mut edits));
        if let EditMethod::ClosedForm(lambda) = evaluation.method {
            let with = model.edited(&edits)?;
            let batch = BatchEdit {
                with: &with,
                without: model,
                layers: &layers,
                statements: &statements,
                kept: &[],
                background: &calibration,
                lambda,
            };
            let solved = batch.solve(progress.cancel_token())?;
            edits = FeatureEdits::default();
            solved.iter().for_each(|layer| layer.lay_over(&mut edits));
        }
        time += started.elapsed();
        features += edits.len();
        bytes += edits.iter().map(|(_, _, edit)| edit.bytes()).sum::<usize>();
        let edited = model.edited(&edits)?;
        let mut questions = Vec::new();
        let prompts = cases.iter().flat_map(|case| {
            let count = match evaluation.kind {
                EditKind::Insert | EditKind::Update => case.statement.target.len(),
                EditKind::Delete => DELETED_TOKENS.max(case.statement.target.len()),
            };
            let kept = case.neighbours.iter().chain(&case.retained);
            let asked = case.questions.iter().map(|asked| &asked.tokens);
            kept.chain(asked).map(move |prompt| (prompt, count))
        });
        let before = answers(model, prompts.clone())?;
        let after = answers(&edited, prompts)?;
        for Case { statement, questions: of_edge, neighbours, retained } in cases {
            let count = statement.target.len();
            for mut asked in of_edge {
                let target = asked.edge.target.trim();
                let comes_out = |answer: &[u32]| tokenizer.decode(answer, true).contains(target);
                asked.answered = match evaluation.kind {
                    EditKind::Insert | EditKind::Update => after[&asked.tokens][..count] == statement.target,
                    EditKind::Delete if !comes_out(&before[&asked.tokens]) => continue,
                    EditKind::Delete => comes_out(&after[&asked.tokens]),
                };
                let share = if asked.paraphrase { &mut paraphrase } else { &mut efficacy };
                share.add(asked.answered == (evaluation.kind != EditKind::Delete));
                questions.push(asked);
            }
            for (share, prompts) in [(&mut specificity, &neighbours), (&mut retention, &retained)] {
                for prompt in prompts {
                    share.add(before[prompt][..count] == after[prompt][..count]);
                }
            }
        }
        if losses.len() < MEASURED_LOSSES {
            losses.push(loss(&edited)?);
        }
        on_group(EditedGroup { done: efficacy.of, written: &written, questions: &questions });
        progress.check()?;
    }
    let share = |share: Share| share.value().unwrap_or(0.0);
    let each = |all: f64| all / edges.len().max(1) as f64;
    let after = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    Ok(EditScores {
        kind: evaluation.kind,
        edits: edges.len(),
        together,
        efficacy: share(efficacy),
        paraphrase: share(paraphrase),
        specificity: share(specificity),
        retention: share(retention),
        drawdown: after / before - 1.0,
        seconds: each(time.as_secs_f64()),
        bytes: each(bytes as f64),
        features: each(features as f64),
    })
}

/// The first `count` edges of a set for whose entity and relation the model gives a true target of the shipped fact tables after
/// the usual wording: with that target to delete them, with the set's false one to update them.
pub(crate) fn known_edges(
    model: &Model,
    tokenizer: &Tokenizer,
    set: &EditSet,
    kind: EditKind,
    count: usize,
) -> Result<Vec<Triple>, EvalError> {
    let mut known = Vec::new();
    for edges in set.edits.chunks(EDGES_AT_ONCE) {
        let mut asked = Vec::new();
        for edge in edges {
            let targets = Facts::shipped().targets_of(&edge.relation).remove(&*edge.entity);
            for target in targets.into_iter().flatten().filter(|target| **target != edge.target) {
                let true_edge = Triple::new(&edge.entity, &edge.relation, target);
                let case = set.case(tokenizer, EditKind::Insert, 0, &true_edge)?;
                asked.push((edge, true_edge, case.statement));
            }
        }
        let prompts = asked.iter().map(|(.., of)| (&of.prompts[0], of.target.len()));
        let answers = answers(model, prompts)?;
        for (edge, true_edge, Statement { prompts, target, .. }) in &asked {
            let edge = match kind {
                EditKind::Delete => true_edge,
                EditKind::Insert | EditKind::Update => *edge,
            };
            if answers[&prompts[0]].starts_with(target) && !known.contains(edge) {
                known.push(edge.clone());
            }
        }
        if known.len() >= count {
            break;
        }
    }
    known.truncate(count);
    Ok(known)
}

/// Groups after which the text is scored: it takes longer than all questions.
const MEASURED_LOSSES: usize = 20;

/// Edges that are asked about together.
const EDGES_AT_ONCE: usize = 64;

/// For each prompt the likeliest next tokens, one after another, as many as stand beside it.
fn answers<'p>(
    model: &Model,
    prompts: impl Iterator<Item = (&'p Vec<u32>, usize)>,
) -> Result<HashMap<Vec<u32>, Vec<u32>>, EvalError> {
    let mut lengths: HashMap<&Vec<u32>, usize> = HashMap::new();
    for (prompt, length) in prompts {
        let longest = lengths.entry(prompt).or_default();
        *longest = length.max(*longest);
    }
    let mut prompts: Vec<(&[u32], usize)> =
        lengths.into_iter().map(|(prompt, length)| (&prompt[..], length)).collect();
    prompts.sort();
    let answers = greedy_continuations(model, &prompts)?;
    Ok(prompts.iter().map(|(prompt, _)| prompt.to_vec()).zip(answers).collect())
}
