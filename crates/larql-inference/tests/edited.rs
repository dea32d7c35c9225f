//! Edited features in the forward pass, against models whose weights have been rewritten.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::{Activations, Matrix, Pool};
use larql_core::progress::NoProgress;
use larql_inference::{FfnBackend, KeyValueCache, Model, Record, Sequence, Stage};
use larql_models::{Checkpoint, LayerRole, ModelError, ModelSpec, Role, WeightSource};
use larql_vindex::{
    EditedFeature, ExtractOptions, FeatureEdit, FeatureEdits, FeatureStore, Overlay, Q4kOptions, Storage,
    Vindex, extract,
};
use larql_vindex_spec::FloatType;

const TOKENS: [u32; 4] = [17, 99, 200, 5];

fn atlas() -> Checkpoint {
    Checkpoint::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas")).unwrap()
}

fn conformance(family: &str) -> PathBuf {
    larql_testing::repository("conformance").join(family)
}

fn load(source: &dyn WeightSource) -> Model {
    Model::load(source, Arc::new(Pool::new(2))).unwrap()
}

fn logits(model: &Model, feed_forward: &dyn FfnBackend) -> Vec<f32> {
    let mut state = KeyValueCache::new(model.spec());
    model.pass().with_feed_forward(feed_forward).all_logits(&mut state, &TOKENS).unwrap()
}

fn dense(model: &Model) -> Vec<f32> {
    logits(model, &model.dense_ffn())
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A vector that is the same every time.
fn vector(length: usize, seed: usize) -> Arc<[f32]> {
    (0..length).map(|i| ((i * 37 + seed * 101) % 23) as f32 * 0.02 - 0.2).collect()
}

/// Edits of all kinds in every layer.
fn edits(spec: &ModelSpec) -> FeatureEdits {
    let mut edits = FeatureEdits::default();
    for (layer, layer_spec) in spec.layers.iter().enumerate() {
        let feed_forward = &layer_spec.feed_forward;
        let vector = |seed| Some(vector(spec.hidden_size, seed + layer));
        let gated = feed_forward.is_gated();
        let whole = EditedFeature {
            gate: vector(0),
            up: gated.then(|| vector(1)).flatten(),
            down: vector(2),
            ..EditedFeature::default()
        };
        let part = EditedFeature { down: vector(3), ..EditedFeature::default() };
        let last = feed_forward.features() - 1;
        edits.set(layer, 0, FeatureEdit::Changed(whole.clone()));
        edits.set(layer, 7, FeatureEdit::Deleted);
        edits.set(layer, last / 2, FeatureEdit::Changed(part));
        edits.set(layer, last, FeatureEdit::Changed(whole));
    }
    edits
}

/// A model whose matrices have been rewritten as floats.
struct Rewritten<'a> {
    base: &'a dyn WeightSource,
    edits: FeatureEdits,
}

impl Rewritten<'_> {
    /// The edits of one step of a layer, which is an expert or the step that every token passes.
    fn of_step(&self, layer: usize, expert: Option<usize>) -> Vec<(usize, &FeatureEdit)> {
        let feed_forward = &self.base.spec().layers[layer].feed_forward;
        let mixture = feed_forward.mixture();
        let (first, count) = match (mixture, expert) {
            (Some(mixture), Some(expert)) => (expert * mixture.features, mixture.features),
            (Some(mixture), None) => (mixture.experts * mixture.features, feed_forward.dense_features()),
            (None, _) => (0, feed_forward.features()),
        };
        let own = self.edits.of_layer(layer).filter(|(feature, _)| (first..first + count).contains(feature));
        own.map(|(feature, edit)| (feature - first, edit)).collect()
    }
}

