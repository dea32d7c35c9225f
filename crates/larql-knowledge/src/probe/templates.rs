//! Selection of the templates that work best for a relation.

use std::collections::BTreeMap;

use larql_core::facts::{Facts, Relation};
use larql_inference::Model;
use larql_models::Tokenizer;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::ProbeJournal;
use crate::reading::{Answer, PrefixCache, Prompt, Question, ask, phrase_matches};
use crate::{KnowledgeError, ProbeError};

/// Subjects that templates are tried with.
const SUBJECTS: usize = 16;

/// Wordings that are tried in one pass.
const TEMPLATES_AT_ONCE: usize = 4;

/// Facts that precede a question as examples.
const EXAMPLES: usize = 4;

/// Trial of the templates of a relation on a few subjects, and examples from others.
pub(crate) struct TemplateTrial<'a> {
    facts: &'a Facts,
    /// The right answers, by subject.
    objects: BTreeMap<&'a str, Vec<&'a str>>,
    tried: Vec<&'a str>,
    /// All subjects, those that are not tried first.
    subjects: Vec<&'a str>,
}

impl<'a> TemplateTrial<'a> {
    /// Chooses at most `count` subjects among those that `facts` have for the relation.
    pub(crate) fn new(facts: &'a Facts, relation: &Relation, count: usize) -> TemplateTrial<'a> {
        let objects = facts.targets_of(&relation.name);
        let mut subjects: Vec<&str> = objects.keys().copied().collect();
        subjects.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
        let tried = subjects[..subjects.len().min(count)].to_vec();
        subjects.rotate_left(tried.len());
        TemplateTrial { facts, objects, tried, subjects }
    }

    /// A template after examples; the `index` decides which ones.
    pub(crate) fn with_examples(&self, template: &str, index: usize) -> String {
        let count = EXAMPLES.min(self.subjects.len() / 3);
        let examples = self.subjects.iter().cycle().skip(index * EXAMPLES).take(count);
        let told = examples.map(|subject| {
            format!("{} {}.\n", self.facts.names().fill(template, subject), self.objects[subject][0])
        });
        format!("{}{template}", told.collect::<String>())
    }

    /// Mean probability of right answers after each of some templates.
    pub(crate) fn scores(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        templates: &[String],
    ) -> Result<Vec<f32>, KnowledgeError> {
        let prefixes = PrefixCache::default();
        let mut scores = Vec::with_capacity(templates.len());
        for templates in templates.chunks(TEMPLATES_AT_ONCE) {
            let mut questions = Vec::with_capacity(templates.len() * self.tried.len());
            for template in templates {
                for subject in &self.tried {
                    let prompts = vec![Prompt::new(tokenizer, self.facts.names(), template, subject)?];
                    questions.push(Question { prompts, answers: 2 });
                }
            }
            let (_, answers) = ask(model, tokenizer, &prefixes, &questions)?;
            scores.extend(answers.chunks(self.tried.len().max(1)).map(|answers| self.score(answers)));
        }
        Ok(scores)
    }

    /// Mean probability of right answers, from the answers about each subject that is tried.
    fn score(&self, answers: &[Vec<Answer>]) -> f32 {
        let right = |(subject, answers): (&&str, &Vec<Answer>)| -> f32 {
            let is_right =
                |text: &str| self.objects[subject].iter().any(|object| phrase_matches(text, object));
            let right = answers.iter().filter(|answer| is_right(&answer.text));
            right.map(|answer| answer.log_probability.exp()).sum()
        };
        self.tried.iter().zip(answers).map(right).sum::<f32>() / self.tried.len().max(1) as f32
    }
}

/// Templates that were chosen for a relation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenTemplates {
    /// The relation.
    pub relation: String,
    /// The wordings that they were chosen from.
    pub wordings: Vec<String>,
    /// The templates, the best first.
    pub templates: Vec<String>,
}

/// Selects the templates of a relation after which a right answer is likeliest to come first, the best first, by trying a few
/// subjects: wordings as they are, and the best of them after examples. What `journal` has of the same wordings is kept.
pub(super) fn best_templates(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    relation: &Relation,
    count: usize,
    journal: &mut dyn ProbeJournal,
) -> Result<Vec<String>, ProbeError> {
    let plain: Vec<String> = relation.forward.asked().cloned().collect();
    if let Some(earlier) = journal.earlier_templates(&relation.name)
        && earlier.wordings == plain
    {
        return Ok(earlier.templates);
    }
    let wordings = plain.clone();
    let trial = TemplateTrial::new(facts, relation, SUBJECTS);
    let scores = |templates: &[String]| trial.scores(model, tokenizer, templates);
    let best = |mut scored: Vec<(f32, String)>| {
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.truncate(count);
        scored
    };
    let mut scored = best(scores(&plain)?.into_iter().zip(plain).collect());
    let with_examples: Vec<String> = (scored.iter().enumerate())
        .map(|(index, (_, template))| trial.with_examples(template, index))
        .collect();
    let with_examples = scores(&with_examples)?.into_iter().zip(with_examples);
    for (plain, with_examples) in scored.iter_mut().zip(with_examples) {
        if with_examples.0 > plain.0 {
            *plain = with_examples;
        }
    }
    let templates: Vec<String> = best(scored).into_iter().map(|(_, template)| template).collect();
    let chosen = ChosenTemplates { relation: relation.name.clone(), wordings, templates };
    journal.keep_templates(&chosen).map_err(ProbeError::CannotKeep)?;
    Ok(chosen.templates)
}
