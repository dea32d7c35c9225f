//! Optimisation of the down vectors of written features by gradients through the layers above: towards the target, or, to
//! unlearn it, towards the predictions about entities that the model does not know.

use std::collections::BTreeSet;

use larql_compute::activation;
use larql_compute::vector::{axpy, norm};
use larql_inference::{
    Hook, HookError, KeyValueCache, Model, Point, PointSet, RecordedForward, Rows, Sequence, SequenceState,
    Stage,
};

use crate::error::EditError;
use crate::statement::{Goal, Statement};

/// Options of the optimisation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueOptions {
    /// Greatest number of steps.
    pub(crate) steps: usize,
    /// Score that each token of the target is to reach after every prompt.
    pub(crate) confidence: f32,
    /// Greatest norm of a down vector, where that of the residual is 1.
    pub(crate) greatest_norm: Option<f32>,
    /// Factors of the features' activations, in turn: paraphrases that were not fitted activate them less.
    pub(crate) shares: [f32; 3],
}

/// Prompts of one fact with its target, run up to the layer that is edited. Every evaluation runs the layers above it, on
/// the last token of each prompt and on the tokens of the target.
///
/// A position is a prompt and a token of the target, `[prompts, target]`: where that token is to be predicted, or to be
/// predicted no more.
pub(crate) struct EditTargets {
    layer: usize,
    target: Vec<u32>,
    desired: Desired,
    /// A prompt's last token and all but the last one of the target, and a cache of what comes before.
    sequences: Vec<(KeyValueCache, Vec<u32>)>,
    /// The residual before the layer's feed-forward step, `[positions, hidden]`.
    middle: Vec<f32>,
    /// The step's input, `[positions, hidden]`.
    input: Vec<f32>,
    /// The step's output before its norm, `[positions, hidden]`.
    output: Vec<f32>,
    /// The likeliest tokens at the positions when all tokens were last looked at.
    likely: BTreeSet<u32>,
}

/// Predictions that are wanted at the positions. A score from 0 to 1 says how far they are reached.
enum Desired {
    /// The target's token; the score is its probability.
    Target,
    /// Distributions over all tokens, one for each position; the score is the probability that both have in common.
    Distributions(Vec<Vec<f32>>),
}

/// Predictions at the positions and their gradient.
struct Evaluation {
    /// Probabilities of the target's tokens, `[positions]`.
    probabilities: Vec<f32>,
    /// Scores, `[positions]`.
    scores: Vec<f32>,
    /// Gradient of the mean log-likelihood of what is desired, `[positions, hidden]`; empty if it was not asked for.
    gradient: Vec<f32>,
}

/// Result of the optimisation.
pub(crate) struct Optimised {
    /// Down vectors, `[features, hidden]`.
    pub(crate) downs: Vec<f32>,
    /// Probabilities of the target's tokens with them, `[positions]`.
    pub(crate) probabilities: Vec<f32>,
}

impl EditTargets {
    /// Runs the first prompts of a statement, of which nothing is empty.
    pub(crate) fn new(model: &Model, layer: usize, statement: &Statement) -> Result<EditTargets, EditError> {
        let optimised = match &statement.goal {
            Goal::Learn => Goal::PROMPTS,
            Goal::Unlearn { stand_ins } => stand_ins.len(),
        };
        let prompts = &statement.prompts[..optimised.min(statement.prompts.len())];
        let target = statement.written_tokens();
        let (mut likely, mut desired) = (target.iter().copied().collect::<BTreeSet<_>>(), Desired::Target);
        if let Goal::Unlearn { stand_ins } = &statement.goal {
            let predictions = stand_ins.iter().map(|prompts| mean_prediction(model, prompts, target));
            let predictions = predictions.collect::<Result<Vec<_>, _>>()?;
            likely.extend(predictions.iter().flat_map(|row| likeliest(row)));
            desired = Desired::Distributions(predictions);
        }
        let step = model.dense_step(layer)?;
        let mut sequences = Vec::with_capacity(prompts.len());
        let mut beginnings = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let (last, before) = prompt.split_last().ok_or(EditError::IncompleteStatement {
                found: "an empty prompt",
                expected: "prompts with tokens",
            })?;
            beginnings.push(before);
            let tokens = [&[*last], &target[..target.len() - 1]].concat();
            sequences.push((KeyValueCache::new(model.spec()), tokens));
        }
        let before = sequences.iter_mut().zip(beginnings).filter(|(_, before)| !before.is_empty());
        let mut before: Vec<Sequence<'_>> =
            before.map(|((cache, _), tokens)| Sequence::new(cache, tokens)).collect();
        model.pass().residual(&mut before)?;