impl WeightSource for Rewritten<'_> {
    fn spec(&self) -> &ModelSpec {
        self.base.spec()
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        use LayerRole::*;
        let matrix = self.base.matrix(role)?;
        let Role::Layer(layer, kind) = role else { return Ok(matrix) };
        let expert = match kind {
            ExpertGate(expert) | ExpertUp(expert) | ExpertDown(expert) => Some(expert),
            Gate | Up | Down => None,
            _ => return Ok(matrix),
        };
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let mut values = matrix.view().to_f32();
        let zeros: Arc<[f32]> = vec![0.0; rows.max(cols)].into();
        for (feature, edit) in self.of_step(layer, expert) {
            let vector = match (edit, kind) {
                (FeatureEdit::Deleted, _) => Some(&zeros),
                (FeatureEdit::Changed(edited), Gate | ExpertGate(_)) => edited.gate.as_ref(),
                (FeatureEdit::Changed(edited), Up | ExpertUp(_)) => edited.up.as_ref(),
                (FeatureEdit::Changed(edited), _) => edited.down.as_ref(),
            };
            let Some(vector) = vector else { continue };
            if matches!(kind, Down | ExpertDown(_)) {
                (0..rows).for_each(|row| values[row * cols + feature] = vector[row]);
            } else {
                values[feature * cols..][..cols].copy_from_slice(&vector[..cols]);
            }
        }
        Ok(Matrix::from_f32(rows, cols, &values).unwrap())
    }

    /// A deleted feature has no bias either.
    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        use LayerRole::*;
        let mut values = self.base.vector(role)?;
        let Role::Layer(layer, kind) = role else { return Ok(values) };
        let expert = match kind {
            ExpertGateBias(expert) | ExpertUpBias(expert) => Some(expert),
            GateBias | UpBias => None,
            _ => return Ok(values),
        };
        for (feature, edit) in self.of_step(layer, expert) {
            if *edit == FeatureEdit::Deleted {
                values[feature] = 0.0;
            }
        }
        Ok(values)
    }
}

#[test]
fn edits_are_as_rewritten_weights_in_every_kind_of_layer() {
    for family in [
        "llama",
        "gemma3",
        "gpt2",
        "phi",
        "olmo2",
        "mixtral",
        "gpt_oss",
        "gemma4_moe",
        "deepseek_v3",
        "qwen2_moe",
    ] {
        let checkpoint = Checkpoint::open(&conformance(family)).unwrap();
        let edits = edits(checkpoint.spec());
        let (base, rewritten) = (load(&checkpoint), Rewritten { base: &checkpoint, edits: edits.clone() });
        let (edited, expected) = (base.edited(&edits).unwrap(), load(&rewritten));
        assert!(distance(&dense(&edited), &dense(&expected)) < 2e-5, "{family}");
        assert!(distance(&dense(&edited), &dense(&base)) > 1e-3, "{family}");
        let walked = [8, 50].map(|k| {
            distance(&logits(&edited, &edited.walk_ffn(k)), &logits(&expected, &expected.walk_ffn(k)))
        });
        assert!(walked.iter().all(|distance| *distance < 2e-5), "{family}: {walked:?}");
        let again = edited.edited(&FeatureEdits::default()).unwrap();
        assert_eq!(dense(&again), dense(&base), "{family}");
    }
}

