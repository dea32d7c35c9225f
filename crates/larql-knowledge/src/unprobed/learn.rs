//! Learning of what ships: wordings that work for several models, and the belief in answers after them.

use std::collections::BTreeMap;

use larql_core::facts::Facts;
use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::Model;
use larql_models::Tokenizer;
use serde::{Deserialize, Serialize};

use super::{ShippedReading, ShippedRelation, calibrated, shuffled, some_of_each, taught_facts};
use crate::ProbeError;
use crate::probe::TemplateTrial;
use crate::reading::{
    Belief, EntityAnswer, EntityResidual, FOLDS, JudgedAnswer, PrefixCache, entity_tokens, phrase_matches,
};

/// Wordings of a relation that are used.
const WORDINGS: usize = 3;
/// Subjects that each wording is tried with.
const TRIED: usize = 8;
/// Share of believed answers that are right, over the models that are learnt from: fewer are of another model.
const RIGHT: f32 = 0.85;
/// Subjects of each relation that are asked about.
const LEARNERS: usize = 9;

/// A wording after examples, and how well a model answers after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredWording {
    /// The relation.
    pub relation: String,
    /// The wording with its examples.
    pub template: String,
    /// Mean probability of right answers.
    pub score: f32,
}

/// Answers of a model to what its reference subjects are asked, with what is known of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LearntAnswers(Vec<LearntAnswer>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LearntAnswer {
    relation: String,
    subject: String,
    answer: String,
    case: JudgedAnswer,
}

/// Tries all wordings of the shipped relations after examples.
///
/// # Errors
/// If a sentence cannot be encoded, or the work is cancelled.
pub fn score_wordings(
    model: &Model,
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<Vec<ScoredWording>, ProbeError> {
    let model = &model.with_cancel(progress.cancel_token());
    let facts = taught_facts();
    let mut scored = Vec::new();
    let mut meter = Meter::new(progress, Stage::ProbeWordings, facts.relations().len() as u64);
    for relation in facts.relations() {
        let trial = TemplateTrial::new(&facts, relation, TRIED);
        let templates: Vec<String> = (relation.forward.asked().enumerate())
            .map(|(index, template)| trial.with_examples(template, index))
            .collect();
        let scores = trial.scores(model, tokenizer, &templates)?;
        scored.extend(templates.into_iter().zip(scores).map(|(template, score)| ScoredWording {
            relation: relation.name.clone(),
            template,
            score,
        }));
        meter.advance(1)?;
    }
    Ok(scored)
}

/// Chooses for each relation the wordings that are best over all models that were tried.
pub fn choose_wordings(models: &[Vec<ScoredWording>]) -> Vec<ShippedRelation> {
    let mut relations = Vec::new();
    for relation in Facts::shipped().relations() {
        let mut totals: BTreeMap<&str, f32> = BTreeMap::new();
        for scored in models.iter().flatten().filter(|scored| scored.relation == relation.name) {
            *totals.entry(&scored.template).or_default() += scored.score;
        }
        let mut best: Vec<(&str, f32)> = totals.into_iter().collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        let templates = best.into_iter().take(WORDINGS).map(|(template, _)| template.to_owned()).collect();
        relations.push(ShippedRelation { name: relation.name.clone(), templates });
    }
    relations
}

/// Asks a model about subjects of which nothing else is learnt, as DESCRIBE would.
///
/// # Errors
/// If a sentence cannot be encoded, or the work is cancelled.
pub fn survey(
    model: &Model,
    tokenizer: &Tokenizer,
    wordings: &[ShippedRelation],
    progress: &dyn Progress,
) -> Result<LearntAnswers, ProbeError> {
    let model = &model.with_cancel(progress.cancel_token());
    let relations = calibrated(model, tokenizer, wordings, progress)?;
    let facts = taught_facts();
    let others = shuffled(&facts);
    let learners = some_of_each(
        others.iter().filter(|(subject, _)| !relations.subjects.iter().any(|s| s == subject)),
        LEARNERS,
    );
    let prefixes = PrefixCache::default();
    let mut answers = Vec::new();
    let mut meter = Meter::new(progress, Stage::Describing, learners.len() as u64);
    for (index, subject) in learners.iter().enumerate() {
        meter.advance(1)?;
        let residual = EntityResidual::of(model, tokenizer, &entity_tokens(tokenizer, subject)?)?;
        let Some((_, told)) = relations.tell(model, tokenizer, &prefixes, subject, &residual)? else {
            continue;
        };
        for EntityAnswer { asked, answer, evidence } in told {
            let objects = facts.targets_of(&asked.relation.name);
            let right = objects
                .get(&**subject)
                .map(|objects| objects.iter().any(|object| phrase_matches(&answer.text, object)));
            let denied = || facts.denies(subject, &asked.relation.name).then_some(false);
            let Some(right) = right.or_else(denied) else { continue };
            answers.push(LearntAnswer {
                relation: asked.relation.name.clone(),
                subject: subject.clone(),
                answer: answer.text,
                case: JudgedAnswer { evidence, right, weight: 1.0, fold: index % FOLDS },
            });
        }
    }
    Ok(LearntAnswers(answers))
}

/// Learns a belief from the answers of several models.
pub fn learn(models: &[(String, LearntAnswers)], relations: Vec<ShippedRelation>) -> ShippedReading {
    let all: usize = models.iter().map(|(_, answers)| answers.0.len()).sum();
    let mut cases: Vec<JudgedAnswer> = Vec::with_capacity(all);
    for (_, answers) in models {
        // Models count alike, however much each was asked.
        let weight = all as f32 / (models.len() * answers.0.len().max(1)) as f32;
        cases.extend(answers.0.iter().map(|answer| JudgedAnswer { weight, ..answer.case }));
    }
    ShippedReading {
        version: 1,
        learnt_from: models.iter().map(|(name, _)| name.clone()).collect(),
        relations,
        belief: Belief::fit_right(&cases, RIGHT),
    }
}
