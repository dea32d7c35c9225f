//! Probing: learns the templates that work best for each relation, the belief in answers, and the features that carry them,
//! by ablation and not by resemblance.
//!
//! Some subjects are held out: nothing is learnt from them, so that an evaluation can ask about what the probe never
//! saw. Wordings that only an evaluation uses are never asked.

mod ablate;
mod encoding;
mod journal;
mod label;
mod question;
mod store;
mod templates;

use std::collections::BTreeSet;

use larql_compute::top_k_by_value;
use larql_models::Tokenizer;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use journal::Journal;
pub use label::{FeatureEvidence, LabelledFeature};
use question::Pair;
pub use question::{CarrierShare, GivenAnswer, ProbedQuestion};
pub use store::{EVIDENCE_FILE, LABELS_FILE, RELATIONS_FILE};

use crate::reading::{
    AskableRelation, AskableRelations, Belief, Case, CrossScores, Evidence, FOLDS, QuestionSense, RELATIONS,
    SenseCase, SubjectKinds, TrackRecord, entity_inputs,
};
use larql_core::facts::{Facts, Relation};
use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::Model;

use crate::{KnowledgeError, ProbeError};

/// Options of a probe.
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

/// Store of the answers of a probe, from which a later probe with the same options continues.
pub trait ProbeJournal {
    /// Returns what an earlier probe found of this question.
    fn earlier(&mut self, relation: &str, subject: &str) -> Option<ProbedQuestion>;

    /// Keeps what was found of a question.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn keep(&mut self, found: &ProbedQuestion) -> std::io::Result<()>;
}

/// Journal that keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoJournal;

impl ProbeJournal for NoJournal {
    fn earlier(&mut self, _: &str, _: &str) -> Option<ProbedQuestion> {
        None
    }
    fn keep(&mut self, _: &ProbedQuestion) -> std::io::Result<()> {
        Ok(())
    }
}

/// Results of a probe.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Relations with their templates, and the belief in answers.
    pub relations: AskableRelations,
    /// The features that carry relations.
    pub labels: Vec<LabelledFeature>,
    /// Questions that have an answer in the facts.
    pub asked: usize,
    /// Those of them whose first answer was right.
    pub right: usize,
    /// Both, for each relation.
    pub right_by_relation: Vec<(usize, usize)>,
}

/// Depth of the layer of [`SubjectKinds`], as a fraction of the layers.
const KIND_DEPTH: (usize, usize) = (3, 4);

/// The subjects of `facts` that a probe may learn from.
pub fn probed_subjects(facts: &Facts, options: &ProbeOptions) -> BTreeSet<String> {
    let subjects: BTreeSet<&str> = facts.iter().map(|fact| &*fact.entity).collect();
    let mut subjects: Vec<&str> = subjects.into_iter().collect();
    subjects.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    let held_out = (subjects.len() as f64 * options.hold_out).round() as usize;
    subjects.into_iter().skip(held_out).map(str::to_owned).collect()
}

/// Probes a model with facts. Questions that `journal` has answers to are not asked again.
///
/// # Errors
/// If a sentence cannot be encoded, the journal cannot be written, or the probe is cancelled.
pub fn probe(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    options: &ProbeOptions,
    journal: &mut dyn ProbeJournal,
    progress: &dyn Progress,
) -> Result<Probed, ProbeError> {
    let model = &model.with_cancel(progress.cancel_token());
    let subjects = probed_subjects(facts, options);
    let facts = facts.filtered(|fact| subjects.contains(&fact.entity));
    let held: Vec<&Relation> =
        facts.relations().iter().filter(|relation| !facts.targets_of(&relation.name).is_empty()).collect();

    let subjects: Vec<String> = subjects.into_iter().collect();
    let (kinds, scores) = kinds(model, tokenizer, &facts, &held, &subjects)?;
    let mut relations = AskableRelations {
        version: 2,
        names: facts.names().clone(),
        relations: Vec::new(),
        kinds,
        sense: QuestionSense::default(),
        belief: Belief::default(),
        subjects: subjects.clone(),
    };
    let mut meter = Meter::new(progress, Stage::ProbeWordings, held.len() as u64);
    for (done, relation) in held.iter().enumerate() {
        meter.set_done(done as u64)?;
        let templates = templates::best_templates(model, tokenizer, &facts, relation, options.wordings)?;
        relations.relations.push(AskableRelation {
            name: relation.name.clone(),
            templates,
            functional: relation.functional,
            record: TrackRecord::default(),
        });
    }
    let cases = cases(&facts, &held, &subjects, relations.kinds.least, &scores);
    let pairs: Vec<Pair<'_>> = cases.iter().map(|case| case.pair).collect();
    let questions = question::ask_all(model, tokenizer, &facts, &relations, &pairs, journal, progress)?;
    let records: Vec<TrackRecord> = (0..held.len())
        .map(|relation| {
            record(cases.iter().zip(&questions).filter(|(case, _)| case.pair.relation == relation))
        })
        .collect();
    relations.relations.iter_mut().zip(records).for_each(|(relation, record)| relation.record = record);
    let states = cases.iter().zip(&questions).map(|(case, question)| SenseCase {
        relation: case.pair.relation,
        state: &question.state,
        applies: case.applies,
        weight: case.weight,
        fold: case.fold,
    });
    let hidden = model.spec().hidden_size;
    let (sense, senses) = QuestionSense::learn(&states.collect::<Vec<_>>(), held.len(), hidden);
    relations.sense = sense;
    let answers: Vec<Case> = cases
        .iter()
        .zip(&questions)
        .zip(senses)
        .flat_map(|((asked, question), sense)| {
            let relations = &relations;
            question.answers.iter().map(move |answer| Case {
                evidence: asked.evidence(relations, answer, sense),
                right: answer.right,
                weight: asked.weight,
                fold: asked.fold,
            })
        })
        .collect();
    relations.belief = Belief::fit(&answers);
    let labels = label::label(model, tokenizer, &relations, &questions, progress)?;
    let mut right_by_relation = vec![(0, 0); held.len()];
    for (case, question) in cases.iter().zip(&questions).filter(|(case, _)| case.applies) {
        let (asked, right) = &mut right_by_relation[case.pair.relation];
        *asked += 1;
        *right += usize::from(question.answers.first().is_some_and(|answer| answer.right));
    }
    let sum = |of: fn(&(usize, usize)) -> usize| right_by_relation.iter().map(of).sum();
    Ok(Probed { relations, labels, asked: sum(|r| r.0), right: sum(|r| r.1), right_by_relation })
}

