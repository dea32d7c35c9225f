//! What one layer's feed-forward step does on ordinary text.

use std::ops::ControlFlow;

use larql_compute::Precision;
use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype, SafeTensors};

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
    /// Inputs on ordinary text, `[tokens, hidden]`.
    inputs: Vec<f32>,
    /// The same in white coordinates.
    pub(super) ordinary: Vec<Input>,
}

/// Names of tensors.
const INPUTS: &str = "inputs";
const IMPORTANCE: &str = "importance";

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
        LayerStatistics::of_inputs(model, layer, inputs(model, layer, texts)?.concat())
    }

    /// As [`LayerStatistics::measure`], of several layers in one run.
    ///
    /// # Errors
    /// As [`LayerStatistics::measure`].
    pub fn measure_all(
        model: &Model,
        layers: &[usize],
        texts: &[Vec<u32>],
    ) -> Result<Vec<LayerStatistics>, InferenceError> {
        layers.iter().try_for_each(|layer| dense(model, *layer).map(drop))?;
        let inputs = inputs_of_layers(model, layers, texts)?;
        let measure = |(layer, inputs): (&usize, Vec<Vec<f32>>)| {
            LayerStatistics::of_inputs(model, *layer, inputs.concat())
        };
        layers.iter().zip(inputs).map(measure).collect()
    }

    /// Of a layer's inputs, `[tokens, hidden]`.
    fn of_inputs(model: &Model, layer: usize, inputs: Vec<f32>) -> Result<LayerStatistics, InferenceError> {
        let hidden = model.spec().hidden_size;
        let dense = dense(model, layer)?;
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
        LayerStatistics::of(layer, inputs, importance, hidden)
    }

    fn of(
        layer: usize,
        inputs: Vec<f32>,
        importance: Vec<f32>,
        hidden: usize,
    ) -> Result<LayerStatistics, InferenceError> {
        let whitening = Whitening::new(&inputs, hidden, SHRINKAGE)?;
        let ordinary = inputs.chunks_exact(hidden).map(|x| Input::new(&whitening, x)).collect();
        Ok(LayerStatistics { layer, whitening, importance, inputs, ordinary })
    }

    /// What was measured, as the bytes of a safetensors file: running the text takes longer than all else, so a caller
    /// may keep them for the next time.
    ///
    /// # Errors
    /// None for statistics of a layer that has features.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InferenceError> {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (inputs, importance) = (bytes(&self.inputs), bytes(&self.importance));
        let hidden = self.whitening.hidden_size();
        let tensors = [
            (INPUTS, TensorView::new(Dtype::F32, vec![self.inputs.len() / hidden, hidden], &inputs)),
            (IMPORTANCE, TensorView::new(Dtype::F32, vec![self.importance.len()], &importance)),
        ];
        let tensors = tensors.into_iter().map(|(name, view)| Ok((name, view?)));
        let file = tensors.collect::<Result<Vec<_>, _>>().and_then(|tensors| serialize(tensors, None));
        file.map_err(|error| InferenceError::BadStatistics { layer: self.layer, problem: error.to_string() })
    }

    /// What [`LayerStatistics::to_bytes`] wrote for `layer` of `model`.
    ///
    /// # Errors
    /// If the bytes are damaged or of another model.
    pub fn from_bytes(model: &Model, layer: usize, bytes: &[u8]) -> Result<LayerStatistics, InferenceError> {
        let problem = |problem: String| InferenceError::BadStatistics { layer, problem };
        let hidden = model.spec().hidden_size;
        let features = dense(model, layer)?.feature_count();
        let file = SafeTensors::deserialize(bytes).map_err(|error| problem(error.to_string()))?;
        let values = |name: &str, width: usize| {
            let tensor = file.tensor(name).map_err(|error| problem(error.to_string()))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape().last() != Some(&width) {
                let found = format!("{:?} of shape {:?}", tensor.dtype(), tensor.shape());
                return Err(problem(format!("`{name}` should be F32 with rows of {width}, but is {found}")));
            }
            let (numbers, _) = tensor.data().as_chunks::<4>();
            Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect::<Vec<f32>>())
        };
        let importance = values(IMPORTANCE, features)?;
        if importance.len() != features || importance.iter().any(|value| !value.is_finite()) {
            return Err(problem(format!("`{IMPORTANCE}` should be {features} numbers")));
        }
        LayerStatistics::of(layer, values(INPUTS, hidden)?, importance, hidden)
    }
}

/// Sequences that are run at once.
const BATCH: usize = 16;

