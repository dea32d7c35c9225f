//! Comparing the forward pass with a set of reference outputs.
//!
//! A set is a folder with `manifest.json` and a folder for each family; that one holds a checkpoint and
//! `expected.safetensors` with, for prompts 0, 1 and 2, `tokens_i`, `logits_i`, `hidden_i`, `prenorm_i` and
//! `generated_i`, and of mixtures of experts mostly `moe_index_i` and `moe_weight_i` (see the set's own README for their
//! exact meaning).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larql_compute::map_file;
use larql_inference::{Hook, HookError, KeyValueCache, Model, Point, PointSet, Rows, Stage, greedy};
use larql_models::{Shape, WeightSource};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::error::EvalError;

/// Largest difference of a logit that float arithmetic explains.
pub const LOGIT_TOLERANCE: f32 = 2e-4;
/// Largest difference of a hidden state, relative to the largest hidden state of the folder.
const HIDDEN_TOLERANCE: f32 = 2e-5;
/// Largest difference of an expert's weight. Weights are at most a few units, and computed from one product.
const EXPERT_WEIGHT_TOLERANCE: f32 = 1e-4;
/// Hidden states are never asked to agree better than this.
const HIDDEN_FLOOR: f32 = 1e-4;

/// Entry of `manifest.json` for one folder.
#[derive(Clone, Debug, Deserialize)]
pub struct FolderFacts {
    /// Largest magnitude of any hidden state.
    pub hidden_absmax: f32,
    /// Largest change of a logit for each unit of relative noise on the weights.
    pub noise_response: f32,
}

/// The folders of a set, by name.
///
/// # Errors
/// If `manifest.json` is missing or has other content.
pub fn folders(set: &Path) -> Result<BTreeMap<String, FolderFacts>, EvalError> {
    #[derive(Deserialize)]
    struct Manifest {
        families: BTreeMap<String, FolderFacts>,
    }
    let path = set.join("manifest.json");
    let problem = |problem: String| EvalError::Reference { path: path.clone(), problem };
    let text = std::fs::read(&path).map_err(|e| problem(e.to_string()))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| problem(e.to_string()))?;
    Ok(manifest.families)
}

/// Deviation of a model from the reference outputs of a folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deviation {
    /// Largest difference of a logit.
    pub logits: f32,
    /// Largest difference of a hidden state.
    pub hidden: f32,
    /// Greatest allowed `hidden`.
    pub hidden_tolerance: f32,
    /// Largest difference of an expert's weight; 0 in models without experts.
    pub expert_weights: f32,
    /// Tokens and layers at which other experts are chosen.
    pub wrong_experts: usize,
    /// Greedy continuations that differ, of [`Deviation::prompts`].
    pub wrong_continuations: usize,
    /// Prompts compared.
    pub prompts: usize,
}

impl Deviation {
    /// Reports that logits are within `logit_tolerance`, whatever the rest: the criterion for weights that are not exact.
    pub fn logits_within(&self, logit_tolerance: f32) -> bool {
        self.logits <= logit_tolerance
    }

    /// Reports that the model agrees with the reference to within `logit_tolerance`.
    pub fn within(&self, logit_tolerance: f32) -> bool {
        // Written so that a NaN fails.
        self.logits <= logit_tolerance
            && self.hidden <= self.hidden_tolerance
            && self.expert_weights <= EXPERT_WEIGHT_TOLERANCE
            && self.wrong_experts == 0
            && self.wrong_continuations == 0
    }
}

/// Greatest change of logits that block formats may cause: three times what the error of the weights explains, beyond what float arithmetic
/// does. Where no row is a whole number of blocks, all weights are exact and nothing is added.
///
/// # Errors
/// If one of the two lacks a matrix.
pub fn block_tolerance(
    facts: &FolderFacts,
    source: &dyn WeightSource,
    stored: &dyn WeightSource,
) -> Result<f32, EvalError> {
    Ok(LOGIT_TOLERANCE + 3.0 * facts.noise_response * relative_error(source, stored)? as f32)
}

