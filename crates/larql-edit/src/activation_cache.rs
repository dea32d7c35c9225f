//! Cache of the layers' inputs at the texts of statements, so that each text is run once for all statements.

use std::collections::{HashMap, HashSet};

use larql_inference::{
    InputRecord, KeyValueCache, Model, Sequence, WhitenedInput, Whitening, greedy, inputs_of_layers,
};

use crate::error::EditError;
use crate::statement::Statement;

/// Prompts of a statement of which every token is a negative for the statement's own features.
const PROMPTS_SHOWN_WHOLE: usize = 3;

/// Prompts of each statement that are negatives for other statements' features.
const PROMPTS_SHOWN_TO_OTHERS: usize = 4;

/// Neighbourhood prompts that are also continued with the first tokens of the target, which may begin another answer.
const OTHERS_BEGUN: usize = 8;

/// Tokens that the model generates after each neighbourhood prompt. They are to stay the same, and their inputs resemble
/// nothing in background text: most of the neighbourhood answers that twenty edges changed on SmolLM2 135M changed after
/// their first token.
const ANSWERED: usize = 3;

/// Inputs of layers at the last tokens of texts.
pub(crate) struct ActivationCache<'a> {
    model: &'a Model,
    layers: &'a [usize],
    /// By text, as tokens: the inputs at its last token, `[layers, hidden]`.
    inputs: HashMap<Vec<u32>, Box<[f32]>>,
    /// By text: the model's greedy answer of [`ANSWERED`] tokens, whose inputs are cached too.
    answers: HashMap<Vec<u32>, Vec<u32>>,
}

/// Texts of one batch.
const TEXTS_AT_ONCE: usize = 64;

