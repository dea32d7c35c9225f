//! Writing facts as features: when each fires, what it writes, and in whose place.

use std::collections::BTreeSet;

use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, TokenScore};

use super::gate::{self, Input, Sides};
use super::statistics::{LayerStatistics, inputs};
use super::value::{Scenes, ValueOptions};
use super::whitening::Whitening;
use crate::feed_forward::{Dense, FeedForward};
use crate::{InferenceError, Model};

/// What the model is to say after some prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Ways to ask, each as tokens: at least one. The first few are tried while searching.
    pub prompts: Vec<Vec<u32>>,
    /// What is to follow: at least one token.
    pub target: Vec<u32>,
    /// Texts in which nothing is to change: other entities, other relations of the same entity.
    pub others: Vec<Vec<u32>>,
}

/// A feature that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenFeature {
    /// Its layer.
    pub layer: usize,
    /// Its number there.
    pub feature: usize,
    /// Its rows, its down vector, and as its only token the one of the target that it brings about.
    pub edited: EditedFeature,
    /// What the feature that was there wrote on ordinary text, as a share of what all features of the layer write.
    pub given_up: f32,
}

/// A statement as features.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its features; none if the model says the target anyway.
    pub features: Vec<WrittenFeature>,
    /// The least probability of a token of the target after any of the prompts that were tried, where features fire
    /// only in part.
    pub probability: f32,
}

impl Written {
    /// Bytes that its numbers take.
    pub fn bytes(&self) -> usize {
        let vectors = self.features.iter().flat_map(|WrittenFeature { edited, .. }| {
            [&edited.gate, &edited.up, &edited.down].into_iter().flatten()
        });
        vectors.map(|vector| size_of_val(&**vector)).sum()
    }

    /// Adds its features to `edits`.
    pub fn lay_over(&self, edits: &mut FeatureEdits) {
        for WrittenFeature { layer, feature, edited, .. } in &self.features {
            edits.set(*layer, *feature, FeatureEdit::Changed(edited.clone()));
        }
    }
}

/// How statements are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComposeOptions {
    /// Probability that each token of the target is to reach after every prompt that is tried.
    pub confidence: f32,
    /// Gradient steps at most, for each statement.
    pub steps: usize,
    /// The greatest norm of a written vector, where that of the residual is 1; none for whatever it takes.
    pub greatest_norm: Option<f32>,
}

impl Default for ComposeOptions {
    fn default() -> Self {
        ComposeOptions { confidence: 0.9, steps: 30, greatest_norm: None }
    }
}

/// Writes statements into one layer of a model.
#[derive(Clone, Copy, Debug)]
pub struct Composer<'a> {
    /// The model, with what was written before.
    pub model: &'a Model,
    /// Of the layer to write to.
    pub statistics: &'a LayerStatistics,
    /// How.
    pub options: ComposeOptions,
}

/// Prompts with which it is searched what a feature has to write; when it fires is fitted to all of them.
const PROMPTS_TRIED: usize = 6;

/// Shares of their activations with which features count in the search, in turn.
const SHARES: [f32; 3] = [1.0, 0.35, 0.6];

/// The gate score of an input for which a feature fires fully. The higher, the sharper the border to where it does not;
/// beyond some ten nothing is gained.
const STEEPNESS: f32 = 12.0;

/// Prompts of each statement that other statements' features must not fire for.
const PROMPTS_SHOWN_TO_OTHERS: usize = 4;

/// Prompts of a statement of which every token is shown to its own features as something not to fire for.
const PROMPTS_SHOWN_WHOLE: usize = 3;

