//! Mixtures of experts: what a pass reads, and how its features are looked at.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::sync::Arc;

use larql_compute::{Activations, Format, Matrix, Pool};
use larql_core::progress::NoProgress;
use larql_inference::{FfnBackend, Hook, KeyValueCache, Model, NoHook, Record, Stage};
use larql_models::{Checkpoint, LayerRole, ModelError, ModelSpec, Role, WeightSource};
use larql_vindex::{ExtractOptions, FeatureStore, Storage, Vindex, extract};
use larql_vindex_spec::FloatType;

const TOKENS: [u32; 3] = [17, 99, 200];

fn folder(family: &str) -> Checkpoint {
    Checkpoint::open(&larql_testing::repository("conformance").join(family)).unwrap()
}

fn load(source: &dyn WeightSource) -> Model {
    Model::load(source, Arc::new(Pool::new(2))).unwrap()
}

fn logits(model: &Model, feed_forward: &dyn FfnBackend, hook: &mut dyn Hook) -> Vec<f32> {
    let mut state = KeyValueCache::new(model.spec());
    let mut pass = model.pass().with_feed_forward(feed_forward).with_hook(hook);
    pass.last_logits(&mut state, &TOKENS).unwrap()
}

#[test]
fn a_walk_over_all_features_of_the_chosen_experts_is_the_dense_step() {
    let new = ["qwen2_moe", "glm4_moe", "granitemoe", "olmoe", "phimoe", "ernie4_5_moe"];
    for family in ["mixtral", "qwen3_moe", "gpt_oss", "gemma4_moe", "deepseek_v3"].into_iter().chain(new) {
        let model = load(&folder(family));
        let mixture = |layer: &larql_models::LayerSpec| layer.feed_forward.mixture().cloned();
        let mixture = model.spec().layers.iter().find_map(mixture).unwrap();
        let routed = mixture.router.chosen * mixture.features + mixture.shared_features.unwrap_or(0);
        let dense = logits(&model, &model.dense_ffn(), &mut NoHook);
        let walked = logits(&model, &model.walk_ffn(routed.max(96)), &mut NoHook);
        let difference = dense.iter().zip(&walked).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-4, "{family}: {difference}");
        let fewer = logits(&model, &model.walk_ffn(routed / 4), &mut NoHook);
        assert!(dense.iter().zip(&fewer).any(|(a, b)| (a - b).abs() > 1e-3), "{family}");
    }
}

/// A model in which the matrices of some experts are not numbers.
struct Poisoned {
    inner: Checkpoint,
    is_poisoned: Box<dyn Fn(usize, usize) -> bool + Send + Sync>,
}

impl WeightSource for Poisoned {
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        use LayerRole::{ExpertDown, ExpertGate, ExpertUp};
        let matrix = self.inner.matrix(role)?;
        Ok(match role {
            Role::Layer(layer, ExpertGate(expert) | ExpertUp(expert) | ExpertDown(expert))
                if (self.is_poisoned)(layer, expert) =>
            {
                let (rows, cols) = (matrix.rows(), matrix.cols());
                Matrix::from_f32(rows, cols, &vec![f32::NAN; rows * cols]).unwrap()
            }
            _ => matrix,
        })
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        self.inner.vector(role)
    }
}

#[test]
fn experts_that_are_not_chosen_are_not_read() {
    for family in ["mixtral", "gpt_oss", "gemma4_moe", "deepseek_v2"] {
        let model = load(&folder(family));
        let mut record = Record::new(Stage::ExpertWeights);
        let expected = logits(&model, &model.dense_ffn(), &mut record);
        let layers = model.spec().layers.iter().enumerate();
        let mixtures: Vec<usize> = layers
            .filter(|(_, layer)| layer.feed_forward.mixture().is_some())
            .map(|(index, _)| index)
            .collect();
        let unused = move |layer: usize, expert: usize| {
            let weights = &record.layers[mixtures.iter().position(|mixture| *mixture == layer).unwrap()];
            weights.chunks_exact(weights.len() / TOKENS.len()).all(|token| token[expert] == 0.0)
        };
        let poisoned = load(&Poisoned { inner: folder(family), is_poisoned: Box::new(unused) });
        assert_eq!(logits(&poisoned, &poisoned.dense_ffn(), &mut NoHook), expected, "{family}");
        let all = load(&Poisoned { inner: folder(family), is_poisoned: Box::new(|_, _| true) });
        assert!(logits(&all, &all.dense_ffn(), &mut NoHook)[0].is_nan());
    }
}

#[test]
fn a_vindex_finds_the_activations_that_the_model_has() {
    let pool = Pool::new(2);
    for family in ["mixtral", "gpt_oss", "gemma4_moe", "deepseek_v3", "qwen2_moe", "phimoe"] {
        let checkpoint = folder(family);
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model.vindex");
        let options =
            ExtractOptions { storage: Storage::Floats(FloatType::F32), ..ExtractOptions::default() };
        extract(&checkpoint, &path, &options, &NoProgress).unwrap();
        let (vindex, model) = (Vindex::open(&path).unwrap(), load(&checkpoint));
        let mut inputs = Record::new(Stage::FeedForwardInput);
        logits(&model, &model.dense_ffn(), &mut inputs);
        for (layer, values) in inputs.layers.into_iter().enumerate() {
            let inputs = Activations::new(&values, vindex.hidden_size());
            let mut found = vec![0.0; TOKENS.len() * vindex.features(layer)];
            vindex.activations(&pool, layer, &inputs, &mut found).unwrap();
            let expected = model.feature_activations(layer, &values);
            let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(found.len() == expected.len() && close, "{family}, layer {layer}");
            let mut scores = vec![0.0; vindex.features(layer)];
            let last = &values[values.len() - vindex.hidden_size()..];
            vindex.gate_scores(&pool, layer, &Activations::new(last, last.len()), &mut scores);
            assert_eq!(model.gate_scores(layer, last).len(), scores.len());
        }
        assert_eq!(vindex.gate_format(1), Some(Format::F32));
    }
}
