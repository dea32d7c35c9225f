//! Writing of facts as features: gate and up rows, down vectors, and the features that they replace.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use larql_compute::vector::dot;
use larql_core::progress::Meter;
use larql_inference::{DenseStep, Model, WhitenedInput, greedy};
use larql_vindex::{EditedFeature, FeatureEdit, FeatureEdits, TokenScore};

use crate::activation_cache::{ActivationCache, StatementInputs};
use crate::error::EditError;
use crate::gate::{self, Examples};
use crate::layers::check_composable;
use crate::statement::{Goal, Statement};
use crate::statistics::LayerStatistics;
use crate::unlearning::{ROUNDS, add_reappearances};
use crate::value::{EditTargets, Optimised, ValueOptions};

/// Feature that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenFeature {
    /// Its layer.
    pub layer: usize,
    /// Its number there.
    pub feature: usize,
    /// Its rows, its down vector, and as its only token the one of the target whose logit it raises; of a feature that
    /// unlearns, the token whose logit it raises most.
    pub edited: EditedFeature,
    /// Importance of the feature that it replaces, as a share of the importance of all features of the layer.
    pub given_up: f32,
}

/// Features of one statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The features; none if the unedited model already does what the statement says.
    pub features: Vec<WrittenFeature>,
    /// Least probability of a token of the target after any of the prompts that were optimised, where features activate
    /// only in part; the greatest one where the target is unlearned.
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

/// Options of a [`Composer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComposeOptions {
    /// Probability that each token of the target is to reach after every prompt that is optimised; of a target to unlearn,
    /// the probability that the predictions and the wanted ones are to have in common.
    pub confidence: f32,
    /// Greatest number of gradient steps for each statement.
    pub steps: usize,
    /// Greatest norm of a down vector, where that of the residual is 1; none for no bound.
    pub greatest_norm: Option<f32>,
}

impl Default for ComposeOptions {
    fn default() -> Self {
        ComposeOptions { confidence: 0.9, steps: 30, greatest_norm: None }
    }
}

impl ComposeOptions {
    /// Options for unlearning. Predictions differ from wording to wording, and none is reached as closely as a single token.
    pub fn unlearning() -> ComposeOptions {
        ComposeOptions { confidence: 0.7, ..ComposeOptions::default() }
    }
}

/// Writer of statements into layers of a model.
#[derive(Clone, Copy, Debug)]
pub struct Composer<'a> {
    /// The model, with what was written before.
    pub model: &'a Model,
    /// The edits that the model has: what was written before.
    pub edits: &'a FeatureEdits,
    /// Statistics of the layers to write to, [`layers_for`](crate::layers_for) the statements or others: each takes its
    /// share of them.
    pub statistics: &'a [&'a LayerStatistics],
    /// Options of writing.
    pub options: ComposeOptions,
}

/// Factors of the features' activations during the optimisation, in turn.
const SHARES: [f32; 3] = [1.0, 0.35, 0.6];

/// Probability below which a target counts as not known, so that there is nothing to unlearn.
const FORGOTTEN: f32 = 0.01;

/// Gate score of an input that activates a feature fully. The higher, the sharper the boundary; beyond some ten nothing is
/// gained.
const STEEPNESS: f32 = 12.0;

impl Composer<'_> {
    /// Computes features with which the model states all `statements` together. Features in `taken`, by layer and number,
    /// are not replaced. `meter` counts the statements.
    ///
    /// # Errors
    /// If the model is of a kind that gradients are not computed through, something of the statements is empty or has
    /// tokens of another model, there are more statements than features to give up, or the work is cancelled.
    pub fn write(
        &self,
        statements: &[Statement],
        taken: &BTreeSet<(usize, usize)>,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Written>, EditError> {
        let mut written = self.write_once(statements, taken, meter, 1)?;
        if statements.iter().all(|statement| statement.goal == Goal::Learn) {
            return Ok(written);
        }
        let mut statements = statements.to_vec();
        for _ in 0..ROUNDS {
            let mut edits = self.edits.clone();
            written.iter().for_each(|written| written.lay_over(&mut edits));
            if !add_reappearances(&self.model.edited(&edits)?, &mut statements)? {
                break;
            }
            written = self.write_once(&statements, taken, meter, 0)?;
        }
        Ok(written)
    }

    /// Computes the features of statements that are final. The meter advances by `counted` for each.
    fn write_once(
        &self,
        statements: &[Statement],
        taken: &BTreeSet<(usize, usize)>,
        meter: &mut Meter<'_>,
        counted: u64,
    ) -> Result<Vec<Written>, EditError> {
        let layers: Vec<usize> = self.statistics.iter().map(|statistics| statistics.layer).collect();
        layers.iter().try_for_each(|layer| check_composable(self.model, *layer))?;
        let mut cache = ActivationCache::new(self.model, &layers);
        let mut inputs = Vec::with_capacity(statements.len());
        for statement in statements {
            inputs.push(StatementInputs::record(&mut cache, statement)?);
            meter.advance(0)?;
        }
        let mut written = Vec::with_capacity(statements.len());
        let shares = shares(statements, layers.len());
        for (statistics, share) in self.statistics.iter().zip(shares) {
            let mut writing = Writing::new(self, statistics, (&cache, &inputs, share.clone()), taken);
            for index in share {
                written.push(writing.write(&statements[index], index)?);
                meter.advance(counted)?;
            }
        }
        Ok(written)
    }
}

