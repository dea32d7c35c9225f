//! Questions of a probe: asks them all, and finds the features that carry right answers.

use std::collections::{BTreeMap, HashMap};

use larql_compute::top_k_by_value;
use larql_core::facts::Facts;
use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::{BackendError, Model};
use larql_models::Tokenizer;
use serde::{Deserialize, Serialize};

use super::ProbeJournal;
use crate::reading::{
    AnswerCarriers, AskableRelations, Batch, PrefixCache, Question, RelationQuestion, ask, phrase_matches,
};
use crate::{KnowledgeError, ProbeError};

/// Tokens that go through the model together.
const TOKENS: usize = 512;
/// Features that are kept of what carries an answer.
const CARRIERS: usize = 24;

/// Answers of a model to a question, and the features that carried a right one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbedQuestion {
    /// The relation.
    pub relation: String,
    /// The subject.
    pub subject: String,
    /// Right answers, as the facts had them.
    pub objects: Vec<String>,
    /// Answers, likeliest first.
    pub answers: Vec<GivenAnswer>,
    /// Feed-forward input after the first wording, in the layer of [`SubjectKinds`](crate::SubjectKinds), `[hidden]`.
    #[serde(with = "super::encoding::halves")]
    pub state: Vec<f32>,
    /// The first token of the answer that was right, if one was, and the features that carry it after most wordings,
    /// strongest first.
    pub carried: Option<(u32, Vec<CarrierShare>)>,
}

/// A feature that carries an answer: its layer, its number, and its share of all that features add to the answer's logit.
pub type CarrierShare = (usize, usize, f32);

/// An answer that a model gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenAnswer {
    /// Its words.
    pub text: String,
    /// Natural logarithm of its probability.
    pub log_probability: f32,
    /// The share of wordings after which it comes first.
    pub agreement: f32,
    /// True if the facts agree.
    pub right: bool,
}

/// A subject, and a relation that is asked of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) subject: &'a str,
    /// Number of the relation.
    pub(super) relation: usize,
}

/// A model, and the facts that it is asked about.
pub(crate) struct ProbedModel<'a> {
    pub(crate) model: &'a Model,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) facts: &'a Facts,
    /// True if the features that carry right answers are looked for.
    pub(crate) finds_carriers: bool,
}

/// Asks about every pair, but for what an earlier probe has found.
pub(super) fn ask_all(
    ask: &ProbedModel<'_>,
    relations: &AskableRelations,
    pairs: &[Pair<'_>],
    journal: &mut dyn ProbeJournal,
    progress: &dyn Progress,
) -> Result<Vec<ProbedQuestion>, ProbeError> {
    let ProbedModel { model, tokenizer, facts, finds_carriers } = *ask;
    let objects: HashMap<&str, BTreeMap<&str, Vec<&str>>> = relations
        .relations
        .iter()
        .map(|relation| (&*relation.name, facts.targets_of(&relation.name)))
        .collect();
    let prefixes = PrefixCache::default();
    let asking = Asking { model, tokenizer, objects, prefixes, layer: relations.kinds.layer, finds_carriers };
    let mut found: Vec<Option<ProbedQuestion>> = vec![None; pairs.len()];
    let mut waiting: Vec<Waiting<'_>> = Vec::new();
    let mut tokens = 0;
    let mut meter = Meter::new(progress, Stage::ProbeQuestions, pairs.len() as u64);
    for (done, pair) in pairs.iter().enumerate() {
        meter.set_done(done as u64)?;
        let relation = &relations.relations[pair.relation];
        let (entity, number) = (pair.subject, pair.relation);
        let asked =
            RelationQuestion { entity, relation, number, wordings: relation.templates.len(), kind: 0.0 };
        let objects = asking.objects(&asked);
        let is_same = |earlier: &ProbedQuestion| earlier.objects == objects;
        if let Some(earlier) = journal.earlier(&asked.relation.name, asked.entity).filter(is_same) {
            found[done] = Some(earlier);
            continue;
        }
        let question = asked.question(relations, tokenizer)?;
        tokens += question.prompts.iter().map(|prompt| prompt.own_tokens()).sum::<usize>();
        waiting.push(Waiting { place: done, asked, question });
        if tokens >= TOKENS {
            asking.together(std::mem::take(&mut waiting), &mut found, journal)?;
            tokens = 0;
        }
    }
    asking.together(waiting, &mut found, journal)?;
    meter.set_done(pairs.len() as u64)?;
    Ok(found.into_iter().flatten().collect())
}

/// A question that waits for others to go through the model with.
struct Waiting<'a> {
    /// Its place among all.
    place: usize,
    asked: RelationQuestion<'a>,
    question: Question,
}

/// Context of all questions.
struct Asking<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    /// The right answers, by relation and subject.
    objects: HashMap<&'a str, BTreeMap<&'a str, Vec<&'a str>>>,
    prefixes: PrefixCache,
    /// The layer whose feed-forward inputs are kept.
    layer: usize,
    /// True if the features that carry right answers are looked for.
    finds_carriers: bool,
}

