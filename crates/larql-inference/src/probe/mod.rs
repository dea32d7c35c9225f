//! Probing: finds out how a model is best asked about relations, when its answers are to be believed, and which features
//! carry them, by cause and not by resemblance.
//!
//! Some subjects are held out: nothing is learnt from them, so that [`eval::knowledge`](crate::eval::knowledge) can ask
//! about what the probe never saw. Wordings that only an evaluation uses are never asked.

mod ablate;
mod label;
mod question;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use larql_models::Tokenizer;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use label::{FeatureEvidence, LabelledFeature};
pub use question::{GivenAnswer, ProbedQuestion};

use crate::facts::{Facts, Relation};
use crate::knowledge::{
    AskableRelation, AskableRelations, Belief, SubjectKinds, TrackRecord, entity_inputs, evidence_of,
};
use crate::{InferenceError, Model};

/// How a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeOptions {
    /// The share of subjects that are held out.
    pub hold_out: f64,
    /// Wordings of a relation that are used.
    pub wordings: usize,
    /// Decides which subjects are held out.
    pub seed: u64,
}

impl Default for ProbeOptions {
    /// One subject in five is held out, and three wordings are used.
    fn default() -> Self {
        ProbeOptions { hold_out: 0.2, wordings: 3, seed: 0 }
    }
}

/// What a probe is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeStage {
    /// Trying wordings; counted in relations.
    Wordings,
    /// Asking; counted in questions.
    Questions,
    /// Removing features to see whether answers suffer; counted in features.
    Ablations,
}

/// Watches a probe, and keeps what it has found so that a later one can go on from there.
pub trait ProbeWatcher {
    /// Called often; `done` of `total` are done in this stage. Breaking stops the probe with
    /// [`InferenceError::Interrupted`].
    fn step(&mut self, stage: ProbeStage, done: usize, total: usize) -> ControlFlow<()>;

    /// What an earlier probe with the same options found of this question.
    fn earlier(&mut self, relation: &str, subject: &str) -> Option<ProbedQuestion>;

    /// Keeps what was found.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn keep(&mut self, found: &ProbedQuestion) -> std::io::Result<()>;
}

/// Watches nothing and keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoWatcher;

impl ProbeWatcher for NoWatcher {
    fn step(&mut self, _: ProbeStage, _: usize, _: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
    fn earlier(&mut self, _: &str, _: &str) -> Option<ProbedQuestion> {
        None
    }
    fn keep(&mut self, _: &ProbedQuestion) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a probe found.
#[derive(Clone, Debug)]
pub struct Probed {
    /// How to ask, whom, and when to believe.
    pub relations: AskableRelations,
    /// The features that carry relations.
    pub labels: Vec<LabelledFeature>,
    /// Questions that were asked, and those whose first answer was right.
    pub asked: usize,
    /// See there.
    pub right: usize,
}

/// Subjects that wordings are tried with.
const TRIED_SUBJECTS: usize = 16;

/// The subjects of `facts` that a probe may learn from.
pub fn probed_subjects(facts: &Facts, options: &ProbeOptions) -> BTreeSet<String> {
    let subjects: BTreeSet<&str> = facts.iter().map(|fact| &*fact.subject).collect();
    let mut subjects: Vec<&str> = subjects.into_iter().collect();
    subjects.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    let held_out = (subjects.len() as f64 * options.hold_out).round() as usize;
    subjects.into_iter().skip(held_out).map(str::to_owned).collect()
}

/// Probes a model with facts.
///
/// # Errors
/// If a sentence cannot be encoded, or `watcher` stops the probe.
pub fn probe(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    options: &ProbeOptions,
    watcher: &mut dyn ProbeWatcher,
) -> Result<Probed, InferenceError> {
    let subjects = probed_subjects(facts, options);
    let facts = facts.filtered(|fact| subjects.contains(&fact.subject));
    let held: Vec<&Relation> =
        facts.relations().iter().filter(|relation| !facts.of_relation(&relation.name).is_empty()).collect();

    let mut relations = AskableRelations {
        version: 1,
        names: facts.names().clone(),
        relations: Vec::new(),
        kinds: kinds(model, tokenizer, &facts, &held)?,
        belief: Belief::default(),
        subjects: subjects.into_iter().collect(),
    };
    for (done, relation) in held.iter().enumerate() {
        go_on(watcher.step(ProbeStage::Wordings, done, held.len()))?;
        let templates = question::best_wordings(model, tokenizer, &facts, relation, options.wordings)?;
        relations.relations.push(AskableRelation {
            name: relation.name.clone(),
            templates,
            functional: relation.functional,
            record: TrackRecord::default(),
        });
    }
    let questions = question::ask_all(model, tokenizer, &facts, &relations, watcher)?;
    for question in &questions {
        let Some(relation) = relations.relations.iter_mut().find(|r| r.name == question.relation) else { continue };
        for answer in &question.answers {
            relation.record.total.add(answer.right);
            relation.record.answers.entry(answer.text.clone()).or_default().add(answer.right);
        }
    }
    for relation in &mut relations.relations {
        relation.record.answers.retain(|_, tally| tally.said > 1);
    }
    let cases: Vec<_> = questions
        .iter()
        .filter_map(|question| Some((question, relations.relation(&question.relation)?)))
        .flat_map(|(question, relation)| {
            question.answers.iter().map(|answer| (evidence_of(relation, answer), answer.right))
        })
        .collect();
    relations.belief = Belief::fit(&cases);
    let labels = label::label(model, tokenizer, &relations, &questions, watcher)?;
    let right = questions.iter().filter(|q| q.answers.first().is_some_and(|answer| answer.right)).count();
    Ok(Probed { relations, labels, asked: questions.len(), right })
}

/// Learns which relations entities have.
fn kinds(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    relations: &[&Relation],
) -> Result<SubjectKinds, InferenceError> {
    let mut of_subject: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for fact in facts.iter() {
        of_subject.entry(&fact.subject).or_default().insert(&fact.relation);
    }
    let layer = model.spec().layers.len() / 2;
    let subjects: Vec<&str> = of_subject.keys().copied().collect();
    let inputs = entity_inputs(model, tokenizer, &subjects, layer)?;
    let has: Vec<Vec<bool>> = relations
        .iter()
        .map(|relation| of_subject.values().map(|own| own.contains(&*relation.name)).collect())
        .collect();
    Ok(SubjectKinds::fit(layer, &inputs, model.spec().hidden_size, &has))
}

fn go_on(flow: ControlFlow<()>) -> Result<(), InferenceError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(InferenceError::Interrupted),
    }
}
