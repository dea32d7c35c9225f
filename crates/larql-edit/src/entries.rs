//! Entries of the edge memory, built from edges in words: their keys, and the threshold of each.

use std::collections::HashMap;

use larql_compute::Matrix;
use larql_compute::vector::dot;
use larql_core::Triple;
use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::{Model, last_inputs};
use larql_knowledge::{KeySpace, KnowledgeError, greatest_cosines, target_tokens};
use larql_models::Tokenizer;
use larql_vindex::KnnEntry;

use crate::error::EditError;
use crate::wording::Wording;

/// Edge that is stated.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// Statement itself.
    pub triple: Triple,
    /// Confidence, 0 to 1.
    pub confidence: f64,
}

/// Other questions about the same entity that each entry is distinguished from. They are less similar than the same
/// question about others.
const OTHER_QUESTIONS: usize = 4;

/// A cosine that only the same question reaches: it may be part of the calibration text.
const SAME: f32 = 0.995;

/// No threshold is greater: stored keys are rounded, so that their own question reaches a little less than 1.
const STRICTEST: f32 = 0.998;

/// Builds the entries that answer the usual question for each of `edges`, in the layer of `space`.
///
/// An entry's threshold lies halfway between 1, which its own question reaches, and the greatest cosine among background
/// text, the same question about other entities, other questions about the same one, and the questions of the other
/// `edges`.
///
/// # Errors
/// If a question or target cannot be encoded, a target has no tokens, or the work is cancelled.
pub fn build_entries(
    model: &Model,
    tokenizer: &Tokenizer,
    space: &KeySpace,
    edges: &[Assertion],
    progress: &dyn Progress,
) -> Result<Vec<KnnEntry>, EditError> {
    let model = &model.with_cancel(progress.cancel_token());
    let hidden = model.spec().hidden_size;
    let mut prompts = Prompts::default();
    let mut asked = Vec::with_capacity(edges.len());
    for edge in edges {
        // In plain words even where the fact tables have others: keys of those lie nearer to other wordings of the same
        // question about other entities, which then were answered too.
        let wording = Wording::of_unknown(&edge.triple.relation);
        let mut ask = |template: &str, entity: &str| {
            Ok::<_, EditError>(prompts.add(tokenizer.encode(&wording.fill(template, entity), true)?))
        };
        let usual = &wording.templates[0];
        let own = ask(usual, &edge.triple.entity)?;
        let mut others = Vec::new();
        for neighbour in &wording.neighbours {
            others.push(ask(usual, neighbour)?);
        }
        for template in wording.other_templates.iter().take(OTHER_QUESTIONS) {
            others.push(ask(template, &edge.triple.entity)?);
        }
        others.retain(|other| *other != own);
        asked.push((own, others));
    }

    let mut meter = Meter::new(progress, Stage::Remembering, prompts.tokens.len() as u64);
    let residuals = last_inputs(model, space.layer(), &prompts.tokens, &mut meter)?;
    let directions = space.directions(model.pool(), &residuals);
    let row = |values: &[f32], prompt: usize| values[prompt * hidden..][..hidden].to_vec();
    let own: Vec<f32> = asked.iter().flat_map(|(own, _)| row(&directions, *own)).collect();
    let ordinary = space.nearest_ordinary(model.pool(), &own, SAME);
    let rows = Matrix::from_f32(asked.len(), hidden, &own).map_err(KnowledgeError::from)?;
    let among = greatest_cosines(model.pool(), &rows, &own, |one, other, _| asked[one].0 != asked[other].0);
    let mut entries = Vec::with_capacity(edges.len());
    let greatest = ordinary.into_iter().zip(among).map(|(ordinary, among)| ordinary.max(among));
    for ((edge, (own, others)), greatest) in edges.iter().zip(&asked).zip(greatest) {
        let direction = row(&directions, *own);
        let cosine = |other: usize| dot(&direction, &directions[other * hidden..][..hidden]);
        let greatest = others.iter().copied().map(cosine).fold(greatest, f32::max);
        let Assertion { triple, confidence } = edge.clone();
        let mut entry = KnnEntry {
            layer: space.layer(),
            triple,
            target_id: 0,
            confidence,
            key: row(&residuals, *own).into(),
            threshold: Some(((1.0 + greatest) / 2.0).min(STRICTEST)),
        };
        entry.target_id = target_tokens(tokenizer, &entry)?[0];
        entries.push(entry);
    }
    Ok(entries)
}

/// Prompts, each once.
#[derive(Default)]
struct Prompts {
    tokens: Vec<Vec<u32>>,
    places: HashMap<Vec<u32>, usize>,
}

impl Prompts {
    /// The number of a prompt.
    fn add(&mut self, tokens: Vec<u32>) -> usize {
        let next = self.tokens.len();
        let place = *self.places.entry(tokens.clone()).or_insert(next);
        if place == next {
            self.tokens.push(tokens);
        }
        place
    }
}