        let mut hook = Capture { layer, ..Capture::default() };
        model.pass().with_hook(&mut hook).residual_below(layer + 1, &mut borrow(&mut sequences))?;
        let Capture { mut middle, attention, input, .. } = hook;
        axpy(1.0, &attention, &mut middle);
        let output = step.forward(&input);
        Ok(EditTargets { layer, target: target.to_vec(), desired, sequences, middle, input, output, likely })
    }

    /// The feed-forward inputs, `[positions, hidden]`.
    pub(crate) fn input(&self) -> &[f32] {
        &self.input
    }

    /// Probabilities of the target's tokens as the model is, `[positions]`.
    pub(crate) fn probabilities(&mut self, model: &Model) -> Result<Vec<f32>, EditError> {
        let nothing = vec![0.0; self.middle.len()];
        Ok(self.evaluate(model, None, &nothing, false)?.probabilities)
    }

    /// Least value of each token of the target, `[target]`, of values `[positions]`.
    pub(crate) fn min_by_token(&self, values: &[f32]) -> Vec<f32> {
        let count = self.target.len();
        let of_token = |token: usize| values[token..].iter().step_by(count).copied();
        (0..count).map(|token| of_token(token).fold(f32::INFINITY, f32::min)).collect()
    }

    /// Optimises the down vectors of features with these `activations`, `[positions]` each.
    pub(crate) fn optimise(
        &mut self,
        model: &Model,
        activations: &[Vec<f32>],
        options: &ValueOptions,
    ) -> Result<Optimised, EditError> {
        let hidden = model.spec().hidden_size;
        let share = |position: usize| options.shares[position / self.target.len() % options.shares.len()];
        let activations: Vec<Vec<f32>> = activations
            .iter()
            .map(|feature| feature.iter().enumerate().map(|(p, activation)| activation * share(p)).collect())
            .collect();
        let mut written = vec![0.0; activations.len() * hidden];
        // A norm on the step's output makes of what is added a share of that.
        let normed = model.spec().layers[self.layer].post_feed_forward_norm.is_some();
        let beside = if normed { &self.output } else { &self.middle };
        let mut ascent = Ascent::new(written.len(), STEP * median_magnitude(beside));
        let mut shortlist = Shortlist::new(model, &self.likely)?;
        for step in 0.. {
            let mut added = vec![0.0; self.middle.len()];
            for (activations, written) in activations.iter().zip(written.chunks_exact(hidden)) {
                for (added, activation) in added.chunks_exact_mut(hidden).zip(activations) {
                    axpy(*activation, written, added);
                }
            }
            let mut evaluation = self.evaluate(model, Some(&shortlist), &added, true)?;
            let done = |scores: &[f32]| scores.iter().all(|score| *score >= options.confidence);
            if step >= options.steps || done(&evaluation.scores) {
                // What is likely now may not have been before.
                let known = self.likely.len();
                evaluation = self.evaluate(model, None, &added, true)?;
                if step >= options.steps || done(&evaluation.scores) {
                    return Ok(Optimised { downs: written, probabilities: evaluation.probabilities });
                }
                if self.likely.len() > known {
                    shortlist = Shortlist::new(model, &self.likely)?;
                }
            }
            let mut gradient = vec![0.0; written.len()];
            for (activations, gradient) in activations.iter().zip(gradient.chunks_exact_mut(hidden)) {
                for (of_position, activation) in evaluation.gradient.chunks_exact(hidden).zip(activations) {
                    axpy(*activation, of_position, gradient);
                }
            }
            ascent.step(&mut written, &gradient);
            if let Some(greatest) = options.greatest_norm {
                let residuals = self.middle.len() as f32 / hidden as f32;
                let limit = greatest * norm(&self.middle) / residuals.sqrt();
                for written in written.chunks_exact_mut(hidden) {
                    let factor = (limit / norm(written).max(f32::MIN_POSITIVE)).min(1.0);
                    written.iter_mut().for_each(|w| *w *= factor);
                }
            }
        }
        unreachable!("the loop returns after the last step")
    }

    /// Runs the layers above with `added`, `[positions, hidden]`, in the step's output; computes the gradient with respect
    /// to it with `backward`.
    ///
    /// Probabilities are among the tokens of the shortlist, or among all tokens, the likeliest of which are kept.
    fn evaluate(
        &mut self,
        model: &Model,
        shortlist: Option<&Shortlist>,
        added: &[f32],
        backward: bool,
    ) -> Result<Evaluation, EditError> {
        let mut output = self.output.clone();
        axpy(1.0, added, &mut output);
        let residual = model.finish_feed_forward(self.layer, &self.middle, &output);

        let prompts = self.sequences.len();
        let mut sequences = borrow(&mut self.sequences);
        let run = RecordedForward::new(model, self.layer + 1, residual, &mut sequences)?;
        let head = shortlist.map_or(model, |shortlist| &shortlist.model);
        let places: Vec<usize> = match shortlist {
            Some(shortlist) => self.target.iter().map(|token| shortlist.place(*token)).collect(),
            None => self.target.iter().map(|token| *token as usize).collect(),
        };
        let logits = head.logit_lens(&run.output)?;
        let vocabulary = logits.len() / (prompts * self.target.len());
        let mut probabilities = Vec::with_capacity(prompts * self.target.len());
        let mut scores = Vec::with_capacity(probabilities.capacity());
        let mut of_logits = logits.clone();
        let weight = 1.0 / (prompts * self.target.len()) as f32;
        let rows = of_logits.chunks_exact_mut(vocabulary).zip(places.iter().cycle());
        for (position, (row, place)) in rows.enumerate() {
            activation::softmax(row);
            probabilities.push(row[*place]);
            if shortlist.is_none() {
                self.likely.extend(likeliest(row));
            }
            let wanted = match (&self.desired, shortlist) {
                (Desired::Target, _) => None,
                (Desired::Distributions(rows), None) => Some(rows[position].clone()),
                (Desired::Distributions(rows), Some(shortlist)) => Some(shortlist.share(&rows[position])),
            };
            let in_common = |wanted: &Vec<f32>| wanted.iter().zip(&*row).map(|(q, p)| q.min(*p)).sum();
            scores.push(wanted.as_ref().map_or(row[*place], in_common));
            row.iter_mut().for_each(|p| *p = if *p < NEGLIGIBLE { 0.0 } else { -*p * weight });
            match wanted {
                Some(wanted) => axpy(weight, &wanted, row),
                None => row[*place] += weight,
            }
        }
        let mut gradient = Vec::new();
        if backward {
            let of_output = head.logits_gradient(&run.output, &logits, of_logits)?;
            gradient = run.gradient(model, &sequences, of_output);
            model.finish_feed_forward_gradient(self.layer, &output, &mut gradient);
        }
        self.sequences.iter_mut().for_each(|(cache, _)| cache.rollback());
        Ok(Evaluation { probabilities, scores, gradient })
    }
}