/// Division of the statements among `layers`: about as many tokens of targets each.
fn shares(statements: &[Statement], layers: usize) -> Vec<Range<usize>> {
    let tokens: usize = statements.iter().map(|statement| statement.written_tokens().len()).sum();
    let (mut end, mut before) = (0, 0);
    let share = |layer: usize| {
        let start = end;
        while end < statements.len() && (before * layers < tokens * (layer + 1) || layer + 1 == layers) {
            before += statements[end].written_tokens().len();
            end += 1;
        }
        start..end
    };
    (0..layers).map(share).collect()
}

/// State of writing statements into one layer.
struct Writing<'a> {
    composer: &'a Composer<'a>,
    statistics: &'a LayerStatistics,
    inputs: &'a [StatementInputs],
    /// Whitened inputs of the layer at the ends of texts.
    whitened: HashMap<&'a [u32], WhitenedInput>,
    /// Negatives of every statement, unless they are its own texts.
    shared_negatives: Vec<&'a [u32]>,
    /// Features to replace, the least important first.
    free: std::vec::IntoIter<usize>,
}

impl<'a> Writing<'a> {
    /// Prepares the statements whose numbers are in the range `own`.
    fn new(
        composer: &'a Composer<'a>,
        statistics: &'a LayerStatistics,
        (cache, inputs, own): (&ActivationCache<'_>, &'a [StatementInputs], Range<usize>),
        taken: &BTreeSet<(usize, usize)>,
    ) -> Writing<'a> {
        let LayerStatistics { layer, whitening, .. } = statistics;
        let mut shared_negatives = Vec::new();
        if !own.is_empty() {
            let mut known = HashSet::new();
            let shared = inputs.iter().flat_map(StatementInputs::shared_negatives);
            shared_negatives.extend(shared.filter(|text| known.insert(*text)));
        }
        let of_own = inputs[own].iter().flat_map(|inputs| inputs.positives(0).chain(inputs.negatives(0)));
        let whitened = cache.whitened(whitening, *layer, of_own.chain(shared_negatives.iter().copied()));
        let free = statistics.free_features(taken).into_iter();
        Writing { composer, statistics, inputs, whitened, shared_negatives, free }
    }

    /// Computes the features of the statement whose number is `index`.
    fn write(&mut self, statement: &Statement, index: usize) -> Result<Written, EditError> {
        let Composer { model, options, .. } = *self.composer;
        let LayerStatistics { layer, importance, .. } = self.statistics;
        let mut targets = EditTargets::new(model, *layer, statement)?;
        let before = targets.probabilities(model)?;
        let missing: Vec<usize> = match statement.goal {
            Goal::Learn => {
                let least = targets.min_by_token(&before);
                (0..least.len()).filter(|t| least[*t] < options.confidence).collect()
            }
            Goal::Unlearn { .. } => before.iter().any(|p| *p > FORGOTTEN).then_some(0).into_iter().collect(),
        };
        let probability = |probabilities: Vec<f32>| match statement.goal {
            Goal::Learn => probabilities.into_iter().fold(1.0, f32::min),
            Goal::Unlearn { .. } => probabilities.into_iter().fold(0.0, f32::max),
        };
        if missing.is_empty() {
            return Ok(Written { features: Vec::new(), probability: probability(before) });
        }
        let step = model.dense_step(*layer)?;
        let mut slots = Vec::with_capacity(missing.len());
        for token in &missing {
            let Some(feature) = self.free.next() else {
                return Err(EditError::NoFeatureLeft { layer: *layer, features: importance.len() });
            };
            slots.push(Slot::new(step, feature, &self.directions(&self.inputs[index], *token)));
        }
        let activations: Vec<Vec<f32>> =
            slots.iter().map(|slot| slot.activations(step, targets.input())).collect();
        let ComposeOptions { steps, confidence, greatest_norm } = options;
        let options = ValueOptions { steps, confidence, greatest_norm, shares: SHARES };
        let Optimised { downs, probabilities } = targets.optimise(model, &activations, &options)?;

        let downs = downs.chunks_exact(model.spec().hidden_size);
        let all: f32 = importance.iter().sum();
        let mut features = Vec::with_capacity(slots.len());
        for ((slot, down), token) in slots.into_iter().zip(downs).zip(missing) {
            let token = match statement.goal {
                Goal::Learn => statement.target[token],
                Goal::Unlearn { .. } => greedy(&model.logit_lens(down)?),
            };
            let tokens = Some(vec![TokenScore { token, score: model.head_product(token, down)? }]);
            let edited = EditedFeature {
                gate: Some(slot.gate.into()),
                up: slot.up.map(Into::into),
                down: Some(down.into()),
                tokens,
                ..EditedFeature::default()
            };
            let given_up = importance[slot.feature] / all;
            features.push(WrittenFeature { layer: *layer, feature: slot.feature, edited, given_up });
        }
        Ok(Written { features, probability: probability(probabilities) })
    }

    /// Fits the directions of the feature for a token of a statement.
    fn directions(&self, inputs: &StatementInputs, token: usize) -> Directions {
        let LayerStatistics { whitening, background, .. } = self.statistics;
        let whitened = |text: &[u32]| self.whitened.get(text);
        let positives: HashSet<&[u32]> = inputs.positives(token).collect();
        let own: HashSet<&[u32]> = inputs.negatives(token).collect();
        let shared = self.shared_negatives.iter();
        let shared = shared.filter(|text| !positives.contains(*text) && !own.contains(*text));
        let negatives = inputs.negatives(token).filter(|text| !positives.contains(text));
        let examples = Examples {
            positives: inputs.positives(token).filter_map(whitened).collect(),
            negatives: negatives.filter_map(whitened).collect(),
            background: background.iter().chain(shared.filter_map(|text| whitened(text))).collect(),
        };
        Directions {
            constant: gate::level(whitening, &examples.positives, 1.0),
            selective: gate::level(whitening, &examples.positives, 0.0),
            separating: gate::separating(whitening, examples),
        }
    }
}

