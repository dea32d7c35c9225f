//! Survey: the answers of a model about subjects whose facts are known, from which the reliability of its answers is learnt.

use larql_compute::top_k_by_value;
use larql_core::facts::{Facts, Relation};
use larql_core::progress::Progress;
use larql_inference::Model;
use larql_models::Tokenizer;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::question::{Pair, ProbedModel, ask_all};
use super::{GivenAnswer, ProbeJournal, ProbedQuestion};
use crate::reading::{
    AskableRelations, CrossScores, Evidence, FOLDS, JudgedAnswer, QuestionSense, RELATIONS, SenseCase,
    SubjectKinds, TrackRecord, entity_inputs,
};
use crate::{KnowledgeError, ProbeError};

/// Depth of the layer of [`SubjectKinds`], as a fraction of the layers.
const KIND_DEPTH: (usize, usize) = (3, 4);
/// Interval of the subjects that are asked about relations that they do not have.
const EVERY: usize = 2;
/// About how many of them.
const MISPLACED: usize = 4;

/// Relations of which `facts` have some.
pub(crate) fn held_relations(facts: &Facts) -> Vec<&Relation> {
    facts.relations().iter().filter(|relation| !facts.targets_of(&relation.name).is_empty()).collect()
}

/// Subjects, all that they are asked about, and the model's answers.
pub(crate) struct Survey<'a> {
    cases: Vec<AskedCase<'a>>,
    questions: Vec<ProbedQuestion>,
    /// Score of each question, from its hidden state, for whether it applies; fitted to the other subjects.
    senses: Vec<f32>,
}

impl<'a> Survey<'a> {
    /// Asks about `subjects`, with the templates of `relations`, which are those that `facts` have. Leaves in `relations` the
    /// track record of the answers and which questions make sense. `scores` tells how much each subject seems to have each
    /// relation.
    pub(crate) fn run(
        ask: &ProbedModel<'_>,
        relations: &mut AskableRelations,
        subjects: &'a [String],
        scores: &CrossScores,
        journal: &mut dyn ProbeJournal,
        progress: &dyn Progress,
    ) -> Result<Survey<'a>, ProbeError> {
        let count = relations.relations.len();
        let cases = cases(ask.facts, relations, subjects, scores);
        let pairs: Vec<Pair<'_>> = cases.iter().map(|case| case.pair).collect();
        let questions = ask_all(ask, relations, &pairs, journal, progress)?;
        let mut survey = Survey { cases, questions, senses: Vec::new() };
        let records: Vec<TrackRecord> = (0..count).map(|relation| survey.record(relation)).collect();
        relations.relations.iter_mut().zip(records).for_each(|(relation, record)| relation.record = record);
        let states = survey.asked().map(|(case, question)| SenseCase {
            relation: case.pair.relation,
            state: &question.state,
            applies: case.applies,
            weight: case.weight,
            fold: case.fold,
        });
        let (sense, senses) =
            QuestionSense::learn(&states.collect::<Vec<_>>(), count, ask.model.spec().hidden_size);
        relations.sense = sense;
        survey.senses = senses;
        Ok(survey)
    }

    fn asked(&self) -> impl Iterator<Item = (&AskedCase<'a>, &ProbedQuestion)> {
        self.cases.iter().zip(&self.questions)
    }

    /// Questions, as they were answered.
    pub(crate) fn questions(&self) -> &[ProbedQuestion] {
        &self.questions
    }

    /// All answers, for a belief to learn from.
    pub(crate) fn answers(&self, relations: &AskableRelations) -> Vec<JudgedAnswer> {
        let asked = self.asked().zip(&self.senses);
        asked
            .flat_map(|((asked, question), sense)| {
                question.answers.iter().map(move |answer| JudgedAnswer {
                    evidence: asked.evidence(relations, answer, *sense),
                    right: answer.right,
                    weight: asked.weight,
                    fold: asked.fold,
                })
            })
            .collect()
    }

    /// Counts the questions about relations that their subjects have, and those of them whose first answer was right, for
    /// each of `relations`.
    pub(crate) fn right_by_relation(&self, relations: usize) -> Vec<(usize, usize)> {
        let mut counts = vec![(0, 0); relations];
        for (case, question) in self.asked().filter(|(case, _)| case.applies) {
            let (asked, right) = &mut counts[case.pair.relation];
            *asked += 1;
            *right += usize::from(question.answers.first().is_some_and(|answer| answer.right));
        }
        counts
    }

    /// Track record of the answers to the questions about one relation.
    fn record(&self, relation: usize) -> TrackRecord {
        let mut record = TrackRecord::default();
        for (case, question) in self.asked().filter(|(case, _)| case.pair.relation == relation) {
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
}

/// A question that is asked to learn from.
struct AskedCase<'a> {
    pair: Pair<'a>,
    /// True if the subject has the relation.
    applies: bool,
    /// Score of the relation, predicted without the subject.
    kind: f32,
    /// Weight, as a number of questions.
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

/// All that the subjects of the facts are asked about: the relations that they have, and for some subjects relations that
/// they seem to have and do not, which is what DESCRIBE will ask as well.
fn cases<'a>(
    facts: &Facts,
    relations: &AskableRelations,
    subjects: &'a [String],
    scores: &CrossScores,
) -> Vec<AskedCase<'a>> {
    let held = &relations.relations;
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
                .filter(|(r, score)| *score > relations.kinds.least && facts.denies(subject, &held[*r].name))
                .map(|(relation, _)| relation)
                .collect();
            misplaced.shuffle(&mut random);
            let weight = EVERY as f32 * misplaced.len() as f32 / misplaced.len().clamp(1, MISPLACED) as f32;
            cases.extend(misplaced.iter().take(MISPLACED).map(|relation| case(*relation, false, weight)));
        }
    }
    cases
}

/// Learns which relations entities have, and scores `subjects` as if it had not seen them.
pub(crate) fn kinds(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    subjects: &[String],
    progress: &dyn Progress,
) -> Result<(SubjectKinds, CrossScores), KnowledgeError> {
    let layer = model.spec().layers.len() * KIND_DEPTH.0 / KIND_DEPTH.1;
    let names: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let inputs = entity_inputs(model, tokenizer, &names, layer, progress)?;
    let has: Vec<Vec<bool>> = held_relations(facts)
        .iter()
        .map(|relation| {
            let objects = facts.targets_of(&relation.name);
            names.iter().map(|subject| objects.contains_key(subject)).collect()
        })
        .collect();
    Ok(SubjectKinds::learn(layer, &inputs, model.spec().hidden_size, &has))
}
