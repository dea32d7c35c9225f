//! Writing facts as features: when each fires, what it writes, and in whose place.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::{ControlFlow, Range};

use larql_compute::vector::dot;
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, TokenScore};

use super::gate::{self, Input, Sides};
use super::seen::{Seen, Sight};
use super::statistics::LayerStatistics;
use super::value::{Scenes, ValueOptions};
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

/// Writes statements into layers of a model.
#[derive(Clone, Copy, Debug)]
pub struct Composer<'a> {
    /// The model, with what was written before.
    pub model: &'a Model,
    /// Of the layers to write to, [`layers_for`] the statements or others: each takes its share of them.
    pub statistics: &'a [&'a LayerStatistics],
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

impl Composer<'_> {
    /// Finds features that make the model state all `statements` together. Features in `taken`, by layer and number, are
    /// not written over. `on_written` hears how many statements are done, and may end it.
    ///
    /// # Errors
    /// If the model is of a kind that gradients are not computed through, something of the statements is empty or has
    /// tokens of another model, there are more statements than features to give up, or `on_written` ended it.
    pub fn write(
        &self,
        statements: &[Statement],
        taken: &BTreeSet<(usize, usize)>,
        on_written: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Written>, InferenceError> {
        let layers: Vec<usize> = self.statistics.iter().map(|statistics| statistics.layer).collect();
        layers.iter().try_for_each(|layer| check_composable(self.model, *layer))?;
        let mut sight = Sight::new(self.model, &layers);
        let mut seen = Vec::with_capacity(statements.len());
        for statement in statements {
            seen.push(Seen::new(&mut sight, statement)?);
            if on_written(0).is_break() {
                return Err(InferenceError::Interrupted);
            }
        }
        let mut written = Vec::with_capacity(statements.len());
        let shares = shares(statements, layers.len());
        for (statistics, share) in self.statistics.iter().zip(shares) {
            let mut writing = Writing::new(self, statistics, (&sight, &seen, share.clone()), taken);
            for index in share {
                written.push(writing.write(&statements[index], index)?);
                if on_written(written.len()).is_break() {
                    return Err(InferenceError::Interrupted);
                }
            }
        }
        Ok(written)
    }
}

/// Which statements each of so many layers takes: about as many tokens of targets each.
fn shares(statements: &[Statement], layers: usize) -> Vec<Range<usize>> {
    let tokens: usize = statements.iter().map(|statement| statement.target.len()).sum();
    let (mut end, mut before) = (0, 0);
    let share = |layer: usize| {
        let start = end;
        while end < statements.len() && (before * layers < tokens * (layer + 1) || layer + 1 == layers) {
            before += statements[end].target.len();
            end += 1;
        }
        start..end
    };
    (0..layers).map(share).collect()
}

/// Statements on their way into one layer.
struct Writing<'a> {
    composer: &'a Composer<'a>,
    statistics: &'a LayerStatistics,
    seen: &'a [Seen],
    /// What the layer reads at the ends of texts.
    white: HashMap<&'a [u32], Input>,
    /// Texts that any statement's features must not fire for, unless it is its own.
    shown: Vec<&'a [u32]>,
    /// Features to write over, those that matter least first.
    free: std::vec::IntoIter<usize>,
}