/// The feed-forward inputs of a layer for all tokens of each text, `[tokens, hidden]`.
pub(crate) fn inputs(
    model: &Model,
    layer: usize,
    texts: &[Vec<u32>],
) -> Result<Vec<Vec<f32>>, InferenceError> {
    Ok(inputs_of_layers(model, &[layer], texts)?.pop().unwrap_or_default())
}

/// As [`inputs`], of several layers: by layer, then by text.
pub(crate) fn inputs_of_layers(
    model: &Model,
    layers: &[usize],
    texts: &[Vec<u32>],
) -> Result<Vec<Vec<Vec<f32>>>, InferenceError> {
    let hidden = model.spec().hidden_size;
    let ffn = model.dense_ffn();
    let end = layers.iter().max().map_or(0, |last| last + 1);
    let mut all = vec![Vec::with_capacity(texts.len()); layers.len()];
    for texts in texts.chunks(BATCH) {
        let mut caches: Vec<Cache> = texts.iter().map(|_| Cache::new(model.spec())).collect();
        let mut sequences: Vec<Sequence<'_>> =
            texts.iter().zip(&mut caches).map(|(tokens, cache)| Sequence { cache, tokens }).collect();
        let mut record = InputsOf::new(layers);
        let mut pass = Pass { model, feed_forward: &ffn, precision: Precision::Exact, hook: &mut record };
        pass.below(end, &mut sequences)?;
        for (all, values) in all.iter_mut().zip(&record.values) {
            let mut rest = &values[..];
            for text in texts {
                let (own, others) = rest.split_at(text.len() * hidden);
                all.push(own.to_vec());
                rest = others;
            }
        }
    }
    Ok(all)
}

/// As [`inputs`], of the last token of each text: `[texts, hidden]`. `on_read` hears how many texts are read, and may end it.
pub(crate) fn last_inputs(
    model: &Model,
    layer: usize,
    texts: &[Vec<u32>],
    on_read: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<f32>, InferenceError> {
    let hidden = model.spec().hidden_size;
    let mut last = Vec::with_capacity(texts.len() * hidden);
    for texts in texts.chunks(BATCH) {
        if on_read(last.len() / hidden).is_break() {
            return Err(InferenceError::Interrupted);
        }
        last.extend(inputs(model, layer, texts)?.iter().flat_map(|x| &x[x.len() - hidden..]));
    }
    Ok(last)
}

/// Keeps the feed-forward inputs of layers.
pub(super) struct InputsOf<'a> {
    layers: &'a [usize],
    /// By layer, of all tokens of the last run, `[tokens, hidden]`.
    pub(super) values: Vec<Vec<f32>>,
}

impl InputsOf<'_> {
    pub(super) fn new(layers: &[usize]) -> InputsOf<'_> {
        InputsOf { layers, values: vec![Vec::new(); layers.len()] }
    }

    /// What the layers read at a token of the last run, `[layers, hidden]`.
    pub(super) fn of_token(&self, token: usize, hidden: usize) -> Box<[f32]> {
        self.values.iter().flat_map(|of_layer| &of_layer[token * hidden..][..hidden]).copied().collect()
    }
}

impl Hook for InputsOf<'_> {
    fn at(&mut self, point: Point, values: &mut [f32]) {
        if point.stage == Stage::FeedForwardInput {
            let own = self.layers.iter().zip(&mut self.values).filter(|(layer, _)| **layer == point.layer);
            own.for_each(|(_, kept)| *kept = values.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_compute::Pool;
    use larql_models::Checkpoint;

    use super::*;

    #[test]
    fn what_was_measured_is_read_back_and_judged() {
        let open = |family: &str| {
            let folder = larql_test_data::repository("conformance").join(family);
            Model::load(&Checkpoint::open(&folder).unwrap(), Arc::new(Pool::new(1))).unwrap()
        };
        let model = open("llama");
        let texts: Vec<Vec<u32>> = (0..8).map(|i| (1..20).map(|j| (i * 7 + j * 3) % 64).collect()).collect();
        let measured = LayerStatistics::measure(&model, 1, &texts).unwrap();
        let bytes = measured.to_bytes().unwrap();
        let read = LayerStatistics::from_bytes(&model, 1, &bytes).unwrap();
        assert_eq!((read.inputs, read.importance), (measured.inputs, measured.importance));
        assert!(LayerStatistics::from_bytes(&model, 1, &bytes[..bytes.len() - 1]).is_err());
        assert!(LayerStatistics::from_bytes(&model, 1, &[]).is_err());
        let error = LayerStatistics::from_bytes(&open("llama_512"), 1, &bytes).unwrap_err();
        assert!(
            error.to_string().contains("`importance`") || error.to_string().contains("`inputs`"),
            "{error}"
        );
    }
}
