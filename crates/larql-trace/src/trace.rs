//! Recording: the residual stream at some positions of one prompt, layer by layer.

use larql_inference::{
    Hook, HookError, KeyValueCache, LogitsFor, Model, Point, PointSet, Rows, Sequence, Stage,
};

use crate::TraceError;

/// Positions of a prompt to trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// The last token.
    #[default]
    Last,
    /// Every token.
    All,
    /// Some tokens, counted from 0, in the order that they are to be returned in.
    Some(Vec<usize>),
}

impl Positions {
    /// The positions in a prompt of `tokens` tokens.
    fn resolve(&self, tokens: usize) -> Result<Vec<usize>, TraceError> {
        match self {
            Positions::Last => Ok(tokens.checked_sub(1).into_iter().collect()),
            Positions::All => Ok((0..tokens).collect()),
            Positions::Some(positions) => match positions.iter().find(|position| **position >= tokens) {
                Some(position) => Err(TraceError::NoSuchPosition { position: *position, tokens }),
                None => Ok(positions.clone()),
            },
        }
    }
}

/// Vector of a waypoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The residual after the layer; at waypoint 0, the scaled embedding.
    Residual,
    /// Attention's addition to the residual.
    AttentionDelta,
    /// The rest of the layer's change: residual after the layer − residual after attention.
    FeedForwardDelta,
}

impl Component {
    /// All components, in the order in which they are stored.
    pub const ALL: [Component; 3] =
        [Component::Residual, Component::AttentionDelta, Component::FeedForwardDelta];
}

/// Residual stream at some positions of a prompt.
///
/// Waypoint 0 is the embedding, waypoint `l + 1` is layer `l`. At each waypoint, residual = residual of the waypoint before
/// + attention delta + feed-forward delta, up to rounding. The deltas of waypoint 0 are zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    tokens: Vec<u32>,
    positions: Vec<usize>,
    layers: usize,
    hidden: usize,
    /// `[positions, layers + 1, components, hidden]`
    values: Vec<f32>,
    /// `[vocab]`
    last_logits: Vec<f32>,
}

impl Trace {
    /// Runs `tokens` through the model and records the stream at the positions. The model's edits show in it.
    ///
    /// # Errors
    /// If a position is outside the prompt, or the pass fails.
    pub fn record(model: &Model, tokens: &[u32], positions: &Positions) -> Result<Trace, TraceError> {
        Trace::record_with(model, tokens, positions, None)
    }

    /// Records a pass that `hook` watches or changes as well. The trace has the values after the hook changed them.
    ///
    /// # Errors
    /// As [`Trace::record`], and if the hook fails.
    pub fn record_with(
        model: &Model,
        tokens: &[u32],
        positions: &Positions,
        hook: Option<&mut dyn Hook>,
    ) -> Result<Trace, TraceError> {
        let (layers, hidden) = (model.spec().layers.len(), model.spec().hidden_size);
        let positions = positions.resolve(tokens.len())?;
        let values = vec![0.0; positions.len() * (layers + 1) * Component::ALL.len() * hidden];
        let mut trace =
            Trace { tokens: tokens.to_vec(), positions, layers, hidden, values, last_logits: Vec::new() };
        let mut recorder = Recorder { trace: &mut trace, inner: hook };
        let mut state = KeyValueCache::new(model.spec());
        let sequence = Sequence { logits: LogitsFor::LastToken, ..Sequence::new(&mut state, tokens) };
        let logits = model.pass().with_hook(&mut recorder).run(&mut [sequence])?;
        trace.last_logits = logits.into_values();
        Ok(trace)
    }

    /// Tokens of the prompt.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The traced positions.
    pub fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Number of layers; there is one waypoint more.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Width of the residual stream.
    pub fn hidden_size(&self) -> usize {
        self.hidden
    }

    /// Logits after the last token, `[vocab]`.
    pub fn last_logits(&self) -> &[f32] {
        &self.last_logits
    }

