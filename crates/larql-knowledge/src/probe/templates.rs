//! Selection of the templates that work best for a relation.

use larql_core::facts::{Facts, Relation};
use larql_inference::Model;
use larql_models::Tokenizer;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::KnowledgeError;
use crate::reading::{Answer, PrefixCache, Prompt, Question, ask, phrase_matches};

/// Subjects that templates are tried with.
const SUBJECTS: usize = 16;

/// Wordings that are tried in one pass.
const TEMPLATES_AT_ONCE: usize = 4;

/// Facts that precede a question as examples.
const EXAMPLES: usize = 4;

/// Selects the templates of a relation after which a right answer is likeliest to come first, the best first, by trying a few
/// subjects: wordings as they are, and the best of them after examples.
pub(super) fn best_templates(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    relation: &Relation,
    count: usize,
) -> Result<Vec<String>, KnowledgeError> {
    let objects = facts.targets_of(&relation.name);
    let mut subjects: Vec<&str> = objects.keys().copied().collect();
    subjects.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    let tried = subjects[..subjects.len().min(SUBJECTS)].to_vec();
    // Examples are others first.
    subjects.rotate_left(tried.len());
    let prefixes = PrefixCache::default();
    // Probability of the right answers about a subject.
    let right = |(subject, answers): (&&str, &Vec<Answer>)| -> f32 {
        let is_right = |text: &str| objects[subject].iter().any(|object| phrase_matches(text, object));
        let right = answers.iter().filter(|answer| is_right(&answer.text));
        right.map(|answer| answer.log_probability.exp()).sum()
    };
    // The same after each template, added up over the subjects.
    let scores = |templates: &[String]| -> Result<Vec<f32>, KnowledgeError> {
        let mut scores = Vec::with_capacity(templates.len());
        for templates in templates.chunks(TEMPLATES_AT_ONCE) {
            let mut questions = Vec::with_capacity(templates.len() * tried.len());
            for template in templates {
                for subject in &tried {
                    let prompts = vec![Prompt::new(tokenizer, facts.names(), template, subject)?];
                    questions.push(Question { prompts, answers: 2 });
                }
            }
            let (_, answers) = ask(model, tokenizer, &prefixes, &questions)?;
            let of_templates = answers.chunks(tried.len().max(1));
            scores.extend(of_templates.map(|answers| tried.iter().zip(answers).map(right).sum::<f32>()));
        }
        Ok(scores)
    };
    let best = |mut scored: Vec<(f32, String)>| {
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.truncate(count);
        scored
    };
    let plain: Vec<String> = relation.forward.asked().cloned().collect();
    let mut scored = best(scores(&plain)?.into_iter().zip(plain).collect());
    let with_examples: Vec<String> = (scored.iter().enumerate())
        .map(|(index, (_, template))| {
            let examples =
                subjects.iter().cycle().skip(index * EXAMPLES).take(EXAMPLES.min(subjects.len() / 3));
            let told = examples.map(|subject| {
                format!("{} {}.\n", facts.names().fill(template, subject), objects[subject][0])
            });
            format!("{}{template}", told.collect::<String>())
        })
        .collect();
    let with_examples = scores(&with_examples)?.into_iter().zip(with_examples);
    for (plain, with_examples) in scored.iter_mut().zip(with_examples) {
        if with_examples.0 > plain.0 {
            *plain = with_examples;
        }
    }
    Ok(best(scored).into_iter().map(|(_, template)| template).collect())
}
