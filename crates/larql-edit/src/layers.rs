//! Choice of the layers that facts are written to.

use larql_inference::Model;

use crate::error::EditError;
use crate::statement::Statement;

/// Share of a layer's features that statements may take before they are spread over more layers. Giving up features that
/// matter least costs little: of a layer of Gemma 3 270M two thirds cost an unrelated text 2 %. What statements in a
/// lower layer write changes what a higher one reads, which sets off its features.
const GREATEST_SHARE: f32 = 0.75;

/// Layers that statements are written to: `layer`, and as many below it, but not in the lower half, as are needed so that
/// none gives up more than three quarters of its features.
pub fn layers_for(model: &Model, layer: usize, statements: &[Statement]) -> Vec<usize> {
    let needed: usize = statements.iter().map(|statement| statement.written_tokens().len()).sum();
    let features = model.spec().layers.get(layer).map_or(0, |layer| layer.feed_forward.features());
    let of_layer = ((features as f32 * GREATEST_SHARE) as usize).max(1);
    let layers = needed.div_ceil(of_layer).clamp(1, layer / 2 + 1);
    (0..layers).map(|below| layer - below).collect()
}

/// Edit layer that depends on the model's shape alone: late, where the last token carries the subject and the relation, so
/// that one direction distinguishes a fact from its neighbourhood, and with layers left to act on what is written.
///
/// Where a norm follows the feed-forward step, what a layer can add is bounded, and more layers are left to it: on Gemma 3
/// 270M, ten edges together change the bits per byte of unrelated text by 0.4 % from layer 12 of 18 and by 2.2 % from 15.
pub fn default_layer(model: &Model) -> usize {
    let layers = model.spec().layers.len();
    let normed = model.spec().layers.last().is_some_and(|layer| layer.post_feed_forward_norm.is_some());
    let layer = if normed { layers * 2 / 3 } else { layers * 17 / 20 };
    layer.min(layers.saturating_sub(2))
}

/// Checks that features can be written into a layer.
///
/// # Errors
/// [`EditError::Gradient`] with the first part of the model that the backward pass does not cover.
pub fn check_composable(model: &Model, layer: usize) -> Result<(), EditError> {
    model.dense_step(layer)?;
    Ok(model.check_differentiable(layer + 1)?)
}