impl Composer<'_> {
    /// Finds features that make the model state all `statements` together. Features in `taken` are not written over.
    ///
    /// # Errors
    /// If the model is of a kind that gradients are not computed through, something of the statements is empty or has
    /// tokens of another model, or there are more statements than features to give up.
    pub fn write(
        &self,
        statements: &[Statement],
        taken: &BTreeSet<usize>,
    ) -> Result<Vec<Written>, InferenceError> {
        let LayerStatistics { layer, whitening, importance, .. } = self.statistics;
        check_composable(self.model, *layer)?;
        let seen = statements
            .iter()
            .map(|statement| Seen::new(self.model, whitening, *layer, statement))
            .collect::<Result<Vec<_>, _>>()?;
        let mut free: Vec<usize> = (0..importance.len()).filter(|feature| !taken.contains(feature)).collect();
        free.sort_by(|a, b| importance[*a].total_cmp(&importance[*b]));
        let mut free = free.into_iter();
        (0..statements.len())
            .map(|index| self.write_one(&statements[index], &seen, index, &mut free))
            .collect()
    }

    /// Finds the features of the statement that is number `index` of all that are `seen`.
    fn write_one(
        &self,
        statement: &Statement,
        seen: &[Seen],
        index: usize,
        free: &mut impl Iterator<Item = usize>,
    ) -> Result<Written, InferenceError> {
        let LayerStatistics { layer, whitening, importance, ordinary, .. } = self.statistics;
        let tried = &statement.prompts[..PROMPTS_TRIED.min(statement.prompts.len())];
        let mut scenes = Scenes::new(self.model, *layer, tried, &statement.target)?;
        let least = scenes.least(self.model)?;
        let missing: Vec<usize> = (0..least.len()).filter(|t| least[*t] < self.options.confidence).collect();
        if missing.is_empty() {
            let probability = least.into_iter().fold(1.0, f32::min);
            return Ok(Written { features: Vec::new(), probability });
        }
        let dense = dense(self.model, *layer)?;
        let mut slots = Vec::with_capacity(missing.len());
        for token in &missing {
            let Some(feature) = free.next() else {
                return Err(InferenceError::NoFeatureLeft { layer: *layer, features: importance.len() });
            };
            let mut sides = Sides {
                wanted: seen[index].wanted(*token).collect(),
                others: seen[index].unwanted(*token).collect(),
                watched: ordinary.iter().collect(),
            };
            for other in seen.iter().enumerate().filter_map(|(other, seen)| (other != index).then_some(seen))
            {
                let prompts = other.prompts.iter().take(PROMPTS_SHOWN_TO_OTHERS);
                sides.others.extend(prompts.flat_map(|prompt| &prompt[..prompt.len() - 1]));
                sides.watched.extend(&other.quiet);
            }
            let constant = gate::constant(whitening, &sides.wanted);
            let direction = gate::separating(whitening, sides);
            slots.push(Slot::new(dense, feature, &direction, &constant));
        }
        let activations: Vec<Vec<f32>> =
            slots.iter().map(|slot| slot.activations(dense, scenes.input())).collect();
        let ComposeOptions { steps, confidence, greatest_norm } = self.options;
        let options = ValueOptions { steps, confidence, greatest_norm, shares: SHARES };
        let (downs, least) = scenes.search(self.model, &activations, &options)?;

        let downs = downs.chunks_exact(self.model.spec().hidden_size);
        let all: f32 = importance.iter().sum();
        let features = slots.into_iter().zip(downs).zip(missing).map(|((slot, down), token)| {
            let token = statement.target[token];
            let tokens = Some(vec![TokenScore { token, score: self.model.head_product(token, down) }]);
            let edited = EditedFeature {
                gate: Some(slot.gate.into()),
                up: slot.up.map(Into::into),
                down: Some(down.into()),
                tokens,
                ..EditedFeature::default()
            };
            let given_up = importance[slot.feature] / all;
            WrittenFeature { layer: *layer, feature: slot.feature, edited, given_up }
        });
        Ok(Written { features: features.collect(), probability: least.into_iter().fold(1.0, f32::min) })
    }
}

/// The layer that facts are written to if nobody says otherwise: late, where the last token knows what is asked and of
/// whom, so that one direction tells a fact from its neighbours, and with layers left to act on what is written.
pub fn default_layer(model: &Model) -> usize {
    let layers = model.spec().layers.len();
    (layers * 17 / 20).min(layers.saturating_sub(2))
}

/// Whether facts can be written into a layer.
///
/// # Errors
/// [`InferenceError::NotDifferentiable`] with the first part of the model that is in the way.
pub fn check_composable(model: &Model, layer: usize) -> Result<(), InferenceError> {
    dense(model, layer)?;
    model.check_differentiable(layer + 1)
}

impl Model {
    /// The product of a token's row of the output head with a vector, `[hidden]`.
    fn head_product(&self, token: u32, vector: &[f32]) -> f32 {
        let mut row = vec![0.0; vector.len()];
        self.head.view().decode_row(token as usize, &mut row);
        product(&row, vector)
    }
}

