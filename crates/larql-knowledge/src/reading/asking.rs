//! Asking a model in words: several wordings a question, many questions in one pass.

use larql_core::facts::{Names, shared_prefix};
use larql_inference::Model;
use larql_inference::{Prediction, predictions};
use larql_models::Tokenizer;

use super::batch::{Batch, PrefixCache, Prompt, complete};
use super::phrase::phrase;
use crate::KnowledgeError;

/// Sentences that ask the same: each ends right before the answer.
pub(crate) struct Question {
    /// The sentences, as tokens.
    pub(crate) prompts: Vec<Prompt>,
    /// Greatest number of answers.
    pub(crate) answers: usize,
}

impl Prompt {
    /// Encodes a template about a name, without the template's examples if one of them has the name.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it.
    pub fn new(
        tokenizer: &Tokenizer,
        names: &Names,
        template: &str,
        name: &str,
    ) -> Result<Prompt, KnowledgeError> {
        let template = without_examples_of(template, name);
        let tokens = tokenizer.encode(&names.fill(template, name), true)?;
        let start = match shared_prefix(template) {
            // A tokenizer may put something before the first word of a text that it does not put before nothing.
            "" => Vec::new(),
            start => tokenizer.encode(start, true)?,
        };
        let common = tokens.iter().zip(&start).take_while(|(a, b)| a == b).count();
        let shared = common.min(tokens.len().saturating_sub(1));
        Ok(Prompt { tokens, shared })
    }

    /// Number of tokens after the shared prefix.
    pub fn own_tokens(&self) -> usize {
        self.tokens.len() - self.shared
    }
}

/// Greedy continuations of prompts, each until its first phrase is whole.
///
/// # Errors
/// If a token is outside the model.
pub fn continuations(
    model: &Model,
    tokenizer: &Tokenizer,
    prefixes: &PrefixCache,
    prompts: &[Prompt],
) -> Result<Vec<String>, KnowledgeError> {
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let batch = Batch::run(model, prefixes, prompts)?;
    let firsts: Vec<u32> = (0..prompts.len())
        .flat_map(|prompt| predictions(batch.logits_of(prompt), 1))
        .map(|prediction| prediction.token)
        .collect();
    let completions = complete(model, tokenizer, batch.last.caches, &firsts)?;
    Ok(completions.into_iter().map(|completion| completion.text).collect())
}

/// A template without the facts that it tells before it asks, if one of them names the entity: it would give the answer
/// away.
fn without_examples_of<'a>(template: &'a str, entity: &str) -> &'a str {
    let Some((examples, question)) = template.rsplit_once('\n') else { return template };
    let (examples, entity) = (examples.to_lowercase(), entity.to_lowercase());
    let names_it = examples.match_indices(&entity).any(|(start, found)| {
        let (before, after) = (&examples[..start], &examples[start + found.len()..]);
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    });
    if names_it { question } else { template }
}

/// Answer of a model to a question.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its words.
    pub(crate) text: String,
    /// Its first token.
    pub(crate) token: u32,
    /// The prompt after which it is likeliest, counted over all prompts of the batch.
    pub(crate) prompt: usize,
    /// Natural logarithm of its probability; that of its first token is averaged over the prompts.
    pub(crate) log_probability: f32,
    /// The share of prompts after which its first token comes first.
    pub(crate) agreement: f32,
}

/// Tokens that are looked at after each prompt.
const CANDIDATES: usize = 4;
/// Least probability of an answer's first token, absolute and as a share of the likeliest one's.
const LEAST: f32 = 0.04;
const LEAST_SHARE: f32 = 0.15;