/// Runs the prompts of `folder` through `model` and compares logits, every layer's output and the greedy
/// continuation.
///
/// # Errors
/// If the reference file lacks something or does not fit the model.
pub fn compare(model: &Model, folder: &Path, facts: &FolderFacts) -> Result<Deviation, EvalError> {
    let reference = Reference::open(folder.join("expected.safetensors"))?;
    let mut deviation = Deviation {
        logits: 0.0,
        hidden: 0.0,
        hidden_tolerance: (HIDDEN_TOLERANCE * facts.hidden_absmax).max(HIDDEN_FLOOR),
        expert_weights: 0.0,
        wrong_experts: 0,
        wrong_continuations: 0,
        prompts: 0,
    };
    while reference.has(&format!("tokens_{}", deviation.prompts)) {
        compare_prompt(model, &reference, deviation.prompts, &mut deviation)?;
        deviation.prompts += 1;
    }
    if deviation.prompts == 0 {
        return Err(reference.problem("it holds no prompt (`tokens_0`)".into()));
    }
    Ok(deviation)
}

/// Relative error of the matrices of one source that are not exact in another: the root mean square of their
/// differences, relative to that of their values; 0 if all are exact. Times [`FolderFacts::noise_response`] it gives the change of logits to expect.
///
/// # Errors
/// If one of them lacks a matrix.
fn relative_error(source: &dyn WeightSource, stored: &dyn WeightSource) -> Result<f64, EvalError> {
    let (mut differences, mut squares) = (0.0_f64, 0.0_f64);
    for (role, shape) in source.spec().tensors() {
        if let Shape::Matrix(..) = shape {
            let (exact, found) = (source.matrix(role)?.view().to_f32(), stored.matrix(role)?.view().to_f32());
            if exact == found {
                continue;
            }
            for (exact, found) in exact.iter().zip(found) {
                differences += f64::from(exact - found).powi(2);
                squares += f64::from(*exact).powi(2);
            }
        }
    }
    Ok(if squares > 0.0 { (differences / squares).sqrt() } else { 0.0 })
}

fn compare_prompt(
    model: &Model,
    reference: &Reference,
    prompt: usize,
    deviation: &mut Deviation,
) -> Result<(), EvalError> {
    let tokens = reference.tokens(&format!("tokens_{prompt}"))?;
    let mut record = Recorded::default();
    let mut cache = KeyValueCache::new(model.spec());
    let logits = model.pass().with_hook(&mut record).all_logits(&mut cache, &tokens)?;

    let expected = reference.floats(&format!("logits_{prompt}"), logits.len())?;
    deviation.logits = deviation.logits.max(largest_difference(&logits, &expected));

    // Entry k of `hidden` is the output of layer k - 1, but its last entry is after the final norm.
    let states = tokens.len() * model.spec().hidden_size;
    let layers = record.outputs.len();
    let hidden = reference.floats(&format!("hidden_{prompt}"), (layers + 1) * states)?;
    let last = reference.floats(&format!("prenorm_{prompt}"), states)?;
    let expected = hidden.chunks_exact(states).skip(1).take(layers - 1).chain([&*last]);
    for (found, expected) in record.outputs.iter().zip(expected) {
        deviation.hidden = deviation.hidden.max(largest_difference(found, expected));
    }

    if let Some(experts) = reference.experts(prompt)? {
        compare_experts(&record.expert_weights, &experts, tokens.len(), deviation);
    }

    let expected = reference.tokens(&format!("generated_{prompt}"))?;
    let mut last = logits[logits.len() - model.spec().vocab_size..].to_vec();
    let mut generated = Vec::new();
    while generated.len() < expected.len() {
        let token = greedy(&last);
        generated.push(token);
        last = model.pass().last_logits(&mut cache, &[token])?;
    }
    deviation.wrong_continuations += usize::from(generated != expected);
    Ok(())
}

/// Hook that keeps the outputs of each layer.
#[derive(Default)]
struct Recorded {
    outputs: Vec<Vec<f32>>,
    /// Factors of experts, of mixtures only: `[tokens, experts]`.
    expert_weights: Vec<Vec<f32>>,
}

impl Hook for Recorded {
    fn points(&self) -> PointSet {
        PointSet::stages([Stage::LayerOutput, Stage::ExpertWeights])
    }

    fn at(&mut self, point: Point, _: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        match point.stage() {
            Some(Stage::LayerOutput) => self.outputs.push(values.to_vec()),
            _ => self.expert_weights.push(values.to_vec()),
        }
        Ok(())
    }
}