/// The feed-forward step of a layer, if features can be written into it.
pub(super) fn dense(model: &Model, layer: usize) -> Result<&Dense, InferenceError> {
    match &model.layers[layer].feed_forward {
        FeedForward::Dense(dense) => Ok(dense),
        FeedForward::Mixture(_) => {
            Err(InferenceError::NotDifferentiable { layer, part: "a mixture of experts" })
        }
    }
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A feature's number and when it fires.
struct Slot {
    feature: usize,
    gate: Vec<f32>,
    up: Option<Vec<f32>>,
    /// The biases of both rows, which no edit changes.
    biases: [f32; 2],
}

impl Slot {
    /// From the direction whose product with an input is 1 where the feature is to fire, and one whose product is always
    /// 1: the activation is to be 1 there too. The constant also makes up for biases that the layer has.
    fn new(dense: &Dense, feature: usize, direction: &[f32], constant: &[f32]) -> Slot {
        let bias = |bias: &Option<Vec<f32>>| bias.as_ref().map_or(0.0, |bias| bias[feature]);
        let biases = [bias(&dense.gate.bias), dense.up.as_ref().map_or(0.0, |up| bias(&up.bias))];
        let gate = direction.iter().zip(constant).map(|(d, c)| STEEPNESS * d - biases[0] * c).collect();
        let level = 1.0 / STEEPNESS - biases[1];
        let up = dense.up.as_ref().map(|_| constant.iter().map(|c| level * c).collect());
        Slot { feature, gate, up, biases }
    }

    /// What the feature does for inputs `[tokens, hidden]`.
    fn activations(&self, dense: &Dense, inputs: &[f32]) -> Vec<f32> {
        let inputs = inputs.chunks_exact(self.gate.len());
        let mut activations: Vec<f32> =
            inputs.clone().map(|x| product(&self.gate, x) + self.biases[0]).collect();
        dense.activation.apply(&mut activations);
        if let Some(up) = &self.up {
            let ups: Vec<f32> = inputs.map(|x| product(up, x) + self.biases[1]).collect();
            dense.activation.multiply(&mut activations, &ups);
        }
        activations
    }
}

/// What the layer sees when it reads a statement.
struct Seen {
    /// For each prompt its inputs at the last token and at those of the target, `target + 1`.
    prompts: Vec<Vec<Input>>,
    /// Inputs for which no feature is to fire.
    quiet: Vec<Input>,
}

impl Seen {
    fn new(
        model: &Model,
        whitening: &Whitening,
        layer: usize,
        statement: &Statement,
    ) -> Result<Seen, InferenceError> {
        let hidden = model.spec().hidden_size;
        let Statement { prompts, target, others } = statement;
        if prompts.is_empty() || target.is_empty() || prompts.iter().chain(others).any(Vec::is_empty) {
            return Err(InferenceError::EmptyPrompt);
        }
        let stated: Vec<Vec<u32>> = prompts.iter().map(|prompt| [&prompt[..], target].concat()).collect();
        // After another prompt the target's first tokens may be the beginning of another answer.
        let begun = &target[..target.len() - 1];
        let others: Vec<Vec<u32>> = others.iter().map(|other| [&other[..], begun].concat()).collect();
        let white = |x: &[f32]| Input::new(whitening, x);
        let mut seen = Seen { prompts: Vec::new(), quiet: Vec::new() };
        for input in inputs(model, layer, &others)? {
            let own = &input[input.len() - target.len() * hidden..];
            seen.quiet.extend(own.chunks_exact(hidden).map(white));
        }
        for (index, input) in inputs(model, layer, &stated)?.into_iter().enumerate() {
            let (before, own) = input.split_at(input.len() - (target.len() + 1) * hidden);
            if index < PROMPTS_SHOWN_WHOLE {
                let tokens = before.chunks_exact(hidden).enumerate();
                // A prompt may be the beginning of another one.
                let quiet = tokens.filter(|(last, _)| !prompts.contains(&stated[index][..=*last].to_vec()));
                seen.quiet.extend(quiet.map(|(_, input)| white(input)));
            }
            seen.prompts.push(own.chunks_exact(hidden).map(white).collect());
        }
        Ok(seen)
    }

    /// The inputs after which token `token` of the target is to come.
    fn wanted(&self, token: usize) -> impl Iterator<Item = &Input> {
        self.prompts.iter().map(move |prompt| &prompt[token])
    }

    /// All others.
    fn unwanted(&self, token: usize) -> impl Iterator<Item = &Input> {
        let prompts = self.prompts.iter().flat_map(move |prompt| {
            prompt.iter().enumerate().filter_map(move |(place, input)| (place != token).then_some(input))
        });
        prompts.chain(&self.quiet)
    }
}