#[test]
fn whoever_looks_at_features_sees_the_edits() {
    for family in ["gemma3", "gpt2", "phi", "gpt_oss", "gemma4_moe", "deepseek_v3", "qwen2_moe"] {
        let checkpoint = Checkpoint::open(&conformance(family)).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model.vindex");
        let options =
            ExtractOptions { storage: Storage::Floats(FloatType::F32), ..ExtractOptions::default() };
        extract(&checkpoint, &path, &options, &NoProgress).unwrap();
        let edits = edits(checkpoint.spec());
        let vindex = Arc::new(Vindex::open(&path).unwrap());
        let edited = load(&*vindex).edited(&edits).unwrap();
        let expected = load(&Rewritten { base: &*vindex, edits: edits.clone() });
        let overlay = Overlay::new(vindex, edits).unwrap();

        let mut record = Record::new(Stage::FeedForwardInput);
        let mut state = KeyValueCache::new(expected.spec());
        let mut pass = expected.pass().with_hook(&mut record);
        let last = pass.residual(&mut [Sequence::new(&mut state, &TOKENS)]).unwrap();
        let hidden = expected.spec().hidden_size;
        let direction = expected.logit_direction(3, &last[last.len() - hidden..]).unwrap();
        let pool = Pool::new(2);
        for (layer, inputs) in record.layers.iter().enumerate() {
            let activations = expected.feature_activations(layer, inputs);
            let at = format!("{family}, layer {layer}");
            assert!(distance(&edited.feature_activations(layer, inputs), &activations) < 1e-5, "{at}");
            let mut found = vec![0.0; activations.len()];
            overlay.activations(&pool, layer, &Activations::new(inputs, hidden), &mut found).unwrap();
            assert!(distance(&found, &activations) < 1e-5, "{at}");
            assert_eq!(found[7], 0.0, "{at}");

            let input = &inputs[..hidden];
            let scores = expected.gate_scores(layer, input);
            assert!(distance(&edited.gate_scores(layer, input), &scores) < 1e-5, "{at}");
            let contributions =
                edited.feature_contributions(layer, &activations[..overlay.features(layer)], &direction);
            let wanted =
                expected.feature_contributions(layer, &activations[..overlay.features(layer)], &direction);
            assert!(distance(&contributions, &wanted) < 1e-4, "{at}");
            let mut down = vec![0.0; hidden];
            overlay.down_vector(layer, 0, &mut down).unwrap();
            assert_eq!(down, *vector(hidden, 2 + layer));
        }
    }
}

#[test]
fn a_copy_of_a_feature_changes_nothing_and_a_deleted_one_writes_nothing() {
    let checkpoint = atlas();
    let base = load(&checkpoint);
    let spec = base.spec();
    let row = |layer: usize, role, feature: usize| -> Arc<[f32]> {
        let mut row = vec![0.0; spec.hidden_size];
        let matrix = checkpoint.matrix(Role::Layer(layer, role)).unwrap();
        match role {
            LayerRole::Down => matrix.view().decode_column(feature, &mut row),
            _ => matrix.view().decode_row(feature, &mut row),
        }
        row.into()
    };
    let (mut copies, mut deletions) = (FeatureEdits::default(), FeatureEdits::default());
    for (layer, feature) in [(0, 3), (1, 0), (1, 1), (2, 40), (3, 511)] {
        let copy = EditedFeature {
            gate: Some(row(layer, LayerRole::Gate, feature)),
            up: Some(row(layer, LayerRole::Up, feature)),
            down: Some(row(layer, LayerRole::Down, feature)),
            ..EditedFeature::default()
        };
        copies.set(layer, feature, FeatureEdit::Changed(copy));
        deletions.set(layer, feature, FeatureEdit::Deleted);
    }
    assert!(distance(&dense(&base.edited(&copies).unwrap()), &dense(&base)) < 1e-5);
    let without = dense(&load(&Rewritten { base: &checkpoint, edits: deletions.clone() }));
    let deleted = dense(&base.edited(&deletions).unwrap());
    assert!(distance(&deleted, &without) < 1e-5);
    assert!(distance(&deleted, &dense(&base)) > 1e-4);
}

#[test]
fn edits_are_as_rewritten_weights_in_every_format() {
    let checkpoint = atlas();
    for storage in [Storage::Floats(FloatType::F16), Storage::Q4k(Q4kOptions::default())] {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model.vindex");
        let options = ExtractOptions { storage, ..ExtractOptions::default() };
        extract(&checkpoint, &path, &options, &NoProgress).unwrap();
        let vindex = Vindex::open(&path).unwrap();
        let edits = edits(vindex.spec());
        let edited = load(&vindex).edited(&edits).unwrap();
        let rewritten = load(&Rewritten { base: &vindex, edits });
        assert!(distance(&dense(&edited), &dense(&rewritten)) < 1e-4, "{storage:?}");
    }
}

#[test]
fn an_edit_that_does_not_fit_is_refused() {
    let base = load(&atlas());
    let mut edits = FeatureEdits::default();
    edits.set(0, 1_000_000, FeatureEdit::Deleted);
    let message = base.edited(&edits).unwrap_err().to_string();
    assert!(message.starts_with("edit of feature 1000000 of layer 0: feature: expected a feature below"));
}