    /// The stream at the traced position whose number in [`Trace::positions`] is `index`.
    ///
    /// # Panics
    /// If fewer positions were traced.
    pub fn position(&self, index: usize) -> TracedPosition<'_> {
        let length = (self.layers + 1) * Component::ALL.len() * self.hidden;
        TracedPosition { values: &self.values[index * length..][..length], hidden: self.hidden }
    }

    fn vector_mut(&mut self, index: usize, waypoint: usize, component: Component) -> &mut [f32] {
        let waypoint = index * (self.layers + 1) + waypoint;
        let start = (waypoint * Component::ALL.len() + component as usize) * self.hidden;
        &mut self.values[start..start + self.hidden]
    }
}

/// Stream at one position: a chain of waypoints.
#[derive(Clone, Copy, Debug)]
pub struct TracedPosition<'a> {
    /// `[layers + 1, components, hidden]`
    values: &'a [f32],
    hidden: usize,
}

impl<'a> TracedPosition<'a> {
    /// The chain as it is stored, `[layers + 1, components, hidden]` with the components of [`Component::ALL`].
    pub fn chain(&self) -> &'a [f32] {
        self.values
    }

    /// A vector of a waypoint, `[hidden]`; waypoint 0 is the embedding.
    ///
    /// # Panics
    /// If there is no such waypoint, as in all methods that take one.
    pub fn vector(&self, waypoint: usize, component: Component) -> &'a [f32] {
        let start = (waypoint * Component::ALL.len() + component as usize) * self.hidden;
        &self.values[start..start + self.hidden]
    }

    /// The residual after a waypoint, `[hidden]`.
    pub fn residual(&self, waypoint: usize) -> &'a [f32] {
        self.vector(waypoint, Component::Residual)
    }

    /// Attention's addition at a waypoint, `[hidden]`.
    pub fn attention_delta(&self, waypoint: usize) -> &'a [f32] {
        self.vector(waypoint, Component::AttentionDelta)
    }

    /// The rest of the layer's change at a waypoint, `[hidden]`.
    pub fn feed_forward_delta(&self, waypoint: usize) -> &'a [f32] {
        self.vector(waypoint, Component::FeedForwardDelta)
    }
}

/// Hook that fills a trace, after another hook where there is one.
struct Recorder<'a, 'h> {
    trace: &'a mut Trace,
    inner: Option<&'h mut dyn Hook>,
}

impl Recorder<'_, '_> {
    fn record(&mut self, point: Point, values: &[f32]) {
        let Point::Layer { layer, stage } = point else { return };
        let hidden = self.trace.hidden;
        for index in 0..self.trace.positions.len() {
            let row = &values[self.trace.positions[index] * hidden..][..hidden];
            let mut copy = |waypoint, component| {
                self.trace.vector_mut(index, waypoint, component).copy_from_slice(row);
            };
            match stage {
                Stage::LayerInput => copy(layer, Component::Residual),
                Stage::AttentionOutput => copy(layer + 1, Component::AttentionDelta),
                Stage::LayerOutput => {
                    copy(layer + 1, Component::Residual);
                    copy(layer + 1, Component::FeedForwardDelta);
                    for earlier in [(layer, Component::Residual), (layer + 1, Component::AttentionDelta)] {
                        let earlier = self.trace.vector_mut(index, earlier.0, earlier.1).to_vec();
                        let delta = self.trace.vector_mut(index, layer + 1, Component::FeedForwardDelta);
                        delta.iter_mut().zip(earlier).for_each(|(delta, earlier)| *delta -= earlier);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The stages that a trace is made of.
const RECORDED: [Stage; 3] = [Stage::LayerInput, Stage::AttentionOutput, Stage::LayerOutput];

impl Hook for Recorder<'_, '_> {
    fn points(&self) -> PointSet {
        let inner = self.inner.as_ref().map_or_else(PointSet::default, |hook| hook.points());
        PointSet::stages(RECORDED).union(inner)
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        if let Some(inner) = &mut self.inner
            && inner.points().contains(point)
        {
            inner.at(point, rows, values)?;
        }
        self.record(point, values);
        Ok(())
    }
}