impl<'a> Writing<'a> {
    /// Of the statements whose numbers are in the range.
    fn new(
        composer: &'a Composer<'a>,
        statistics: &'a LayerStatistics,
        (sight, seen, own): (&Sight<'_>, &'a [Seen], Range<usize>),
        taken: &BTreeSet<(usize, usize)>,
    ) -> Writing<'a> {
        let LayerStatistics { layer, whitening, importance, .. } = statistics;
        let mut shown = Vec::new();
        if !own.is_empty() {
            let mut known = HashSet::new();
            shown.extend(seen.iter().flat_map(Seen::shown_to_others).filter(|text| known.insert(*text)));
        }
        let of_own = seen[own].iter().flat_map(|seen| seen.wanted(0).chain(seen.unwanted(0)));
        let white = sight.white(whitening, *layer, of_own.chain(shown.iter().copied()));
        let mut free: Vec<usize> =
            (0..importance.len()).filter(|feature| !taken.contains(&(*layer, *feature))).collect();
        free.sort_by(|a, b| importance[*a].total_cmp(&importance[*b]));
        Writing { composer, statistics, seen, white, shown, free: free.into_iter() }
    }

    /// Finds the features of the statement that is number `index` of all that are seen.
    fn write(&mut self, statement: &Statement, index: usize) -> Result<Written, InferenceError> {
        let Composer { model, options, .. } = *self.composer;
        let LayerStatistics { layer, importance, .. } = self.statistics;
        let tried = &statement.prompts[..PROMPTS_TRIED.min(statement.prompts.len())];
        let mut scenes = Scenes::new(model, *layer, tried, &statement.target)?;
        let least = scenes.least(model)?;
        let missing: Vec<usize> = (0..least.len()).filter(|t| least[*t] < options.confidence).collect();
        if missing.is_empty() {
            let probability = least.into_iter().fold(1.0, f32::min);
            return Ok(Written { features: Vec::new(), probability });
        }
        let dense = dense(model, *layer)?;
        let mut slots = Vec::with_capacity(missing.len());
        for token in &missing {
            let Some(feature) = self.free.next() else {
                return Err(InferenceError::NoFeatureLeft { layer: *layer, features: importance.len() });
            };
            slots.push(Slot::new(dense, feature, &self.firing(&self.seen[index], *token)));
        }
        let activations: Vec<Vec<f32>> =
            slots.iter().map(|slot| slot.activations(dense, scenes.input())).collect();
        let ComposeOptions { steps, confidence, greatest_norm } = options;
        let options = ValueOptions { steps, confidence, greatest_norm, shares: SHARES };
        let (downs, least) = scenes.search(model, &activations, &options)?;

        let downs = downs.chunks_exact(model.spec().hidden_size);
        let all: f32 = importance.iter().sum();
        let features = slots.into_iter().zip(downs).zip(missing).map(|((slot, down), token)| {
            let token = statement.target[token];
            let tokens = Some(vec![TokenScore { token, score: model.head_product(token, down) }]);
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

    /// When the feature for a token of a statement is to fire.
    fn firing(&self, seen: &Seen, token: usize) -> Firing {
        let LayerStatistics { whitening, ordinary, .. } = self.statistics;
        let white = |text: &[u32]| self.white.get(text);
        let wanted: HashSet<&[u32]> = seen.wanted(token).collect();
        let own: HashSet<&[u32]> = seen.unwanted(token).collect();
        let others = self.shown.iter().filter(|text| !wanted.contains(*text) && !own.contains(*text));
        let sides = Sides {
            wanted: seen.wanted(token).filter_map(white).collect(),
            others: seen.unwanted(token).filter(|text| !wanted.contains(text)).filter_map(white).collect(),
            watched: ordinary.iter().chain(others.filter_map(|text| white(text))).collect(),
        };
        Firing {
            constant: gate::level(whitening, &sides.wanted, 1.0),
            selective: gate::level(whitening, &sides.wanted, 0.0),
            separating: gate::separating(whitening, sides),
        }
    }
}

/// The share of a layer's features that statements may take before they are spread over more layers. Giving up features that
/// matter least costs little: of a layer of Gemma 3 270M two thirds cost an unrelated text 2 %. What statements in a
/// lower layer write changes what a higher one reads, which sets off its features.
const GREATEST_SHARE: f32 = 0.75;

/// The layers that statements are written to: `layer`, and as many below it, but not in the lower half, as are needed so
/// that none gives up more than three quarters of its features.
pub fn layers_for(model: &Model, layer: usize, statements: &[Statement]) -> Vec<usize> {
    let needed: usize = statements.iter().map(|statement| statement.target.len()).sum();
    let features = model.spec().layers.get(layer).map_or(0, |layer| layer.feed_forward.features());
    let of_layer = ((features as f32 * GREATEST_SHARE) as usize).max(1);
    let layers = needed.div_ceil(of_layer).clamp(1, layer / 2 + 1);
    (0..layers).map(|below| layer - below).collect()
}

/// The layer that facts are written to if nothing better is known: late, where the last token knows what is asked and of
/// whom, so that one direction tells a fact from its neighbours, and with layers left to act on what is written.
///
/// Where a norm follows the feed-forward step, what a layer can add is bounded, and more layers are left to it: on Gemma 3
/// 270M, ten edges together change the bits per byte of unrelated text by 0.4 % from layer 12 of 18 and by 2.2 % from 15.
pub fn default_layer(model: &Model) -> usize {
    let layers = model.layers.len();
    let normed = model.layers.last().is_some_and(|layer| layer.post_feed_forward_norm.is_some());
    let layer = if normed { layers * 2 / 3 } else { layers * 17 / 20 };
    layer.min(layers.saturating_sub(2))
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
        dot(&row, vector)
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

/// When a feature is to fire, as directions whose products with what the layer reads are 1 there.
struct Firing {
    /// The product is negative everywhere else.
    separating: Vec<f32>,
    /// The product is nearly 0 on ordinary text.
    selective: Vec<f32>,
    /// The product is nearly 1 on ordinary text too.
    constant: Vec<f32>,
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
    /// The activation is to be 1 where the feature fires fully. The gate separates, and the up row is selective, so that
    /// what the one lets through by mistake is mostly nothing to the other: of 30 edges that SmolLM2 135M was to learn
    /// together, one token of ordinary text in 140 set off a feature as much as a wording that nobody had tried, and one
    /// in 7 with a constant up row. The constant direction makes up for biases that the layer has.
    fn new(dense: &Dense, feature: usize, firing: &Firing) -> Slot {
        let Firing { separating, selective, constant } = firing;
        let bias = |bias: &Option<Vec<f32>>| bias.as_ref().map_or(0.0, |bias| bias[feature]);
        let biases = [bias(&dense.gate.bias), dense.up.as_ref().map_or(0.0, |up| bias(&up.bias))];
        let row = |factor: f32, direction: &[f32], bias: f32| {
            direction.iter().zip(constant).map(|(d, c)| factor * d - bias * c).collect()
        };
        let gate = row(STEEPNESS, separating, biases[0]);
        let up = dense.up.as_ref().map(|_| row(1.0 / STEEPNESS, selective, biases[1]));
        Slot { feature, gate, up, biases }
    }

    /// What the feature does for inputs `[tokens, hidden]`.
    fn activations(&self, dense: &Dense, inputs: &[f32]) -> Vec<f32> {
        let inputs = inputs.chunks_exact(self.gate.len());
        let mut activations: Vec<f32> = inputs.clone().map(|x| dot(&self.gate, x) + self.biases[0]).collect();
        dense.activation.apply(&mut activations);
        if let Some(up) = &self.up {
            let ups: Vec<f32> = inputs.map(|x| dot(up, x) + self.biases[1]).collect();
            dense.activation.multiply(&mut activations, &ups);
        }
        activations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_share_statements_by_tokens_of_their_targets() {
        let statements = |lengths: &[usize]| -> Vec<Statement> {
            let statement = |length: &usize| Statement {
                prompts: vec![vec![1]],
                target: vec![2; *length],
                others: Vec::new(),
            };
            lengths.iter().map(statement).collect()
        };
        assert_eq!(shares(&statements(&[1, 1, 2]), 1).first(), Some(&(0..3)));
        assert_eq!(shares(&statements(&[2, 2, 1, 1, 1, 1]), 2), [0..2, 2..6]);
        assert_eq!(shares(&statements(&[9, 1, 1]), 3), [0..1, 1..1, 1..3]);
        assert_eq!(shares(&[], 2), [0..0, 0..0]);
    }
}
