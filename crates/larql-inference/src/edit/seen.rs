//! What layers read where a statement is made, and where nothing is to change: each text is run once for all statements.

use std::collections::{HashMap, HashSet};

use super::compose::Statement;
use super::gate::Input;
use super::statistics::inputs_of_layers;
use super::whitening::Whitening;
use crate::{InferenceError, Model};

/// Prompts of a statement of which every token is shown to its own features as something not to fire for.
const PROMPTS_SHOWN_WHOLE: usize = 3;

/// Prompts of each statement that other statements' features must not fire for.
const PROMPTS_SHOWN_TO_OTHERS: usize = 4;

/// Texts of the others after which the target is begun too: its first tokens may be the beginning of another answer.
const OTHERS_BEGUN: usize = 8;

/// What layers read at the last tokens of texts.
pub(crate) struct Sight<'a> {
    model: &'a Model,
    layers: &'a [usize],
    /// By text, as tokens: what the layers read at the last one, `[layers, hidden]`.
    inputs: HashMap<Vec<u32>, Box<[f32]>>,
}

/// Texts that are run before what was read is sorted.
const TEXTS_AT_ONCE: usize = 64;

impl<'a> Sight<'a> {
    pub(crate) fn new(model: &'a Model, layers: &'a [usize]) -> Sight<'a> {
        Sight { model, layers, inputs: HashMap::new() }
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
        let rest = others.iter().map(|other| (&other[..], other.len() - 1));
        sight.look(begun.chain(whole).chain(rest).collect())?;
        Ok(Seen { stated, target: target.len(), ended, quiet })
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
        stated.chain(self.quiet())
    }
}
