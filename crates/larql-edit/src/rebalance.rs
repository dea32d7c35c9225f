//! Rebalancing: scales the down vectors of written features until the probabilities of their targets lie in a range.

use std::ops::RangeInclusive;
use std::sync::Arc;

use larql_compute::Precision;
use larql_inference::{Model, score_text};
use larql_vindex::{FeatureEdit, FeatureEdits};

use crate::error::EditError;

/// A target that features carry, and how it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// The question, as tokens.
    pub prompt: Vec<u32>,
    /// The answer: at least one token.
    pub target: Vec<u32>,
    /// Layer and number of its features.
    pub features: Vec<(usize, usize)>,
}

/// Result of rebalancing a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// The least probability of a token of the target before.
    pub before: f32,
    /// The same afterwards.
    pub after: f32,
    /// Factor of its features' down vectors.
    pub scale: f32,
}

/// Options of rebalancing.
#[derive(Clone, Debug, PartialEq)]
pub struct RebalanceOptions {
    /// The range that probabilities are to lie in.
    pub range: RangeInclusive<f32>,
    /// Greatest number of rounds; none for as many as change something.
    pub rounds: Option<usize>,
}

/// Features are not scaled beyond this: what they write would drown the rest of the residual.
const GREATEST_SCALE: f32 = 8.0;

/// A change of scale that changes nothing.
const NEGLIGIBLE: f32 = 1e-3;

/// Scales what the features of all targets write, together, until each target's probability lies in the range or nothing
/// changes any more. Each round asks the model with all scales so far; a scale whose probability is known on both sides
/// of the range is halved towards it. Returns what became of each target, and the number of rounds.
///
/// # Errors
/// If a prompt or target is empty or of another model, or an edit does not fit the model.
pub fn rebalance(
    model: &Model,
    edits: &mut FeatureEdits,
    carried: &[Carried],
    options: &RebalanceOptions,
) -> Result<(Vec<Balance>, usize), EditError> {
    let unscaled = edits.clone();
    let mut searches = vec![Search::default(); carried.len()];
    let mut before = Vec::new();
    for round in 0.. {
        let probabilities = target_probabilities(&model.edited(edits)?, carried)?;
        if round == 0 {
            before.clone_from(&probabilities);
        }
        let done = options.rounds.is_some_and(|most| round >= most);
        let moved = probabilities.iter().zip(&mut searches).filter_map(|(probability, search)| {
            (!done && search.step(*probability, &options.range)).then_some(())
        });
        if moved.count() == 0 {
            let balances = before.into_iter().zip(probabilities).zip(searches);
            let balance = |((before, after), search): ((f32, f32), Search)| Balance {
                before,
                after,
                scale: search.scale,
            };
            return Ok((balances.map(balance).collect(), round));
        }
        for (carried, search) in carried.iter().zip(&searches) {
            scale(&unscaled, edits, &carried.features, search.scale);
        }
    }
    unreachable!("every scale stops moving once its bounds meet")
}

/// The scale of one target's features on its way.
#[derive(Clone, Copy, Debug)]
struct Search {
    scale: f32,
    /// The greatest scale that was too small, and the least that was too great.
    bounds: (f32, f32),
}

impl Default for Search {
    fn default() -> Self {
        Search { scale: 1.0, bounds: (0.0, f32::INFINITY) }
    }
}

impl Search {
    /// Moves the scale if the probability that it brings is outside the range; whether it did.
    fn step(&mut self, probability: f32, range: &RangeInclusive<f32>) -> bool {
        let (low, high) = &mut self.bounds;
        if probability < *range.start() {
            *low = self.scale;
        } else if probability > *range.end() {
            *high = self.scale;
        } else {
            return false;
        }
        // Other targets' scales move too, so that what was too great before may be too small now.
        if *low >= *high {
            return false;
        }
        let next = if high.is_finite() { (*low + *high) / 2.0 } else { (*low * 1.5).min(GREATEST_SCALE) };
        let moved = (next - self.scale).abs() > NEGLIGIBLE;
        if moved {
            self.scale = next;
        }
        moved
    }
}

/// Has features write what they wrote in `unscaled`, times a scale.
fn scale(unscaled: &FeatureEdits, edits: &mut FeatureEdits, features: &[(usize, usize)], scale: f32) {
    for (layer, feature) in features {
        let Some(FeatureEdit::Changed(edited)) = unscaled.get(*layer, *feature) else { continue };
        let mut edited = edited.clone();
        let scaled = |down: Arc<[f32]>| down.iter().map(|value| value * scale).collect();
        edited.down = edited.down.map(scaled);
        edits.set(*layer, *feature, FeatureEdit::Changed(edited));
    }
}

/// For each target the least probability of its tokens after its question.
///
/// # Errors
/// If a prompt or target is empty or of another model.
pub fn target_probabilities(model: &Model, carried: &[Carried]) -> Result<Vec<f32>, EditError> {
    let least = |Carried { prompt, target, .. }: &Carried| {
        if prompt.is_empty() || target.is_empty() {
            let (found, expected) = ("an empty prompt or target", "tokens in both");
            return Err(EditError::IncompleteStatement { found, expected });
        }
        let score = score_text(model, &[&prompt[..], target].concat(), Precision::Exact)?;
        let of_target = score.token_nats[prompt.len() - 1..].iter().copied();
        Ok((-of_target.fold(0.0, f64::max)).exp() as f32)
    };
    carried.iter().map(least).collect()
}