/// `found` holds for each mixture `[tokens, experts]`, `expected` one choice after the other.
fn compare_experts(found: &[Vec<f32>], expected: &[Choice], tokens: usize, deviation: &mut Deviation) {
    let chosen = |weights: &[f32]| -> Choice {
        let experts = weights.iter().copied().enumerate().filter(|(_, weight)| *weight != 0.0);
        experts.map(|(expert, weight)| (expert as u32, weight)).collect()
    };
    let found: Vec<Choice> =
        found.iter().flat_map(|layer| layer.chunks_exact(layer.len() / tokens).map(chosen)).collect();
    deviation.wrong_experts += found.len().abs_diff(expected.len());
    for (found, expected) in found.iter().zip(expected) {
        if found.iter().map(|(expert, _)| expert).ne(expected.iter().map(|(expert, _)| expert)) {
            deviation.wrong_experts += 1;
            continue;
        }
        let weights = |choice: &Choice| -> Vec<f32> { choice.iter().map(|(_, weight)| *weight).collect() };
        let difference = largest_difference(&weights(found), &weights(expected));
        deviation.expert_weights = deviation.expert_weights.max(difference);
    }
}

/// The experts that a token passes in one layer, in ascending order, with their weights.
type Choice = Vec<(u32, f32)>;

/// NaN anywhere gives NaN.
fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d.is_nan() || d > m { d } else { m })
}

/// A file of reference tensors.
struct Reference {
    path: PathBuf,
    bytes: Bytes,
}

impl Reference {
    fn open(path: PathBuf) -> Result<Reference, EvalError> {
        let bytes = map_file(&path)
            .map_err(|e| EvalError::Reference { path: path.clone(), problem: e.to_string() })?;
        let reference = Reference { path, bytes };
        SafeTensors::deserialize(&reference.bytes).map_err(|e| reference.problem(e.to_string()))?;
        Ok(reference)
    }

    fn problem(&self, problem: String) -> EvalError {
        EvalError::Reference { path: self.path.clone(), problem }
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).is_ok_and(|tensors| tensors.tensor(name).is_ok())
    }

    /// The bytes of a tensor of `size`-byte values.
    fn data(&self, name: &str, dtype: safetensors::Dtype) -> Result<&[u8], EvalError> {
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|e| self.problem(e.to_string()))?;
        let tensor = tensors.tensor(name).map_err(|e| self.problem(e.to_string()))?;
        if tensor.dtype() != dtype {
            return Err(self.problem(format!("`{name}` is {:?}, expected {dtype:?}", tensor.dtype())));
        }
        Ok(tensor.data())
    }

    fn tokens(&self, name: &str) -> Result<Vec<u32>, EvalError> {
        let data = self.data(name, safetensors::Dtype::I64)?;
        let token =
            |chunk: &[u8]| -> Option<u32> { i64::from_le_bytes(chunk.try_into().ok()?).try_into().ok() };
        data.chunks_exact(8)
            .map(|chunk| {
                token(chunk).ok_or_else(|| self.problem(format!("`{name}` holds an impossible token")))
            })
            .collect()
    }

    /// The choices of every mixture for every token of a prompt, layer by layer, if the file has them.
    fn experts(&self, prompt: usize) -> Result<Option<Vec<Choice>>, EvalError> {
        let (index, weight) = (format!("moe_index_{prompt}"), format!("moe_weight_{prompt}"));
        if !self.has(&index) {
            return Ok(None);
        }
        let (experts, chosen) = (self.tokens(&index)?, self.last_dimension(&index)?.max(1));
        let weights = self.floats(&weight, experts.len())?;
        let pairs: Choice = experts.into_iter().zip(weights).collect();
        Ok(Some(pairs.chunks_exact(chosen).map(<[_]>::to_vec).collect()))
    }

    fn last_dimension(&self, name: &str) -> Result<usize, EvalError> {
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|e| self.problem(e.to_string()))?;
        let tensor = tensors.tensor(name).map_err(|e| self.problem(e.to_string()))?;
        Ok(tensor.shape().last().copied().unwrap_or(1))
    }

    fn floats(&self, name: &str, count: usize) -> Result<Vec<f32>, EvalError> {
        let data = self.data(name, safetensors::Dtype::F32)?;
        if data.len() != count * 4 {
            let found = data.len() / 4;
            return Err(self.problem(format!("`{name}` holds {found} values, the model gives {count}")));
        }
        let mut values = vec![0.0; count];
        larql_compute::Format::F32.decode(data, &mut values);
        Ok(values)
    }
}
