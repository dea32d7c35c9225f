//! Causal tracing: the effect of each layer's feed-forward output on the answer to a question.
//!
//! A question is asked about one entity, and the output of one layer's step at the question's last token is replaced by its
//! output for the same question about another entity. The share of the way that the logits move towards the other answer
//! is the effect of the step. (Causal tracing: arXiv 2202.05262; exchanging the entity instead of blurring it,
//! and differences of logits instead of probabilities: arXiv 2309.16042.)

use larql_compute::Precision;
use larql_core::facts::{Facts, Relation};
use larql_core::progress::{Meter, Progress, Stage as Step};
use larql_inference::{
    Hook, HookError, KeyValueCache, LogitsFor, Model, NoHook, Point, PointSet, Record, Rows, Sequence, Stage,
    greedy,
};
use larql_models::Tokenizer;

use crate::error::EditError;
use crate::layers::{check_composable, default_layer};

/// Causal effect of each layer's feed-forward output on the answers to questions.
#[derive(Clone, Debug, PartialEq)]
pub struct CausalTrace {
    /// Number of questions, each asked with every layer's output replaced by another question's.
    pub questions: usize,
    /// Share of the difference of the logits of both answers that each layer's output accounts for, over all questions:
    /// `[layers]`. About 0 where it has no effect, 1 where it is the only cause.
    pub recovered: Vec<f32>,
}

/// Subjects of a relation that are asked about.
const ASKED: usize = 24;

/// Questions of a relation that are exchanged, so that no relation counts for most.
const EXCHANGED: usize = 6;

impl CausalTrace {
    /// Asks about facts of the tables; those that the model knows are exchanged with others of the same relation. None if
    /// it does not know two of any.
    ///
    /// # Errors
    /// If a question cannot be encoded, or the work is cancelled.
    pub fn measure(
        model: &Model,
        tokenizer: &Tokenizer,
        facts: &Facts,
        progress: &dyn Progress,
    ) -> Result<Option<CausalTrace>, EditError> {
        let mut questions = Vec::new();
        let relations: Vec<&Relation> =
            facts.relations().iter().filter(|relation| relation.functional).collect();
        let steps = relations.len() + model.spec().layers.len();
        let mut meter = Meter::new(progress, Step::CausalTrace, steps as u64);
        for relation in relations {
            meter.advance(1)?;
            let known = known(model, tokenizer, facts, relation)?;
            let (first, count) = (questions.len(), known.len());
            let exchanged = known.into_iter().enumerate().map(|(index, (tokens, answer))| Question {
                tokens,
                answer,
                other: first + (index + 1) % count,
            });
            questions.extend(exchanged.filter(|_| count > 1));
        }
        if questions.is_empty() { Ok(None) } else { of_questions(model, &questions, &mut meter).map(Some) }
    }

    /// Layer with the greatest effect in the upper half, without the last layer: later layers have to act on what is
    /// written. None if there is no such layer.
    pub fn layer(&self) -> Option<usize> {
        let layers = self.recovered.len();
        let candidates = layers / 2..layers.saturating_sub(1);
        candidates.max_by(|a, b| self.recovered[*a].total_cmp(&self.recovered[*b]))
    }
}