/// Directions whose products with the layer's inputs are 1 for the positives of a feature.
struct Directions {
    /// The product is negative everywhere else.
    separating: Vec<f32>,
    /// The product is nearly 0 on background text.
    selective: Vec<f32>,
    /// The product is nearly 1 on background text too.
    constant: Vec<f32>,
}

/// Feature that is replaced, with its new gate and up rows.
struct Slot {
    feature: usize,
    gate: Vec<f32>,
    up: Option<Vec<f32>>,
    /// The biases of both rows, which no edit changes.
    biases: [f32; 2],
}

impl Slot {
    /// Scales the directions so that the activation is 1 where the feature activates fully. The gate separates, and the up
    /// row is selective, so that the false positives of the one are mostly rejected by the other: of 30 edges that SmolLM2
    /// 135M was to learn together, one background token in 140 activated a feature as much as a paraphrase that was not
    /// fitted, and one in 7 with a constant up row. The constant direction compensates the biases of the layer.
    fn new(step: DenseStep<'_>, feature: usize, directions: &Directions) -> Slot {
        let Directions { separating, selective, constant } = directions;
        let biases = step.biases(feature);
        let row = |factor: f32, direction: &[f32], bias: f32| {
            direction.iter().zip(constant).map(|(d, c)| factor * d - bias * c).collect()
        };
        let gate = row(STEEPNESS, separating, biases[0]);
        let up = step.is_gated().then(|| row(1.0 / STEEPNESS, selective, biases[1]));
        Slot { feature, gate, up, biases }
    }

    /// Activations of the feature for inputs `[tokens, hidden]`: `[tokens]`.
    fn activations(&self, step: DenseStep<'_>, inputs: &[f32]) -> Vec<f32> {
        let inputs = inputs.chunks_exact(self.gate.len());
        let mut activations: Vec<f32> = inputs.clone().map(|x| dot(&self.gate, x) + self.biases[0]).collect();
        step.activation().apply(&mut activations);
        if let Some(up) = &self.up {
            let ups: Vec<f32> = inputs.map(|x| dot(up, x) + self.biases[1]).collect();
            step.activation().multiply(&mut activations, &ups);
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
                goal: Goal::Learn,
            };
            lengths.iter().map(statement).collect()
        };
        assert_eq!(shares(&statements(&[1, 1, 2]), 1).first(), Some(&(0..3)));
        assert_eq!(shares(&statements(&[2, 2, 1, 1, 1, 1]), 2), [0..2, 2..6]);
        assert_eq!(shares(&statements(&[9, 1, 1]), 3), [0..1, 1..1, 1..3]);
        assert_eq!(shares(&[], 2), [0..0, 0..0]);
    }
}