/// Asks all questions in one pass; for each its answers, likeliest first.
pub(crate) fn ask(
    model: &Model,
    tokenizer: &Tokenizer,
    prefixes: &PrefixCache,
    questions: &[Question],
) -> Result<(Batch, Vec<Vec<Answer>>), KnowledgeError> {
    let prompts: Vec<Prompt> = questions.iter().flat_map(|question| question.prompts.clone()).collect();
    let batch = Batch::run(model, prefixes, &prompts)?;
    let tops: Vec<Vec<Prediction>> =
        (0..prompts.len()).map(|prompt| predictions(batch.logits_of(prompt), CANDIDATES)).collect();

    let mut started = Vec::new();
    let mut first_prompt = 0;
    for (index, question) in questions.iter().enumerate() {
        let own = first_prompt..first_prompt + question.prompts.len();
        first_prompt = own.end;
        started.extend(
            first_tokens(&tops[own.clone()], own.start, question.answers).map(|answer| (index, answer)),
        );
    }
    let caches = started.iter().map(|(_, answer)| batch.last.caches[answer.prompt].clone()).collect();
    let firsts: Vec<u32> = started.iter().map(|(_, answer)| answer.token).collect();
    let texts = complete(model, tokenizer, caches, &firsts)?;

    let mut answers: Vec<Vec<Answer>> = questions.iter().map(|_| Vec::new()).collect();
    for ((question, answer), completion) in started.into_iter().zip(texts) {
        let Some(text) = phrase(&completion.text) else { continue };
        let log_probability = answer.log_probability + completion.log_probability;
        let answers = &mut answers[question];
        // Two ways to spell one answer, of which the likelier one is kept.
        match answers.iter_mut().find(|other| other.text.to_lowercase() == text.to_lowercase()) {
            Some(other) => {
                other.log_probability = (other.log_probability.exp() + log_probability.exp()).min(1.0).ln();
            }
            None => answers.push(Answer { text: text.to_owned(), log_probability, ..answer }),
        }
    }
    Ok((batch, answers))
}

/// The tokens that answers to a question may begin with, likeliest first, with no words yet; `tops` are the likeliest
/// tokens after each of its prompts, which are counted from `first` on.
fn first_tokens(
    tops: &[Vec<Prediction>],
    first: usize,
    wanted: usize,
) -> impl Iterator<Item = Answer> + use<> {
    let mut candidates: Vec<Answer> = Vec::new();
    for token in tops.iter().flatten().map(|top| top.token) {
        if candidates.iter().any(|candidate| candidate.token == token) {
            continue;
        }
        let probability = |top: &Vec<Prediction>| {
            top.iter().find(|prediction| prediction.token == token).map_or(0.0, |p| p.probability)
        };
        let probabilities: Vec<f32> = tops.iter().map(probability).collect();
        let best = (0..tops.len()).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
        let firsts = tops.iter().filter(|top| top.first().is_some_and(|first| first.token == token)).count();
        candidates.push(Answer {
            text: String::new(),
            token,
            prompt: first + best.unwrap_or(0),
            log_probability: probabilities.iter().sum::<f32>() / tops.len() as f32,
            agreement: firsts as f32 / tops.len() as f32,
        });
    }
    // Probabilities until here.
    candidates.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
    let least = candidates.first().map_or(0.0, |best| best.log_probability * LEAST_SHARE).max(LEAST);
    candidates.retain(|candidate| candidate.log_probability >= least || candidate.agreement > 0.0);
    candidates.truncate(wanted);
    candidates.into_iter().map(|mut candidate| {
        candidate.log_probability = candidate.log_probability.max(f32::MIN_POSITIVE).ln();
        candidate
    })
}

#[cfg(test)]
mod tests {
    use super::without_examples_of;

    #[test]
    fn examples_do_not_give_the_answer_away() {
        let template =
            "The capital of France is Paris.\nThe capital of Niger is Niamey.\nThe capital of {subject} is";
        let question = "The capital of {subject} is";
        for entity in ["France", "paris", "Niger"] {
            assert_eq!(without_examples_of(template, entity), question);
        }
        for entity in ["Nigeria", "Ran", "capitals"] {
            assert_eq!(without_examples_of(template, entity), template);
        }
        assert_eq!(without_examples_of(question, "capital"), question);
    }
}