/// Default edit layer: the one with the greatest effect on the answers to the shipped facts, or [`default_layer`] if the
/// model knows none of them or features cannot be written there.
///
/// # Errors
/// If a question cannot be encoded, or the work is cancelled.
pub fn editing_layer(
    model: &Model,
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<usize, EditError> {
    let trace = CausalTrace::measure(model, tokenizer, Facts::shipped(), progress)?;
    let traced = trace.and_then(|trace| trace.layer());
    let layer = traced.filter(|layer| check_composable(model, *layer).is_ok());
    Ok(layer.unwrap_or_else(|| default_layer(model)))
}

/// Question that the model answers right.
struct Question {
    tokens: Vec<u32>,
    /// The answer's first token.
    answer: u32,
    /// The number of the question whose output it gets.
    other: usize,
}

/// Questions of a relation that the model answers right, with different answers.
fn known(
    model: &Model,
    tokenizer: &Tokenizer,
    facts: &Facts,
    relation: &Relation,
) -> Result<Vec<(Vec<u32>, u32)>, EditError> {
    let of_relation = facts.targets_of(&relation.name);
    let every = of_relation.len().div_ceil(ASKED).max(1);
    let mut asked = Vec::new();
    for (subject, objects) in of_relation.into_iter().step_by(every) {
        let prompt = facts.names().fill(&relation.forward.taught[0], subject);
        let whole = tokenizer.encode(&format!("{prompt} {}", objects[0]), true)?;
        let tokens = tokenizer.encode(&prompt, true)?;
        if let Some(answer) = whole.strip_prefix(&*tokens).and_then(|answer| answer.first()) {
            asked.push((tokens, *answer));
        }
    }
    let mut caches = vec![KeyValueCache::new(model.spec()); asked.len()];
    let asked_tokens = asked.iter().map(|(tokens, _)| &**tokens);
    let said = run(model, &mut caches, asked_tokens, LogitsFor::LastToken, &mut NoHook)?;
    let mut known: Vec<(Vec<u32>, u32)> = Vec::new();
    for ((tokens, answer), said) in asked.into_iter().zip(said.chunks_exact(model.spec().vocab_size)) {
        let new = known.iter().all(|(_, other)| *other != answer);
        if greedy(said) == answer && new && known.len() < EXCHANGED {
            known.push((tokens, answer));
        }
    }
    Ok(known)
}

/// Runs tokens of each sequence. Returns the logits that are asked for, `[sequences, vocab]` or none.
fn run<'a>(
    model: &Model,
    caches: &mut [KeyValueCache],
    tokens: impl Iterator<Item = &'a [u32]>,
    logits: LogitsFor,
    hook: &mut dyn Hook,
) -> Result<Vec<f32>, EditError> {
    let sequences = caches.iter_mut().zip(tokens).filter(|(_, tokens)| !tokens.is_empty());
    let mut sequences: Vec<Sequence<'_>> =
        sequences.map(|(cache, tokens)| Sequence { logits, ..Sequence::new(cache, tokens) }).collect();
    if sequences.is_empty() {
        return Ok(Vec::new());
    }
    let logits = model.pass().with_precision(Precision::Fast).with_hook(hook).run(&mut sequences)?;
    Ok(logits.into_values())
}

/// Exchanges outputs between questions, of which there is one at least.
fn of_questions(
    model: &Model,
    questions: &[Question],
    meter: &mut Meter<'_>,
) -> Result<CausalTrace, EditError> {
    let split = |question: &'_ Question| question.tokens.len() - 1;
    let before = questions.iter().map(|question| &question.tokens[..split(question)]);
    let mut caches = vec![KeyValueCache::new(model.spec()); questions.len()];
    run(model, &mut caches, before, LogitsFor::None, &mut NoHook)?;
    let mut last = |hook: &mut dyn Hook| {
        let last = questions.iter().map(|question| &question.tokens[split(question)..]);
        let logits = run(model, &mut caches, last, LogitsFor::LastToken, hook);
        caches.iter_mut().zip(questions).for_each(|(cache, question)| cache.truncate(split(question)));
        logits
    };
    let vocab = model.spec().vocab_size;
    // By how much the other question's answer is likelier than the own one, where question `asked` was asked.
    let towards_other = |question: &Question, asked: usize, logits: &[f32]| {
        let row = &logits[asked * vocab..][..vocab];
        row[questions[question.other].answer as usize] - row[question.answer as usize]
    };
    let of_own = |logits: &[f32]| -> f32 {
        questions.iter().enumerate().map(|(asked, question)| towards_other(question, asked, logits)).sum()
    };

    let mut outputs = Record::new(Stage::FeedForwardOutput);
    let logits = last(&mut outputs)?;
    let none = of_own(&logits);
    let all: f32 = questions.iter().map(|question| towards_other(question, question.other, &logits)).sum();
    let mut recovered = Vec::with_capacity(outputs.layers.len());
    for (layer, outputs) in outputs.layers.iter().enumerate() {
        meter.advance(1)?;
        let mut exchange = Exchange { layer, questions, outputs };
        recovered.push((of_own(&last(&mut exchange)?) - none) / (all - none));
    }
    Ok(CausalTrace { questions: questions.len(), recovered })
}