/// Mean prediction after some prompts without a target's first token, `[vocabulary]`.
fn mean_prediction(model: &Model, prompts: &[Vec<u32>], target: &[u32]) -> Result<Vec<f32>, EditError> {
    let mut caches: Vec<_> = prompts.iter().map(|_| KeyValueCache::new(model.spec())).collect();
    let mut sequences: Vec<Sequence<'_>> =
        prompts.iter().zip(&mut caches).map(|(tokens, cache)| Sequence::new(cache, tokens)).collect();
    let mut logits = model.pass().run(&mut sequences)?.into_values();
    let mut mean = vec![0.0; model.spec().vocab_size];
    for row in logits.chunks_exact_mut(mean.len()) {
        activation::softmax(row);
        axpy(1.0, row, &mut mean);
    }
    if let Some(first) = target.first() {
        mean[*first as usize] = 0.0;
    }
    normalise_sum(&mut mean);
    Ok(mean)
}

/// Scales values so that their sum is 1.
fn normalise_sum(values: &mut [f32]) {
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum.max(f32::MIN_POSITIVE));
}

/// Model with an output head of some tokens alone: where the head is most of a model, evaluating all tokens takes ten times
/// as long.
struct Shortlist {
    model: Model,
    /// Ascending.
    tokens: Vec<u32>,
}

