//! Trajectory of an answer: its rank and probability after each layer, and who moved its logit.

use larql_compute::Precision;
use larql_compute::vector::{dot, norm};
use larql_inference::{Model, PassError};
use serde::{Deserialize, Serialize};

use crate::{LensReading, Positions, Trace, TraceError, read_lens};

/// Trajectory of an answer through the layers.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerTrajectory {
    /// The stream at the traced positions.
    pub trace: Trace,
    /// Readings at each waypoint of each traced position: `[positions][layers + 1]`. The target is the answer's
    /// next token at the positions before its tokens, and the deciding token elsewhere.
    pub readings: Vec<Vec<LensReading>>,
    /// Number of the answer's token that is followed: the first that differs from the model's own greedy answer, or the
    /// first one where none does.
    pub deciding: usize,
    /// For each traced position the waypoints: the embedding, then each layer.
    pub waypoints: Vec<Vec<AnswerWaypoint>>,
    /// Number of the traced position before the deciding token.
    pub deciding_position: usize,
}

/// An answer after one layer. Logits are before soft-capping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerWaypoint {
    /// The layer; -1 is the embedding.
    pub layer: i64,
    /// Rank of the deciding token by the logit lens; 1 is the likeliest.
    pub rank: usize,
    /// Probability of the deciding token.
    pub probability: f32,
    /// Probability of all tokens of the answer, each after the ones before it.
    pub whole_probability: f32,
    /// Logit of the deciding token, without the constant that biases add.
    pub logit: f32,
    /// Contribution of attention to the logit, at the scale that the norm has after this layer.
    pub attention: f32,
    /// Contribution of the rest of the layer, at the same scale.
    pub feed_forward: f32,
    /// The logit's change because the norm of the residual changes: the earlier residual at this scale − at the scale
    /// before. The logit's change is the sum of all three.
    pub rescaling: f32,
    /// Norm of the residual.
    pub residual_norm: f32,
}

/// Part of a layer that moves a logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pusher {
    /// The embedding, where the stream begins.
    Embedding,
    /// Attention and the feed-forward step raise it.
    BothUp,
    /// Attention raises it.
    AttentionUp,
    /// The feed-forward step raises it.
    FeedForwardUp,
    /// Both lower it.
    BothDown,
    /// Attention lowers it.
    AttentionDown,
    /// The feed-forward step lowers it.
    FeedForwardDown,
    /// Neither moves it much.
    Neither,
}

/// Contribution from which on a part counts as moving a logit.
const MOVES: f32 = 0.5;

impl AnswerWaypoint {
    /// The part of the layer that moves the logit most visibly.
    pub fn pusher(&self) -> Pusher {
        if self.layer < 0 {
            return Pusher::Embedding;
        }
        match (self.attention > MOVES, self.feed_forward > MOVES) {
            (true, true) => Pusher::BothUp,
            (true, false) => Pusher::AttentionUp,
            (false, true) => Pusher::FeedForwardUp,
            (false, false) => match (self.attention < -MOVES, self.feed_forward < -MOVES) {
                (true, true) => Pusher::BothDown,
                (true, false) => Pusher::AttentionDown,
                (false, true) => Pusher::FeedForwardDown,
                (false, false) => Pusher::Neither,
            },
        }
    }
}

impl AnswerTrajectory {
    /// Runs the prompt with the answer's tokens after it, and follows the answer at all positions, or only where its tokens
    /// are predicted.
    ///
    /// # Errors
    /// If prompt or answer has no tokens, or the pass fails.
    pub fn follow(
        model: &Model,
        prompt: &[u32],
        answer: &[u32],
        everywhere: bool,
    ) -> Result<AnswerTrajectory, TraceError> {
        let Some((_, begun)) = answer.split_last() else { return Err(TraceError::EmptyAnswer) };
        let before = prompt.len().checked_sub(1).ok_or(PassError::NoTokens)?;
        let tokens = [prompt, begun].concat();
        let first = if everywhere { 0 } else { before };
        let positions = Positions::Some((first..tokens.len()).collect());
        let trace = Trace::record(model, &tokens, &positions)?;

        // The lens on the last layer's output is the model's own prediction.
        let last = trace.layers();
        let predicting = before - first..trace.positions().len();
        let outputs: Vec<f32> =
            predicting.clone().flat_map(|index| trace.position(index).residual(last)).copied().collect();
        let own = read_lens(model, &outputs, 1, &[], Precision::Exact)?;
        let says = |reading: &LensReading| reading.top.first().map(|top| top.token);
        let differs = own.iter().zip(answer).position(|(reading, token)| says(reading) != Some(*token));
        let deciding = differs.unwrap_or(0);
        let deciding_position = predicting.start + deciding;

        let target = |index: usize| match index.checked_sub(predicting.start) {
            Some(token) => answer[token],
            None => answer[deciding],
        };
        let readings = read_positions(model, &trace, target, precision(everywhere))?;
        let mut waypoints = Vec::with_capacity(readings.len());
        for (index, of_position) in readings.iter().enumerate() {
            let whole = |waypoint: usize| {
                let probabilities = readings[predicting.clone()].iter().map(|readings| &readings[waypoint]);
                probabilities.flat_map(|reading| reading.target).map(|target| target.probability).product()
            };
            waypoints.push(followed(model, &trace, (index, target(index)), of_position, whole)?);
        }
        Ok(AnswerTrajectory { trace, readings, deciding, waypoints, deciding_position })
    }

