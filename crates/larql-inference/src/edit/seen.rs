//! What layers read where a statement is made, and where nothing is to change: each text is run once for all statements.

use std::collections::{HashMap, HashSet};

use larql_compute::Precision;

use super::compose::Statement;
use super::gate::Input;
use super::statistics::{InputsOf, inputs_of_layers};
use super::whitening::Whitening;
use crate::sampling::greedy;
use crate::{Cache, InferenceError, LogitsFor, Model, Pass, Sequence};

/// Prompts of a statement of which every token is shown to its own features as something not to fire for.
const PROMPTS_SHOWN_WHOLE: usize = 3;

/// Prompts of each statement that other statements' features must not fire for.
const PROMPTS_SHOWN_TO_OTHERS: usize = 4;

/// Texts of the others after which the target is begun too: its first tokens may be the beginning of another answer.
const OTHERS_BEGUN: usize = 8;

/// Tokens with which the model goes on after each of the others. What it says there is what is to stay, and it looks
/// like nothing in ordinary text: most of the answers about others that twenty edges changed on SmolLM2 135M changed
/// after their first token.
const ANSWERED: usize = 3;

/// What layers read at the last tokens of texts.
pub(crate) struct Sight<'a> {
    model: &'a Model,
    layers: &'a [usize],
    /// By text, as tokens: what the layers read at the last one, `[layers, hidden]`.
    inputs: HashMap<Vec<u32>, Box<[f32]>>,
    /// By text: what the model answers, [`ANSWERED`] tokens, at which the layers were looked at too.
    answers: HashMap<Vec<u32>, Vec<u32>>,
}

/// Texts that are run before what was read is sorted.
const TEXTS_AT_ONCE: usize = 64;

impl<'a> Sight<'a> {
    pub(crate) fn new(model: &'a Model, layers: &'a [usize]) -> Sight<'a> {
        Sight { model, layers, inputs: HashMap::new(), answers: HashMap::new() }
    }

    /// Has the model answer texts that it has not answered yet.
    fn answer(&mut self, texts: &[Vec<u32>]) -> Result<(), InferenceError> {
        let Sight { model, layers, inputs, answers } = self;
        let vocabulary = model.spec().vocab_size;
        let ffn = model.dense_ffn();
        let unknown: Vec<&Vec<u32>> = texts.iter().filter(|text| !answers.contains_key(*text)).collect();
        for texts in unknown.chunks(TEXTS_AT_ONCE) {
            let mut caches: Vec<Cache> = texts.iter().map(|_| Cache::new(model.spec())).collect();
            let mut whole: Vec<Vec<u32>> = texts.iter().map(|text| text.to_vec()).collect();
            let mut next = whole.clone();
            for step in 0..=ANSWERED {
                let mut sequences: Vec<Sequence<'_>> =
                    next.iter().zip(&mut caches).map(|(tokens, cache)| Sequence { cache, tokens }).collect();
                let mut record = InputsOf::new(layers);
                let mut pass =
                    Pass { model, feed_forward: &ffn, precision: Precision::Exact, hook: &mut record };
                // After the last token nothing is asked any more.
                let logits = if step < ANSWERED {
                    pass.run(&mut sequences, LogitsFor::LastToken)?
                } else {
                    pass.below(layers.iter().max().map_or(0, |layer| layer + 1), &mut sequences)?;
                    Vec::new()
                };
                let mut end = 0;
                for (text, read) in whole.iter().zip(&next) {
                    end += read.len();
                    inputs.insert(text.clone(), record.of_token(end - 1, model.spec().hidden_size));
                }
                if step < ANSWERED {
                    let answers = logits.chunks_exact(vocabulary).map(greedy);
                    next = answers.map(|token| vec![token]).collect();
                    whole.iter_mut().zip(&next).for_each(|(text, token)| text.extend(token));
                }
            }
            for (text, whole) in texts.iter().zip(whole) {
                answers.insert(text.to_vec(), whole[text.len()..].to_vec());
            }
        }
        Ok(())
    }

    /// Runs the texts that are not known yet. What is kept of each is what is read at its tokens from a place on.
    fn look(&mut self, texts: Vec<(&[u32], usize)>) -> Result<(), InferenceError> {
        let known = |(text, first): &(&[u32], usize)| {
            (*first..text.len()).all(|last| self.inputs.contains_key(&text[..=last]))
        };
        let unknown: Vec<(&[u32], usize)> = texts.into_iter().filter(|text| !known(text)).collect();
        let hidden = self.model.spec().hidden_size;
        for texts in unknown.chunks(TEXTS_AT_ONCE) {
            let whole: Vec<Vec<u32>> = texts.iter().map(|(text, _)| text.to_vec()).collect();
            let read = inputs_of_layers(self.model, self.layers, &whole)?;
            for (index, (text, first)) in texts.iter().enumerate() {
                for last in *first..text.len() {
                    let of_layers = read.iter().flat_map(|of_texts| {
                        of_texts[index][last * hidden..(last + 1) * hidden].iter().copied()
                    });
                    self.inputs.insert(text[..=last].to_vec(), of_layers.collect());
                }
            }
        }
        Ok(())
    }

    /// Some of what one layer read, white.
    pub(crate) fn white<'t>(
        &self,
        whitening: &Whitening,
        layer: usize,
        texts: impl Iterator<Item = &'t [u32]>,
    ) -> HashMap<&'t [u32], Input> {
        let hidden = whitening.hidden_size();
        let place = self.layers.iter().position(|own| *own == layer).unwrap_or_default() * hidden;
        let texts: HashSet<&[u32]> = texts.collect();
        let white = |text: &'t [u32]| {
            let read = self.inputs.get(text)?;
            Some((text, Input::new(whitening, &read[place..place + hidden])))
        };
        texts.into_iter().filter_map(white).collect()
    }
}