impl Shortlist {
    fn new(model: &Model, tokens: &BTreeSet<u32>) -> Result<Shortlist, EditError> {
        let tokens: Vec<u32> = tokens.iter().copied().collect();
        Ok(Shortlist { model: model.with_head_of(&tokens)?, tokens })
    }

    /// Probabilities of the tokens of the list, of those of all tokens; their sum is 1.
    fn share(&self, probabilities: &[f32]) -> Vec<f32> {
        let mut share: Vec<f32> = self.tokens.iter().map(|token| probabilities[*token as usize]).collect();
        normalise_sum(&mut share);
        share
    }

    /// Row of a token of the list.
    fn place(&self, token: u32) -> usize {
        self.tokens.partition_point(|listed| *listed < token)
    }
}

/// Tokens that are kept of each position.
const LIKELIEST: usize = 256;

/// The likeliest tokens, in no order.
fn likeliest(probabilities: &[f32]) -> Vec<u32> {
    let mut tokens: Vec<u32> =
        (0..).zip(probabilities).filter(|(_, p)| **p >= NEGLIGIBLE).map(|(t, _)| t).collect();
    if tokens.len() > LIKELIEST {
        let order = |a: &u32, b: &u32| probabilities[*b as usize].total_cmp(&probabilities[*a as usize]);
        tokens.select_nth_unstable_by(LIKELIEST, order);
        tokens.truncate(LIKELIEST);
    }
    tokens
}

/// Step size, as a share of the median magnitude of the residual.
const STEP: f32 = 0.3;

/// Tokens less likely than this get no gradient: there are many, and together they count for nothing.
const NEGLIGIBLE: f32 = 1e-6;

/// Median magnitude: a few values are often a hundred times as large, which the mean would follow.
fn median_magnitude(values: &[f32]) -> f32 {
    let mut sizes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
    sizes.sort_by(f32::total_cmp);
    sizes.get(sizes.len() / 2).copied().unwrap_or(0.0)
}

fn borrow(sequences: &mut [(KeyValueCache, Vec<u32>)]) -> Vec<Sequence<'_>> {
    sequences.iter_mut().map(|(cache, tokens)| Sequence::new(cache, tokens)).collect()
}

/// Hook that keeps a layer's input, attention output and feed-forward input.
#[derive(Default)]
struct Capture {
    layer: usize,
    middle: Vec<f32>,
    attention: Vec<f32>,
    input: Vec<f32>,
}

impl Hook for Capture {
    fn points(&self) -> PointSet {
        let stages = [Stage::LayerInput, Stage::AttentionOutput, Stage::FeedForwardInput];
        PointSet::stages_of(self.layer..self.layer + 1, stages)
    }

    fn at(&mut self, point: Point, _: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        match point.stage() {
            Some(Stage::LayerInput) => self.middle = values.to_vec(),
            Some(Stage::AttentionOutput) => self.attention = values.to_vec(),
            _ => self.input = values.to_vec(),
        }
        Ok(())
    }
}

/// Gradient ascent by Adam (arXiv 1412.6980).
struct Ascent {
    size: f32,
    steps: i32,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Ascent {
    fn new(width: usize, size: f32) -> Ascent {
        Ascent { size, steps: 0, mean: vec![0.0; width], square: vec![0.0; width] }
    }

    fn step(&mut self, x: &mut [f32], gradient: &[f32]) {
        const KEPT_MEAN: f32 = 0.9;
        const KEPT_SQUARE: f32 = 0.99;
        self.steps += 1;
        let mean_share = 1.0 - KEPT_MEAN.powi(self.steps);
        let square_share = 1.0 - KEPT_SQUARE.powi(self.steps);
        for (((x, g), mean), square) in x.iter_mut().zip(gradient).zip(&mut self.mean).zip(&mut self.square) {
            *mean = KEPT_MEAN * *mean + (1.0 - KEPT_MEAN) * g;
            *square = KEPT_SQUARE * *square + (1.0 - KEPT_SQUARE) * g * g;
            *x += self.size * (*mean / mean_share) / ((*square / square_share).sqrt() + f32::MIN_POSITIVE);
        }
    }
}