/// A question that is asked to learn from.
struct AskedCase<'a> {
    pair: Pair<'a>,
    /// True if the subject has the relation.
    applies: bool,
    /// Score of the relation, predicted without the subject.
    kind: f32,
    /// Number of questions that it stands for.
    weight: f32,
    /// The part, of [`FOLDS`], that all questions about the subject are in.
    fold: usize,
}

impl AskedCase<'_> {
    /// Evidence for an answer that was given while its relation was probed, without the answer itself.
    fn evidence(&self, relations: &AskableRelations, answer: &GivenAnswer, sense: f32) -> Evidence {
        let relation = &relations.relations[self.pair.relation];
        Evidence {
            relation: self.pair.relation,
            log_probability: answer.log_probability,
            agreement: answer.agreement,
            reliability: relation.record.reliability(&answer.text, Some(answer.right)),
            said: relation.record.said(&answer.text).saturating_sub(1),
            kind: self.kind,
            sense,
        }
    }
}

/// One in so many subjects is asked about relations that it does not have.
const EVERY: usize = 2;
/// About how many of them.
const MISPLACED: usize = 4;

/// All that the subjects of the facts are asked about: the relations that they have, and for some subjects relations that
/// they seem to have and do not, which is what DESCRIBE will ask as well.
fn cases<'a>(
    facts: &Facts,
    held: &[&Relation],
    subjects: &'a [String],
    least: f32,
    scores: &CrossScores,
) -> Vec<AskedCase<'a>> {
    let of_relation: Vec<_> = held.iter().map(|relation| facts.targets_of(&relation.name)).collect();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut cases = Vec::new();
    for (index, (subject, scores)) in subjects.iter().zip(scores).enumerate() {
        let case = |relation: usize, applies: bool, weight: f32| {
            let pair = Pair { subject, relation };
            AskedCase { pair, applies, kind: scores[relation], weight, fold: index % FOLDS }
        };
        let applies = |relation: usize| of_relation[relation].contains_key(&**subject);
        cases.extend((0..held.len()).filter(|r| applies(*r)).map(|relation| case(relation, true, 1.0)));
        if index % EVERY == 0 {
            let likely = top_k_by_value(scores, RELATIONS).into_iter();
            let mut misplaced: Vec<usize> = likely
                .filter(|(r, score)| *score > least && facts.denies(subject, &held[*r].name))
                .map(|(relation, _)| relation)
                .collect();
            misplaced.shuffle(&mut random);
            let weight = EVERY as f32 * misplaced.len() as f32 / misplaced.len().clamp(1, MISPLACED) as f32;
            cases.extend(misplaced.iter().take(MISPLACED).map(|relation| case(*relation, false, weight)));
        }
    }
    cases
}

/// Track record of the answers to the questions about one relation.
fn record<'a>(asked: impl Iterator<Item = (&'a AskedCase<'a>, &'a ProbedQuestion)>) -> TrackRecord {
    let mut record = TrackRecord::default();
    for (case, question) in asked {
        for answer in &question.answers {
            if case.applies {
                record.total.add(answer.right);
            }
            record.answers.entry(answer.text.clone()).or_default().add(answer.right);
        }
    }
    record.answers.retain(|_, tally| tally.said > 1);
    record
}

/// Learns which relations entities have, and scores `subjects` as if it had not seen them.
fn kinds(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    relations: &[&Relation],
    subjects: &[String],
) -> Result<(SubjectKinds, CrossScores), KnowledgeError> {
    let layer = model.spec().layers.len() * KIND_DEPTH.0 / KIND_DEPTH.1;
    let names: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let inputs = entity_inputs(model, tokenizer, &names, layer)?;
    let has: Vec<Vec<bool>> = relations
        .iter()
        .map(|relation| {
            let objects = facts.targets_of(&relation.name);
            names.iter().map(|subject| objects.contains_key(subject)).collect()
        })
        .collect();
    Ok(SubjectKinds::learn(layer, &inputs, model.spec().hidden_size, &has))
}
