//! What one layer's feed-forward step does on ordinary text.

use larql_compute::Precision;

use super::compose::dense;
use super::gate::Input;
use super::whitening::Whitening;
use crate::{Cache, Hook, InferenceError, Model, Pass, Point, Sequence, Stage};

/// Of one layer, measured on a calibration text: what its inputs are like, and how much each feature matters.
#[derive(Clone, Debug)]
pub struct LayerStatistics {
    /// The layer.
    pub layer: usize,
    /// What its inputs are like.
    pub whitening: Whitening,
    /// For each feature the mean length of what it writes, `|activation| * |down|`: `[features]`.
    pub importance: Vec<f32>,
    /// Inputs on ordinary text.
    pub(super) ordinary: Vec<Input>,
}

/// Added to every direction of the inputs' second moment, as a share of the mean.
const SHRINKAGE: f64 = 0.03;

impl LayerStatistics {
    /// Runs `texts` up to `layer` and measures it.
    ///
    /// # Errors
    /// If the layer's features cannot be written, a text is empty or has tokens of another model, or there is too little
    /// text.
    pub fn measure(
        model: &Model,
        layer: usize,
        texts: &[Vec<u32>],
    ) -> Result<LayerStatistics, InferenceError> {
        let hidden = model.spec().hidden_size;
        let dense = dense(model, layer)?;
        let inputs = inputs(model, layer, texts)?.concat();
        let tokens = (inputs.len() / hidden).max(1) as f32;
        let features = dense.feature_count();
        let mut importance = vec![0.0; features];
        for inputs in inputs.chunks(64 * hidden) {
            for activations in model.feature_activations(layer, inputs).chunks_exact(features) {
                importance.iter_mut().zip(activations).for_each(|(sum, a)| *sum += a.abs() / tokens);
            }
        }
        let down = dense.down.weight.view();
        let (mut row, mut squares) = (vec![0.0; features], vec![0.0; features]);
        for r in 0..down.rows() {
            down.decode_row(r, &mut row);
            squares.iter_mut().zip(&row).for_each(|(square, w)| *square += w * w);
        }
        importance.iter_mut().zip(squares).for_each(|(importance, square)| *importance *= square.sqrt());
        let whitening = Whitening::new(&inputs, hidden, SHRINKAGE)?;
        let ordinary = inputs.chunks_exact(hidden).map(|x| Input::new(&whitening, x)).collect();
        Ok(LayerStatistics { layer, whitening, importance, ordinary })
    }
}

/// Sequences that are run at once.
const BATCH: usize = 16;

/// The feed-forward inputs of a layer for all tokens of each text, `[tokens, hidden]`.
pub(super) fn inputs(
    model: &Model,
    layer: usize,
    texts: &[Vec<u32>],
) -> Result<Vec<Vec<f32>>, InferenceError> {
    let hidden = model.spec().hidden_size;
    let ffn = model.dense_ffn();
    let mut all = Vec::with_capacity(texts.len());
    for texts in texts.chunks(BATCH) {
        let mut caches: Vec<Cache> = texts.iter().map(|_| Cache::new(model.spec())).collect();
        let mut sequences: Vec<Sequence<'_>> =
            texts.iter().zip(&mut caches).map(|(tokens, cache)| Sequence { cache, tokens }).collect();
        let mut record = InputOf { layer, values: Vec::new() };
        let mut pass = Pass { model, feed_forward: &ffn, precision: Precision::Exact, hook: &mut record };
        pass.below(layer + 1, &mut sequences)?;
        let mut rest = &record.values[..];
        for text in texts {
            let (own, others) = rest.split_at(text.len() * hidden);
            all.push(own.to_vec());
            rest = others;
        }
    }
    Ok(all)
}

/// Keeps a layer's feed-forward input.
struct InputOf {
    layer: usize,
    values: Vec<f32>,
}

impl Hook for InputOf {
    fn at(&mut self, point: Point, values: &mut [f32]) {
        if point == (Point { layer: self.layer, stage: Stage::FeedForwardInput }) {
            self.values = values.to_vec();
        }
    }
}