    /// The waypoints at the position before the deciding token.
    pub fn deciding_waypoints(&self) -> &[AnswerWaypoint] {
        &self.waypoints[self.deciding_position]
    }
}

/// The precision of lens readings: many positions are for an overview.
fn precision(everywhere: bool) -> Precision {
    if everywhere { Precision::Fast } else { Precision::Exact }
}

impl Trace {
    /// Reads the likeliest token at each waypoint of each traced position by the logit lens: `[positions][layers + 1]`. Of
    /// several positions, probabilities are rounded to about three digits.
    ///
    /// # Errors
    /// If the final norm or the output head is absent, or the model's cancel token is cancelled.
    pub fn read(&self, model: &Model) -> Result<Vec<Vec<LensReading>>, TraceError> {
        read_positions(model, self, |_| u32::MAX, precision(self.positions().len() > 1))
    }

    /// Reads the waypoints of one traced position exactly: `[layers + 1]`.
    ///
    /// # Errors
    /// As [`Trace::read`].
    ///
    /// # Panics
    /// If fewer positions were traced.
    pub fn read_position(&self, model: &Model, index: usize) -> Result<Vec<LensReading>, TraceError> {
        let position = self.position(index);
        let residuals: Vec<f32> =
            (0..=self.layers()).flat_map(|waypoint| position.residual(waypoint)).copied().collect();
        read_lens(model, &residuals, 1, &[], Precision::Exact)
    }
}

/// Reads every waypoint of every traced position, with the target that `target` gives for the position.
fn read_positions(
    model: &Model,
    trace: &Trace,
    target: impl Fn(usize) -> u32,
    precision: Precision,
) -> Result<Vec<Vec<LensReading>>, TraceError> {
    let (positions, waypoints) = (trace.positions().len(), trace.layers() + 1);
    let mut residuals = Vec::with_capacity(positions * waypoints * trace.hidden_size());
    for index in 0..positions {
        let position = trace.position(index);
        (0..waypoints).for_each(|waypoint| residuals.extend_from_slice(position.residual(waypoint)));
    }
    let targets: Vec<u32> = (0..positions).flat_map(|index| vec![target(index); waypoints]).collect();
    let mut readings = read_lens(model, &residuals, 1, &targets, precision)?.into_iter();
    Ok((0..positions).map(|_| readings.by_ref().take(waypoints).collect()).collect())
}

/// The figures of a token at each waypoint of a traced position.
fn followed(
    model: &Model,
    trace: &Trace,
    (index, token): (usize, u32),
    readings: &[LensReading],
    whole: impl Fn(usize) -> f32,
) -> Result<Vec<AnswerWaypoint>, TraceError> {
    let stream = trace.position(index);
    let mut rows = Vec::with_capacity(readings.len());
    let mut earlier: Option<Vec<f32>> = None;
    for (waypoint, reading) in readings.iter().enumerate() {
        let residual = stream.residual(waypoint);
        let direction = model.logit_direction(token, residual)?;
        let rescaling = earlier.as_ref().map_or(0.0, |earlier| {
            let before = stream.residual(waypoint - 1);
            dot(&direction, before) - dot(earlier, before)
        });
        let read = reading.target.ok_or(TraceError::EmptyAnswer)?;
        rows.push(AnswerWaypoint {
            layer: waypoint as i64 - 1,
            rank: read.rank,
            probability: read.probability,
            whole_probability: whole(waypoint),
            logit: dot(&direction, residual),
            attention: dot(&direction, stream.attention_delta(waypoint)),
            feed_forward: dot(&direction, stream.feed_forward_delta(waypoint)),
            rescaling,
            residual_norm: norm(residual),
        });
        earlier = Some(direction);
    }
    Ok(rows)
}