/// The texts of a statement, at the ends of which layers were looked at.
pub(crate) struct Seen {
    /// The prompts, each with the target after it but for its last token.
    stated: Vec<Vec<u32>>,
    /// Tokens of the target.
    target: usize,
    /// The target whole, after the prompts.
    ended: Vec<Vec<u32>>,
    /// Texts at whose end no feature is to fire.
    quiet: Vec<Vec<u32>>,
    /// The same, in what the model answers to the others.
    answers: Vec<Vec<u32>>,
}

impl Seen {
    /// # Errors
    /// If something of the statement is empty or has tokens of another model.
    pub(crate) fn new(sight: &mut Sight<'_>, statement: &Statement) -> Result<Seen, InferenceError> {
        let Statement { prompts, target, others } = statement;
        let Some((_, begun)) = target.split_last() else { return Err(InferenceError::EmptyPrompt) };
        if prompts.is_empty() || prompts.iter().chain(others).any(Vec::is_empty) {
            return Err(InferenceError::EmptyPrompt);
        }
        let after = |prompt: &Vec<u32>, text: &[u32]| [&prompt[..], text].concat();
        let stated: Vec<Vec<u32>> = prompts.iter().map(|prompt| after(prompt, begun)).collect();
        let ended: Vec<Vec<u32>> = prompts.iter().map(|prompt| after(prompt, target)).collect();
        let others_begun: Vec<Vec<u32>> =
            others.iter().take(OTHERS_BEGUN).map(|other| after(other, begun)).collect();
        let mut quiet: Vec<Vec<u32>> = others.clone();
        for (other, begun) in others.iter().zip(&others_begun) {
            quiet.extend((other.len() + 1..=begun.len()).map(|end| begun[..end].to_vec()));
        }
        for text in &ended[..PROMPTS_SHOWN_WHOLE.min(ended.len())] {
            // A prompt may be the beginning of another one.
            let beginnings = (1..text.len() - target.len()).map(|end| text[..end].to_vec());
            quiet.extend(beginnings.filter(|beginning| !prompts.contains(beginning)));
        }
        let stops: HashSet<&Vec<u32>> = stated.iter().collect();
        quiet.retain(|text| !stops.contains(text) && !prompts.contains(text));

        let whole = ended.iter().enumerate().map(|(index, text)| {
            let first = if index < PROMPTS_SHOWN_WHOLE { 0 } else { prompts[index].len() - 1 };
            (&text[..], first)
        });
        let begun = others_begun.iter().zip(others).map(|(text, other)| (&text[..], other.len() - 1));
        sight.answer(others)?;
        sight.look(begun.chain(whole).collect())?;
        let mut answers = Vec::new();
        for other in others {
            let answer = sight.answers.get(other).map_or(&[][..], Vec::as_slice);
            answers.extend((1..=answer.len()).map(|end| after(other, &answer[..end])));
        }
        answers.retain(|text| !stops.contains(text) && !prompts.contains(text));
        Ok(Seen { stated, target: target.len(), ended, quiet, answers })
    }