impl<'a> Asking<'a> {
    /// The right answers to a question.
    fn objects(&self, asked: &RelationQuestion<'_>) -> &[&'a str] {
        self.objects[&*asked.relation.name].get(asked.entity).map_or(&[], Vec::as_slice)
    }

    /// Asks questions together, keeps what was found, and puts it into its places.
    fn together(
        &self,
        waiting: Vec<Waiting<'_>>,
        found: &mut [Option<ProbedQuestion>],
        journal: &mut dyn ProbeJournal,
    ) -> Result<(), ProbeError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let places: Vec<usize> = waiting.iter().map(|waiting| waiting.place).collect();
        let (asked, questions): (Vec<_>, Vec<_>) = waiting.into_iter().map(|w| (w.asked, w.question)).unzip();
        let (batch, answers) = ask(self.model, self.tokenizer, &self.prefixes, &questions)?;
        let mut right_tokens = Vec::new();
        let mut probed = Vec::new();
        let mut first_prompt = 0;
        for ((asked, question), answers) in asked.iter().zip(&questions).zip(answers) {
            let objects = self.objects(asked);
            let is_right = |text: &str| objects.iter().any(|object| phrase_matches(text, object));
            let right = answers.iter().find(|answer| is_right(&answer.text)).map(|answer| answer.token);
            let right = right.filter(|_| self.finds_carriers);
            let state = batch.last.input(self.layer, first_prompt).to_vec();
            let prompts = first_prompt..first_prompt + question.prompts.len();
            first_prompt = prompts.end;
            right_tokens.push(right.map(|token| (prompts, token)));
            let given = answers.into_iter().map(|answer| GivenAnswer {
                right: is_right(&answer.text),
                text: answer.text,
                log_probability: answer.log_probability,
                agreement: answer.agreement,
            });
            probed.push(ProbedQuestion {
                relation: asked.relation.name.clone(),
                subject: asked.entity.to_owned(),
                objects: objects.iter().map(|object| (*object).to_owned()).collect(),
                answers: given.collect(),
                state,
                carried: None,
            });
        }
        let pairs: Vec<(usize, u32)> = right_tokens
            .iter()
            .flatten()
            .flat_map(|(prompts, token)| prompts.clone().map(|prompt| (prompt, *token)))
            .collect();
        let shares = stable_shares(self.model, &batch, &pairs, &right_tokens);
        let mut shares = shares.map_err(KnowledgeError::from)?.into_iter();
        for ((place, mut question), right) in places.into_iter().zip(probed).zip(&right_tokens) {
            question.carried = right.as_ref().and_then(|(_, token)| Some((*token, shares.next()?)));
            journal.keep(&question).map_err(ProbeError::CannotKeep)?;
            found[place] = Some(question);
        }
        Ok(())
    }
}

/// For each right answer the features that carry it after at least half of its wordings, with the mean of their shares.
fn stable_shares(
    model: &Model,
    batch: &Batch,
    pairs: &[(usize, u32)],
    answers: &[Option<(std::ops::Range<usize>, u32)>],
) -> Result<Vec<Vec<CarrierShare>>, BackendError> {
    let carried = AnswerCarriers::new(model, batch, pairs)?;
    let mut totals = vec![0.0; pairs.len()];
    let mut strongest: Vec<Vec<(usize, usize, f32)>> = vec![Vec::new(); pairs.len()];
    for layer in 0..model.spec().layers.len() {
        let contributions = carried.contributions(layer);
        let features = contributions.len() / pairs.len().max(1);
        for (pair, contributions) in contributions.chunks_exact(features.max(1)).enumerate() {
            totals[pair] += contributions.iter().filter(|c| **c > 0.0).sum::<f32>();
            let top = top_k_by_value(contributions, CARRIERS).into_iter();
            strongest[pair].extend(top.map(|(feature, contribution)| (layer, feature, contribution)));
        }
    }
    let mut pair = 0;
    let shares = answers
        .iter()
        .flatten()
        .map(|(prompts, _)| {
            let own = pair..pair + prompts.len();
            pair = own.end;
            let mut by_feature: BTreeMap<(usize, usize), (usize, f32)> = BTreeMap::new();
            for pair in own.clone() {
                for (layer, feature, contribution) in &strongest[pair] {
                    let entry = by_feature.entry((*layer, *feature)).or_default();
                    *entry = (entry.0 + 1, entry.1 + contribution / totals[pair].max(f32::MIN_POSITIVE));
                }
            }
            let mut kept: Vec<CarrierShare> = by_feature
                .into_iter()
                .filter(|(_, (times, _))| 2 * times >= own.len())
                .map(|((layer, feature), (_, sum))| (layer, feature, sum / own.len() as f32))
                .collect();
            kept.sort_by(|a, b| b.2.total_cmp(&a.2));
            kept.truncate(CARRIERS);
            kept
        })
        .collect();
    Ok(shares)
}
