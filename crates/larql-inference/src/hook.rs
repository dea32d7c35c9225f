//! Named points of the forward pass at which it can be watched and steered.

/// A point of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// The layer, counted from 0.
    pub layer: usize,
    /// Where in the layer.
    pub stage: Stage,
}

/// A place in a layer; at each, values are `[tokens, hidden]` for the tokens of the pass, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The residual stream that enters the layer.
    LayerInput,
    /// What attention adds to the residual.
    AttentionOutput,
    /// The feed-forward input: the residual after the feed-forward norm.
    FeedForwardInput,
    /// In a mixture of experts, what each expert's output is multiplied by, `[tokens, experts]`: 0 for experts that
    /// are not chosen.
    ExpertWeights,
    /// What the feed-forward step adds to the residual.
    FeedForwardOutput,
    /// The residual stream that leaves the layer.
    LayerOutput,
}

/// Sees, and may change, the values at every point of a pass.
pub trait Hook {
    /// Called at each point in the order in which the pass meets them; [`Stage`] says what `values` are.
    fn at(&mut self, point: Point, values: &mut [f32]);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

impl Hook for NoHook {
    fn at(&mut self, _: Point, _: &mut [f32]) {}
}

/// Keeps a copy of the values at one stage of every layer.
#[derive(Clone, Debug)]
pub struct Record {
    stage: Stage,
    /// For each layer met so far the values of the stage.
    pub layers: Vec<Vec<f32>>,
}

impl Record {
    /// Records `stage` of every layer.
    pub fn new(stage: Stage) -> Record {
        Record { stage, layers: Vec::new() }
    }
}

impl Hook for Record {
    fn at(&mut self, point: Point, values: &mut [f32]) {
        if point.stage == self.stage {
            self.layers.push(values.to_vec());
        }
    }
}