impl<'a> ActivationCache<'a> {
    pub(crate) fn new(model: &'a Model, layers: &'a [usize]) -> ActivationCache<'a> {
        ActivationCache { model, layers, inputs: HashMap::new(), answers: HashMap::new() }
    }

    /// Generates the answers to texts that are not answered yet.
    fn answer(&mut self, texts: &[Vec<u32>]) -> Result<(), EditError> {
        let ActivationCache { model, layers, inputs, answers } = self;
        let vocabulary = model.spec().vocab_size;
        let unknown: Vec<&Vec<u32>> = texts.iter().filter(|text| !answers.contains_key(*text)).collect();
        for texts in unknown.chunks(TEXTS_AT_ONCE) {
            let mut caches: Vec<_> = texts.iter().map(|_| KeyValueCache::new(model.spec())).collect();
            let mut whole: Vec<Vec<u32>> = texts.iter().map(|text| text.to_vec()).collect();
            let mut next = whole.clone();
            for step in 0..=ANSWERED {
                let mut sequences: Vec<Sequence<'_>> = next
                    .iter()
                    .zip(&mut caches)
                    .map(|(tokens, cache)| Sequence::new(cache, tokens))
                    .collect();
                let mut record = InputRecord::new(layers);
                // After the last token nothing is asked any more.
                let logits = if step < ANSWERED {
                    model.pass().with_hook(&mut record).run(&mut sequences)?.into_values()
                } else {
                    let end = layers.iter().max().map_or(0, |layer| layer + 1);
                    model.pass().with_hook(&mut record).residual_below(end, &mut sequences)?;
                    Vec::new()
                };
                let mut end = 0;
                for (text, read) in whole.iter().zip(&next) {
                    end += read.len();
                    inputs.insert(text.clone(), record.row(end - 1, model.spec().hidden_size));
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

    /// Runs the texts that are not cached yet. The inputs of each text are kept from the given token on.
    fn record(&mut self, texts: Vec<(&[u32], usize)>) -> Result<(), EditError> {
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

    /// Whitened inputs of one layer at the ends of some texts.
    pub(crate) fn whitened<'t>(
        &self,
        whitening: &Whitening,
        layer: usize,
        texts: impl Iterator<Item = &'t [u32]>,
    ) -> HashMap<&'t [u32], WhitenedInput> {
        let hidden = whitening.hidden_size();
        let place = self.layers.iter().position(|own| *own == layer).unwrap_or_default() * hidden;
        let texts: HashSet<&[u32]> = texts.collect();
        let whitened = |text: &'t [u32]| {
            let read = self.inputs.get(text)?;
            Some((text, whitening.whiten(&read[place..place + hidden])))
        };
        texts.into_iter().filter_map(whitened).collect()
    }
}

/// Texts of a statement, the inputs at whose ends are cached.
pub(crate) struct StatementInputs {
    /// Prompts, each followed by the target without its last token.
    stated: Vec<Vec<u32>>,
    /// Number of tokens of the target.
    target: usize,
    /// Prompts, each followed by the whole target.
    ended: Vec<Vec<u32>>,
    /// Texts at whose end no feature is to activate.
    negatives: Vec<Vec<u32>>,
    /// Neighbourhood prompts with beginnings of the model's answers, which are negatives too.
    answers: Vec<Vec<u32>>,
}

impl StatementInputs {
    /// Runs the texts of a statement that `cache` does not hold yet.
    ///
    /// # Errors
    /// If something of the statement is empty or has tokens of another model.
    pub(crate) fn record(
        cache: &mut ActivationCache<'_>,
        statement: &Statement,
    ) -> Result<StatementInputs, EditError> {
        let Statement { prompts, others, .. } = statement;
        let target = statement.written_tokens();
        let incomplete = |found, expected| Err(EditError::IncompleteStatement { found, expected });
        let Some((_, begun)) = target.split_last() else {
            return incomplete("an empty target", "a target with tokens");
        };
        if prompts.is_empty() {
            return incomplete("no prompt", "at least one");
        }
        if prompts.iter().chain(others).any(Vec::is_empty) {
            return incomplete("an empty prompt", "prompts with tokens");
        }
        let after = |prompt: &Vec<u32>, text: &[u32]| [&prompt[..], text].concat();
        let stated: Vec<Vec<u32>> = prompts.iter().map(|prompt| after(prompt, begun)).collect();
        let ended: Vec<Vec<u32>> = prompts.iter().map(|prompt| after(prompt, target)).collect();
        let others_begun: Vec<Vec<u32>> =
            others.iter().take(OTHERS_BEGUN).map(|other| after(other, begun)).collect();
        let mut negatives: Vec<Vec<u32>> = others.clone();
        for (other, begun) in others.iter().zip(&others_begun) {
            negatives.extend((other.len() + 1..=begun.len()).map(|end| begun[..end].to_vec()));
        }
        for text in &ended[..PROMPTS_SHOWN_WHOLE.min(ended.len())] {
            // A prompt may be the beginning of another one.
            let beginnings = (1..text.len() - target.len()).map(|end| text[..end].to_vec());
            negatives.extend(beginnings.filter(|beginning| !prompts.contains(beginning)));
        }
        let stops: HashSet<&Vec<u32>> = stated.iter().collect();
        negatives.retain(|text| !stops.contains(text) && !prompts.contains(text));

        let whole = ended.iter().enumerate().map(|(index, text)| {
            let first = if index < PROMPTS_SHOWN_WHOLE { 0 } else { prompts[index].len() - 1 };
            (&text[..], first)
        });
        let begun = others_begun.iter().zip(others).map(|(text, other)| (&text[..], other.len() - 1));
        cache.answer(others)?;
        cache.record(begun.chain(whole).collect())?;
        let mut answers = Vec::new();
        for other in others {
            let answer = cache.answers.get(other).map_or(&[][..], Vec::as_slice);
            answers.extend((1..=answer.len()).map(|end| after(other, &answer[..end])));
        }
        answers.retain(|text| !stops.contains(text) && !prompts.contains(text));
        Ok(StatementInputs { stated, target: target.len(), ended, negatives, answers })
    }

    /// Texts after which token `token` of the target is the expected next one.
    pub(crate) fn positives(&self, token: usize) -> impl Iterator<Item = &[u32]> {
        self.stated.iter().map(move |text| &text[..=text.len() - self.target + token])
    }

    /// Texts of this statement after which it is not.
    pub(crate) fn negatives(&self, token: usize) -> impl Iterator<Item = &[u32]> {
        let tokens = (0..self.target).filter(move |other| *other != token);
        let stated = tokens.flat_map(|other| self.positives(other));
        stated.chain(self.ended.iter().map(Vec::as_slice)).chain(self.texts_of_others())
    }

    /// Texts at whose end no feature of this statement is to activate, whatever the token.
    fn texts_of_others(&self) -> impl Iterator<Item = &[u32]> {
        self.negatives.iter().map(Vec::as_slice)
    }

    /// Texts at whose end no feature of another statement is to activate.
    pub(crate) fn shared_negatives(&self) -> impl Iterator<Item = &[u32]> {
        let tokens = 0..self.target;
        let stated = tokens.flat_map(|token| self.positives(token).take(PROMPTS_SHOWN_TO_OTHERS));
        stated.chain(self.texts_of_others()).chain(self.answers.iter().map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_compute::Pool;
    use larql_models::Checkpoint;

    use super::*;

    #[test]
    fn answers_to_neighbourhood_prompts_are_cached_as_shared_negatives() {
        let folder = larql_testing::repository("conformance").join("llama");
        let model = Model::load(&Checkpoint::open(&folder).unwrap(), Arc::new(Pool::new(1))).unwrap();
        let statement = Statement {
            prompts: vec![vec![1, 2, 3], vec![4, 5]],
            target: vec![6, 7],
            others: vec![vec![1, 2, 8], vec![9, 10, 11, 12]],
            goal: crate::statement::Goal::Learn,
        };
        let layers = [0, 1];
        let mut cached = ActivationCache::new(&model, &layers);
        let recorded = StatementInputs::record(&mut cached, &statement).unwrap();

        assert_eq!(recorded.answers.len(), 2 * ANSWERED);
        for answers in recorded.answers.chunks_exact(ANSWERED) {
            for (text, longer) in answers.iter().zip(&answers[1..]) {
                assert_eq!(longer[..text.len()], text[..]);
                let logits = model.pass().last_logits(&mut KeyValueCache::new(model.spec()), text).unwrap();
                assert_eq!(greedy(&logits), longer[text.len()]);
            }
        }
        let hidden = model.spec().hidden_size;
        let shown: Vec<&[u32]> = recorded.shared_negatives().collect();
        for text in shown.iter().copied().chain(recorded.positives(0)).chain(recorded.negatives(0)) {
            let read = inputs_of_layers(&model, &layers, &[text.to_vec()]).unwrap();
            let expected = read.iter().flat_map(|of_layer| of_layer[0][(text.len() - 1) * hidden..].iter());
            let found = &cached.inputs[text];
            assert_eq!(found.len(), layers.len() * hidden);
            let differing = expected.zip(found).filter(|(e, f)| (**e - **f).abs() > 1e-4).count();
            assert_eq!(differing, 0, "after {text:?}");
        }
        assert!(recorded.answers.iter().all(|text| shown.contains(&&text[..])));
    }
}