    /// The texts after which token `token` of the target is to come.
    pub(crate) fn wanted(&self, token: usize) -> impl Iterator<Item = &[u32]> {
        self.stated.iter().map(move |text| &text[..=text.len() - self.target + token])
    }

    /// All others that are this statement's own.
    pub(crate) fn unwanted(&self, token: usize) -> impl Iterator<Item = &[u32]> {
        let tokens = (0..self.target).filter(move |other| *other != token);
        let stated = tokens.flat_map(|other| self.wanted(other));
        stated.chain(self.ended.iter().map(Vec::as_slice)).chain(self.quiet())
    }

    /// The texts at whose end no feature is to fire.
    fn quiet(&self) -> impl Iterator<Item = &[u32]> {
        self.quiet.iter().map(Vec::as_slice)
    }

    /// Texts at whose end no feature of another statement is to fire.
    pub(crate) fn shown_to_others(&self) -> impl Iterator<Item = &[u32]> {
        let tokens = 0..self.target;
        let stated = tokens.flat_map(|token| self.wanted(token).take(PROMPTS_SHOWN_TO_OTHERS));
        stated.chain(self.quiet()).chain(self.answers.iter().map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_compute::Pool;
    use larql_models::Checkpoint;

    use super::*;

    #[test]
    fn answers_to_others_are_shown_and_looked_at() {
        let folder = larql_test_data::repository("conformance").join("llama");
        let model = Model::load(&Checkpoint::open(&folder).unwrap(), Arc::new(Pool::new(1))).unwrap();
        let statement = Statement {
            prompts: vec![vec![1, 2, 3], vec![4, 5]],
            target: vec![6, 7],
            others: vec![vec![1, 2, 8], vec![9, 10, 11, 12]],
        };
        let layers = [0, 1];
        let mut sight = Sight::new(&model, &layers);
        let seen = Seen::new(&mut sight, &statement).unwrap();

        assert_eq!(seen.answers.len(), 2 * ANSWERED);
        for answers in seen.answers.chunks_exact(ANSWERED) {
            for (text, longer) in answers.iter().zip(&answers[1..]) {
                assert_eq!(longer[..text.len()], text[..]);
                let mut cache = Cache::new(model.spec());
                let ffn = model.dense_ffn();
                let mut pass = Pass {
                    model: &model,
                    feed_forward: &ffn,
                    precision: Precision::Exact,
                    hook: &mut crate::NoHook,
                };
                let mut sequences = [Sequence { cache: &mut cache, tokens: text }];
                let logits = pass.run(&mut sequences, LogitsFor::LastToken).unwrap();
                assert_eq!(greedy(&logits), longer[text.len()]);
            }
        }
        let hidden = model.spec().hidden_size;
        let shown: Vec<&[u32]> = seen.shown_to_others().collect();
        for text in shown.iter().copied().chain(seen.wanted(0)).chain(seen.unwanted(0)) {
            let read = inputs_of_layers(&model, &layers, &[text.to_vec()]).unwrap();
            let expected = read.iter().flat_map(|of_layer| of_layer[0][(text.len() - 1) * hidden..].iter());
            let found = &sight.inputs[text];
            assert_eq!(found.len(), layers.len() * hidden);
            let differing = expected.zip(found).filter(|(e, f)| (**e - **f).abs() > 1e-4).count();
            assert_eq!(differing, 0, "after {text:?}");
        }
        assert!(seen.answers.iter().all(|text| shown.contains(&&text[..])));
    }
}
