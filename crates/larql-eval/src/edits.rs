//! Evaluation of knowledge editing: efficacy, paraphrase, specificity and retention of edges that are inserted.
//!
//! Edges that are false, so that no model says them by itself, are inserted one at a time or many together, and the edited
//! model is asked.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use larql_compute::Precision;
use larql_core::progress::{Meter, Progress, Stage};
use larql_edit::{
    BatchEdit, ComposeOptions, Composer, LayerStatistics, SolvedLayer, Statement, Written, editing_layer,
    layers_for,
};
use larql_inference::{KeyValueCache, Model, Sequence, greedy, score_text};
use larql_knowledge::{LanguageModel, calibration_texts, held_out_text};
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits};
use serde::Serialize;

use crate::edit_set::{Case, EditQuestion, EditSet};
use crate::error::EvalError;
use crate::share::Share;

/// Options of the evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EditEvaluation {
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

/// Method of writing edges.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum EditMethod {
    /// Features of their own.
    #[default]
    Features,
    /// One change of each layer, solved for with this lambda: [`BatchEdit`].
    ClosedForm(f64),
}

/// Scores of inserted edges. Shares are from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EditScores {
    /// Edges inserted.
    pub edits: usize,
    /// Edges inserted together.
    pub together: usize,
    /// Edges whose usual wording is answered with the whole target.
    pub efficacy: f64,
    /// The same for wordings that the solver did not see, and after sentences that it did not see.
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

/// Group of edges that were inserted together.
#[derive(Clone, Copy, Debug)]
pub struct EditedGroup<'a> {
    /// Number of edges that are done, these included.
    pub done: usize,
    /// Features of each edge.
    pub written: &'a [Written],
    /// Questions that the edges should answer.
    pub questions: &'a [EditQuestion],
}

/// Inserts the first edges of a set in groups, asks after each group, and takes them out again. `on_group` receives each
/// group.
///
/// # Errors
/// If the model is of a kind that edges cannot be written into, the tokenizer cannot encode them, or the evaluation is cancelled.
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
        None => editing_layer(model, tokenizer)?,
    };
    let calibration = calibration_texts(tokenizer)?;
    let mut measured: Vec<LayerStatistics> = Vec::new();
    let text = tokenizer.encode(held_out_text(), true)?;
    let loss = |model: &Model| Ok::<_, EvalError>(score_text(model, &text, Precision::Exact)?.total_nats());
    let before = loss(model)?;

    let edges = &set.edits[..evaluation.edits.min(set.edits.len())];
    let [mut efficacy, mut paraphrase, mut specificity, mut retention] = [Share::default(); 4];
    let (mut time, mut features, mut bytes) = (Duration::ZERO, 0, 0);
    let mut losses = Vec::new();
    let together = evaluation.together.max(1);
    let mut meter = Meter::new(progress, Stage::Inserting, edges.len() as u64);
    for (group, edges) in edges.chunks(together).enumerate() {
        let cases = edges
            .iter()
            .enumerate()
            .map(|(index, edge)| set.case(tokenizer, group * together + index, edge))
            .collect::<Result<Vec<_>, _>>()?;
        let statements: Vec<Statement> = cases.iter().map(|case| case.statement.clone()).collect();
        let layers = match evaluation.layer {
            Some(layer) => vec![layer],
            None => layers_for(model, usual, &statements),
        };
        let missing: Vec<usize> =
            layers.iter().copied().filter(|layer| measured.iter().all(|of| of.layer != *layer)).collect();
        measured.extend(LayerStatistics::measure_all(model, &missing, &calibration)?);
        let of_layers = layers.iter().filter_map(|layer| measured.iter().find(|of| of.layer == *layer));
        let statistics: Vec<&LayerStatistics> = of_layers.collect();
        let started = Instant::now();
        let composer = Composer { model, statistics: &statistics, options: evaluation.compose };
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
            for SolvedLayer { layer, downs, .. } in solved {
                for (feature, down) in downs.into_iter().enumerate() {
                    let edited = EditedFeature { down: Some(down), ..EditedFeature::default() };
                    edits.set(layer, feature, FeatureEdit::Changed(edited));
                }
            }
        }
        time += started.elapsed();
        features += edits.len();
        bytes += edits.iter().map(|(_, _, edit)| edit.bytes()).sum::<usize>();
        let edited = model.edited(&edits)?;
        let mut questions = Vec::new();
        let kept = cases.iter().flat_map(|case| {
            let count = case.statement.target.len();
            case.neighbours.iter().chain(&case.retained).map(move |prompt| (prompt, count))
        });
        let asked =
            cases.iter().flat_map(|case| &case.questions).map(|asked| (&asked.tokens, asked.target.len()));
        let before = answers(model, kept.clone())?;
        let after = answers(&edited, kept.chain(asked))?;
        for Case { statement, questions: of_edge, neighbours, retained } in cases {
            let count = statement.target.len();
            for mut asked in of_edge {
                asked.answered = after[&asked.tokens][..count] == statement.target;
                let share = if asked.paraphrase { &mut paraphrase } else { &mut efficacy };
                share.add(asked.answered);
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

/// Groups after which the text is scored: it takes longer than all questions.
const MEASURED_LOSSES: usize = 20;

/// Prompts that are run together.
const PROMPTS_AT_ONCE: usize = 64;

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
    // Those with long answers together, so that the others are done with early.
    let mut prompts: Vec<(&Vec<u32>, usize)> = lengths.into_iter().collect();
    prompts.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then(a.cmp(b)));
    let mut all = HashMap::new();
    for prompts in prompts.chunks(PROMPTS_AT_ONCE) {
        let mut caches: Vec<_> = prompts.iter().map(|_| KeyValueCache::new(model.spec())).collect();
        let mut answers = vec![Vec::new(); prompts.len()];
        let mut next: Vec<Vec<u32>> = prompts.iter().map(|(prompt, _)| prompt.to_vec()).collect();
        for step in 0.. {
            next.truncate(prompts.partition_point(|(_, length)| *length > step));
            if next.is_empty() {
                break;
            }
            let mut sequences: Vec<Sequence<'_>> =
                next.iter().zip(&mut caches).map(|(tokens, cache)| Sequence::new(cache, tokens)).collect();
            let logits = model.pass().run(&mut sequences)?.into_values();
            let likeliest = logits.chunks_exact(model.spec().vocab_size).map(greedy);
            next = likeliest.map(|token| vec![token]).collect();
            answers.iter_mut().zip(&next).for_each(|(answer, token)| answer.extend(token));
        }
        all.extend(prompts.iter().map(|(prompt, _)| prompt.to_vec()).zip(answers));
    }
    Ok(all)
}
