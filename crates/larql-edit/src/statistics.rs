//! Statistics of one layer's feed-forward step on background text.

use std::collections::BTreeSet;

use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::{Model, WhitenedInput, Whitening, inputs_of_layers, layer_inputs};
use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype, SafeTensors};

use crate::error::EditError;

/// Statistics of one layer on calibration text: the distribution of its inputs, and the importance of each feature.
#[derive(Clone, Debug)]
pub struct LayerStatistics {
    /// The layer.
    pub layer: usize,
    /// Coordinates in which its inputs have the identity as second moment.
    pub whitening: Whitening,
    /// Mean norm of what each feature writes, `|activation| * |down|`: `[features]`.
    pub importance: Vec<f32>,
    /// Inputs on background text, `[tokens, hidden]`.
    inputs: Vec<f32>,
    /// The same, whitened.
    pub(crate) background: Vec<WhitenedInput>,
}

/// Names of tensors.
const INPUTS: &str = "inputs";
const IMPORTANCE: &str = "importance";

/// Texts that are run between two reports of progress.
const TEXTS_AT_ONCE: usize = 16;

/// Added to every direction of the inputs' second moment, as a share of the mean.
const SHRINKAGE: f64 = 0.03;

impl LayerStatistics {
    /// Runs `texts` up to `layer` and measures it.
    ///
    /// # Errors
    /// If the layer's features cannot be written, a text is empty or has tokens of another model, or there is too little
    /// text.
    pub fn measure(model: &Model, layer: usize, texts: &[Vec<u32>]) -> Result<LayerStatistics, EditError> {
        LayerStatistics::of_inputs(model, layer, layer_inputs(model, layer, texts)?.concat())
    }

    /// As [`LayerStatistics::measure`], of several layers in one run.
    ///
    /// # Errors
    /// As [`LayerStatistics::measure`], and if the work is cancelled.
    pub fn measure_all(
        model: &Model,
        layers: &[usize],
        texts: &[Vec<u32>],
        progress: &dyn Progress,
    ) -> Result<Vec<LayerStatistics>, EditError> {
        layers.iter().try_for_each(|layer| model.dense_step(*layer).map(drop))?;
        let mut inputs = vec![Vec::with_capacity(texts.len()); layers.len()];
        if layers.is_empty() {
            return Ok(Vec::new());
        }
        let mut meter = Meter::new(progress, Stage::Statistics, texts.len() as u64);
        for texts in texts.chunks(TEXTS_AT_ONCE) {
            let of_texts = inputs_of_layers(model, layers, texts)?;
            inputs.iter_mut().zip(of_texts).for_each(|(all, some)| all.extend(some));
            meter.advance(texts.len() as u64)?;
        }
        let measure = |(layer, inputs): (&usize, Vec<Vec<f32>>)| {
            LayerStatistics::of_inputs(model, *layer, inputs.concat())
        };
        layers.iter().zip(inputs).map(measure).collect()
    }

    /// Measures a layer whose inputs are `inputs`, `[tokens, hidden]`.
    fn of_inputs(model: &Model, layer: usize, inputs: Vec<f32>) -> Result<LayerStatistics, EditError> {
        let hidden = model.spec().hidden_size;
        let step = model.dense_step(layer)?;
        let tokens = (inputs.len() / hidden).max(1) as f32;
        let features = step.feature_count();
        let mut importance = vec![0.0; features];
        for inputs in inputs.chunks(64 * hidden) {
            for activations in model.feature_activations(layer, inputs).chunks_exact(features) {
                importance.iter_mut().zip(activations).for_each(|(sum, a)| *sum += a.abs() / tokens);
            }
        }
        importance.iter_mut().zip(step.down_norms()).for_each(|(importance, norm)| *importance *= norm);
        LayerStatistics::of(layer, inputs, importance, hidden)
    }

    fn of(
        layer: usize,
        inputs: Vec<f32>,
        importance: Vec<f32>,
        hidden: usize,
    ) -> Result<LayerStatistics, EditError> {
        let whitening = Whitening::new(&inputs, hidden, SHRINKAGE)?;
        let background = inputs.chunks_exact(hidden).map(|x| whitening.whiten(x)).collect();
        Ok(LayerStatistics { layer, whitening, importance, inputs, background })
    }

    /// The features that are not in `taken`, by layer and number, in the order in which they are written over: the least
    /// important first.
    pub fn free_features(&self, taken: &BTreeSet<(usize, usize)>) -> Vec<usize> {
        let importance = &self.importance;
        let mut free: Vec<usize> =
            (0..importance.len()).filter(|feature| !taken.contains(&(self.layer, *feature))).collect();
        free.sort_by(|a, b| importance[*a].total_cmp(&importance[*b]));
        free
    }

    /// Encodes the statistics as a safetensors file, so that a caller may keep them: running the text takes longer than all
    /// else.
    ///
    /// # Errors
    /// None for statistics of a layer that has features.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EditError> {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (inputs, importance) = (bytes(&self.inputs), bytes(&self.importance));
        let hidden = self.whitening.hidden_size();
        let tensors = [
            (INPUTS, TensorView::new(Dtype::F32, vec![self.inputs.len() / hidden, hidden], &inputs)),
            (IMPORTANCE, TensorView::new(Dtype::F32, vec![self.importance.len()], &importance)),
        ];
        let tensors = tensors.into_iter().map(|(name, view)| Ok((name, view?)));
        let file = tensors.collect::<Result<Vec<_>, _>>().and_then(|tensors| serialize(tensors, None));
        file.map_err(|error| EditError::BadStatistics { layer: self.layer, problem: error.to_string() })
    }

    /// Decodes what [`LayerStatistics::to_bytes`] wrote for `layer` of `model`.
    ///
    /// # Errors
    /// If the bytes are damaged or of another model.
    pub fn from_bytes(model: &Model, layer: usize, bytes: &[u8]) -> Result<LayerStatistics, EditError> {
        let problem = |problem: String| EditError::BadStatistics { layer, problem };
        let hidden = model.spec().hidden_size;
        let features = model.dense_step(layer)?.feature_count();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_compute::Pool;
    use larql_models::Checkpoint;

    use super::*;

    #[test]
    fn what_was_measured_is_read_back_and_judged() {
        let open = |family: &str| {
            let folder = larql_testing::repository("conformance").join(family);
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
