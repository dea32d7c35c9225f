//! Points of a pass, and sets of them.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A point of the forward pass.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// The residual stream that enters the first layer, `[rows, hidden]`.
    Embedding,
    /// A point in a layer, counted from 0.
    Layer {
        /// The layer.
        layer: usize,
        /// The place in the layer.
        stage: Stage,
    },
    /// The last layer's output after the final norm, `[rows asked for, hidden]`.
    FinalNorm,
    /// The logits, `[rows asked for, vocab]`.
    Logits,
}

/// A place in a layer. Values are `[rows, hidden]` unless it says otherwise.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Stage {
    /// The residual stream that enters the layer.
    LayerInput,
    /// The attention input: the residual after the attention norm. In a parallel layer it is the feed-forward input too.
    AttentionInput,
    /// Queries after their norm and rotation, `[rows, heads * head_dim]`.
    Queries,
    /// The layer's own keys after their norm and rotation, `[rows, kv_heads * head_dim]`. A layer that borrows the keys
    /// and values of another has no such point.
    Keys,
    /// The layer's own values, `[rows, kv_heads * value_dim]`.
    Values,
    /// Attention weights: for one sequence after the other `[tokens, heads, positions]`, see
    /// [`Rows::patterns`](crate::Rows::patterns).
    AttentionPattern,
    /// The output of each head before the output projection, `[rows, heads * value_dim]`.
    HeadOutputs,
    /// Output of attention, which is added to the residual.
    AttentionOutput,
    /// The feed-forward input: the residual after the feed-forward norm.
    FeedForwardInput,
    /// In a mixture of experts, the factor of each expert's output, `[rows, experts]`: 0 for experts that are not chosen.
    /// Other layers have no such point.
    ExpertWeights,
    /// `act(gate) * up` of every feature, in a mixture times the weight of its expert: `[rows, features]`.
    FeatureActivations,
    /// Output of the feed-forward step, which is added to the residual.
    FeedForwardOutput,
    /// The residual stream that leaves the layer.
    LayerOutput,
}

impl Stage {
    /// All stages, in the order in which a pass meets them in a layer.
    pub const ALL: [Stage; 13] = [
        Stage::LayerInput,
        Stage::AttentionInput,
        Stage::Queries,
        Stage::Keys,
        Stage::Values,
        Stage::AttentionPattern,
        Stage::HeadOutputs,
        Stage::AttentionOutput,
        Stage::FeedForwardInput,
        Stage::ExpertWeights,
        Stage::FeatureActivations,
        Stage::FeedForwardOutput,
        Stage::LayerOutput,
    ];

    fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl Point {
    /// The layer, if the point is in one.
    pub fn layer(self) -> Option<usize> {
        match self {
            Point::Layer { layer, .. } => Some(layer),
            _ => None,
        }
    }

    /// The place in a layer, if the point is in one.
    pub fn stage(self) -> Option<Stage> {
        match self {
            Point::Layer { stage, .. } => Some(stage),
            _ => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Embedding => write!(f, "the embedding"),
            Point::Layer { layer, stage } => write!(f, "{stage:?} of layer {layer}"),
            Point::FinalNorm => write!(f, "the final norm"),
            Point::Logits => write!(f, "the logits"),
        }
    }
}

/// A set of points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PointSet {
    /// Stages of all layers.
    all_layers: u16,
    /// Stages of some layers.
    layers: Vec<(Range<usize>, u16)>,
    embedding: bool,
    final_norm: bool,
    logits: bool,
}

impl PointSet {
    /// Every point of a pass.
    pub fn all() -> PointSet {
        let everywhere = PointSet::stages(Stage::ALL);
        everywhere.with(Point::Embedding).with(Point::FinalNorm).with(Point::Logits)
    }

    /// Some stages of every layer.
    pub fn stages(stages: impl IntoIterator<Item = Stage>) -> PointSet {
        PointSet { all_layers: bits(stages), ..PointSet::default() }
    }

    /// Some stages of some layers.
    pub fn stages_of(layers: Range<usize>, stages: impl IntoIterator<Item = Stage>) -> PointSet {
        PointSet { layers: vec![(layers, bits(stages))], ..PointSet::default() }
    }

    /// The set and one more point.
    #[must_use]
    pub fn with(mut self, point: Point) -> PointSet {
        match point {
            Point::Embedding => self.embedding = true,
            Point::Layer { layer, stage } => self.layers.push((layer..layer + 1, stage.bit())),
            Point::FinalNorm => self.final_norm = true,
            Point::Logits => self.logits = true,
        }
        self
    }

    /// The points of both sets.
    #[must_use]
    pub fn union(mut self, other: PointSet) -> PointSet {
        self.all_layers |= other.all_layers;
        self.layers.extend(other.layers);
        self.embedding |= other.embedding;
        self.final_norm |= other.final_norm;
        self.logits |= other.logits;
        self
    }

    /// Returns true if the set has this point.
    pub fn contains(&self, point: Point) -> bool {
        match point {
            Point::Embedding => self.embedding,
            Point::Layer { layer, stage } => {
                let of_layer = |(layers, stages): &(Range<usize>, u16)| {
                    layers.contains(&layer) && stages & stage.bit() != 0
                };
                self.all_layers & stage.bit() != 0 || self.layers.iter().any(of_layer)
            }
            Point::FinalNorm => self.final_norm,
            Point::Logits => self.logits,
        }
    }
}

impl FromIterator<Point> for PointSet {
    fn from_iter<I: IntoIterator<Item = Point>>(points: I) -> PointSet {
        points.into_iter().fold(PointSet::default(), PointSet::with)
    }
}

fn bits(stages: impl IntoIterator<Item = Stage>) -> u16 {
    stages.into_iter().fold(0, |bits, stage| bits | stage.bit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_points_that_it_was_made_of() {
        let at = |layer, stage| Point::Layer { layer, stage };
        let some = PointSet::stages([Stage::Queries]).union(PointSet::stages_of(2..4, [Stage::Keys]));
        let some = some.with(Point::Logits).with(at(9, Stage::LayerOutput));
        for layer in 0..12 {
            assert!(some.contains(at(layer, Stage::Queries)));
            assert_eq!(some.contains(at(layer, Stage::Keys)), (2..4).contains(&layer));
            assert_eq!(some.contains(at(layer, Stage::LayerOutput)), layer == 9);
        }
        assert!(some.contains(Point::Logits) && !some.contains(Point::Embedding));
        let points = [Point::Embedding, Point::FinalNorm, Point::Logits];
        let points = points.into_iter().chain(Stage::ALL.map(|stage| at(7, stage)));
        assert!(points.clone().all(|point| PointSet::all().contains(point)));
        assert!(!points.clone().any(|point| PointSet::default().contains(point)));
        assert!(points.clone().all(|point| points.clone().collect::<PointSet>().contains(point)));
    }
}