/// Hook that replaces a layer's feed-forward outputs by those of other questions.
struct Exchange<'a> {
    layer: usize,
    questions: &'a [Question],
    /// `[questions, hidden]`.
    outputs: &'a [f32],
}

impl Hook for Exchange<'_> {
    fn points(&self) -> PointSet {
        PointSet::stages_of(self.layer..self.layer + 1, [Stage::FeedForwardOutput])
    }

    fn at(&mut self, _: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let hidden = values.len() / rows.len();
        for (sequence, question) in self.questions.iter().enumerate() {
            let output = &self.outputs[question.other * hidden..][..hidden];
            values[rows.last(sequence) * hidden..][..hidden].copy_from_slice(output);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use larql_compute::Pool;
    use larql_knowledge::LanguageModel;

    use larql_core::progress::NoProgress;

    use super::*;

    fn atlas() -> LanguageModel {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas");
        LanguageModel::open(&path, Arc::new(Pool::new(1))).unwrap()
    }

    #[test]
    fn the_layer_that_answers_is_the_one_that_is_written_to() {
        let atlas = atlas();
        let trace = CausalTrace::measure(atlas.model(), atlas.tokenizer(), Facts::shipped(), &NoProgress)
            .unwrap()
            .unwrap();
        assert!(trace.questions > 100, "{trace:?}");
        assert_eq!(trace.layer(), Some(default_layer(atlas.model())), "{trace:?}");
        assert!(trace.recovered.iter().all(|share| (0.0..1.0).contains(share)), "{trace:?}");
    }

    #[test]
    fn outputs_are_exchanged_at_the_last_token_alone() {
        let atlas = atlas();
        let encode = |text: &str| atlas.tokenizer().encode(text, true).unwrap();
        let question = |subject: &str, object: &str, other| {
            let tokens = encode(&format!("The capital of {subject} is"));
            let answer = encode(&format!("The capital of {subject} is {object}"))[tokens.len()];
            Question { tokens, answer, other }
        };
        let questions = [question("France", "Paris", 1), question("Peru", "Lima", 0)];
        let mut meter = Meter::new(&NoProgress, Step::CausalTrace, 4);
        let trace = of_questions(atlas.model(), &questions, &mut meter).unwrap();

        // The same, one prompt at a time and each run from its beginning.
        struct LastOf<'a>(usize, &'a [f32]);
        impl Hook for LastOf<'_> {
            fn points(&self) -> PointSet {
                PointSet::stages_of(self.0..self.0 + 1, [Stage::FeedForwardOutput])
            }
            fn at(&mut self, _: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
                let hidden = self.1.len();
                values[rows.last(0) * hidden..][..hidden].copy_from_slice(self.1);
                Ok(())
            }
        }
        let hidden = atlas.model().spec().hidden_size;
        let logits = |question: &Question, hook: &mut dyn Hook| {
            let cache = &mut [KeyValueCache::new(atlas.model().spec())];
            run(atlas.model(), cache, [&*question.tokens].into_iter(), LogitsFor::LastToken, hook).unwrap()
        };
        let towards = |question: &Question, logits: &[f32]| {
            logits[questions[question.other].answer as usize] - logits[question.answer as usize]
        };
        for (layer, recovered) in trace.recovered.iter().enumerate() {
            let (mut some, mut all) = (0.0, 0.0);
            for question in &questions {
                let mut outputs = Record::new(Stage::FeedForwardOutput);
                let of_other = logits(&questions[question.other], &mut outputs);
                let output = &outputs.layers[layer];
                let mut exchange = LastOf(layer, &output[output.len() - hidden..]);
                let before = towards(question, &logits(question, &mut NoHook));
                some += towards(question, &logits(question, &mut exchange)) - before;
                all += towards(question, &of_other) - before;
            }
            assert!((some / all - recovered).abs() < 1e-3, "layer {layer}: {} for {recovered}", some / all);
        }
    }
}
