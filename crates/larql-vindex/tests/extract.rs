//! Extraction, end to end on a tiny checkpoint, against what the existing implementation makes of the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use larql_compute::Format;
use larql_core::progress::{CancelToken, NoProgress, Progress, Stage, Step};
use larql_models::{Checkpoint, LayerRole, Role, SafetensorsFile, Shape, TextFiles, WeightSource};
use larql_vindex::{
    ExtractOptions, ExtractReport, FeatureStore, Part, Q4kOptions, Storage, Summary, TokenScore, Vindex,
    VindexError, extract, quantize,
};
use larql_vindex_spec::{ExtractLevel, FloatType, Manifest, Quant};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    larql_testing::repository("fixtures").join(name)
}

fn checkpoint() -> Checkpoint {
    Checkpoint::open(&fixture("llama-checkpoint")).unwrap()
}

/// A folder for the test, and a place for a vindex in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("tiny.vindex");
    (folder, target)
}

fn extract_to(target: &Path, options: &ExtractOptions) -> ExtractReport {
    extract(&checkpoint(), target, options, &NoProgress).unwrap()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Every tensor that both hold has equal values in both; returns how many there are.
fn assert_same_weights(found: &dyn WeightSource, expected: &dyn WeightSource) -> usize {
    let mut count = 0;
    for (role, shape) in expected.spec().tensors() {
        let same = match shape {
            Shape::Vector(_) => found.vector(role).ok().map(|v| v == expected.vector(role).unwrap()),
            Shape::Matrix(..) => found
                .matrix(role)
                .ok()
                .map(|matrix| matrix.view().to_f32() == expected.matrix(role).unwrap().view().to_f32()),
        };
        assert_ne!(same, Some(false), "{role}");
        count += usize::from(same.is_some());
    }
    count
}

#[test]
fn the_files_are_those_that_others_write() {
    let (_folder, target) = place();
    let report = extract_to(&target, &ExtractOptions { level: ExtractLevel::All, ..Default::default() });
    assert_eq!((report.level, report.quant, report.dtype), (ExtractLevel::All, Quant::None, FloatType::F16));
    assert!(report.drift.is_empty());

    let theirs = fixture("llama-f16-all.vindex");
    let mut expected = names(&theirs);
    expected.extend(["config.json", "source_tensors.json"].map(str::to_owned));
    assert_eq!(names(&target), expected);
    for name in ["norms.bin", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert_eq!(fs::read(target.join(name)).unwrap(), fs::read(theirs.join(name)).unwrap(), "{name}");
    }
    // Their writer turns subnormal halves into zeros, so only the others are equal.
    for name in
        ["gate_vectors.bin", "embeddings.bin", "attn_weights.bin", "up_weights.bin", "down_weights.bin"]
    {
        let halves = |path: PathBuf| -> Vec<f32> {
            let bytes = fs::read(path).unwrap();
            let mut values = vec![0.0; bytes.len() / 2];
            Format::F16.decode(&bytes, &mut values);
            values
        };
        let (found, expected) = (halves(target.join(name)), halves(theirs.join(name)));
        let differ = |(a, b): (&f32, &f32)| a != b && !(*b == 0.0 && a.abs() < 6.2e-5);
        assert_eq!(found.len(), expected.len());
        assert!(!found.iter().zip(&expected).any(differ), "{name}");
    }
    let vindex = Vindex::open(&target).unwrap();
    assert_eq!(assert_same_weights(&vindex, &checkpoint()), vindex.spec().tensors().len());
    assert_eq!(vindex.spec(), checkpoint().spec());
}

#[test]
fn features_write_the_tokens_that_others_find() {
    let (_folder, target) = place();
    extract_to(&target, &ExtractOptions { level: ExtractLevel::Browse, ..Default::default() });
    let (ours, theirs) =
        (Vindex::open(&target).unwrap(), Vindex::open(&fixture("llama-f16-all.vindex")).unwrap());
    for layer in 0..ours.layers() {
        for feature in 0..ours.features(layer) {
            let found: Vec<TokenScore> = ours.top_tokens(layer, feature).collect();
            assert_eq!(found.len(), 10);
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            // They leave out tokens that print as nothing; the others are among ours with the same scores.
            for theirs in theirs.top_tokens(layer, feature) {
                let ours = found.iter().find(|ours| ours.token == theirs.token).unwrap();
                assert!((ours.score - theirs.score).abs() < 1e-6, "layer {layer}, feature {feature}");
            }
        }
    }
}

#[test]
fn each_level_holds_more_than_the_one_before() {
    let mut before = BTreeSet::new();
    for level in ExtractLevel::ALL {
        let (_folder, target) = place();
        let options =
            ExtractOptions { level, storage: Storage::Floats(FloatType::F32), ..Default::default() };
        assert_eq!(extract_to(&target, &options).level, level);
        let files = names(&target);
        assert!(files.is_superset(&before) && files.len() > before.len(), "{level}: {files:?}");
        before = files;

        let vindex = Vindex::open(&target).unwrap();
        assert_eq!(vindex.level(), level);
        assert_eq!(vindex.manifest().has_model_weights, level >= ExtractLevel::Inference);
        assert!(vindex.vector(Role::Layer(0, LayerRole::FeedForwardNorm)).is_ok());
        let held = |role| vindex.matrix(Role::Layer(0, role)).is_ok();
        assert_eq!(held(LayerRole::Query), level >= ExtractLevel::Attention);
        assert_eq!(held(LayerRole::Up), level >= ExtractLevel::Inference);
        assert_same_weights(&vindex, &checkpoint());
    }
}

#[test]
fn repeating_an_extraction_repeats_its_bytes() {
    let (_folder, first) = place();
    let (_other_folder, second) = place();
    // The second with a slash at its end, which means the same.
    for target in [&first, &second.join("")] {
        extract_to(target, &ExtractOptions { level: ExtractLevel::All, ..Default::default() });
    }
    assert_eq!(names(&first), names(&second));
    for name in names(&first) {
        let (a, b) = (fs::read(first.join(&name)).unwrap(), fs::read(second.join(&name)).unwrap());
        if name == "index.json" {
            let manifest = |json: &[u8]| {
                let mut manifest = Manifest::parse(json).unwrap();
                manifest.source.as_mut().unwrap().extracted_at.take().unwrap();
                Manifest { self_digest: None, ..manifest }
            };
            assert_eq!(manifest(&a), manifest(&b));
        } else {
            assert_eq!(a, b, "{name}");
        }
    }
}

#[test]
fn blocks_are_those_that_were_asked_for() {
    let formats = |q4k: Q4kOptions| {
        let (_folder, target) = place();
        let report =
            extract_to(&target, &ExtractOptions { storage: Storage::Q4k(q4k), ..Default::default() });
        let worst = report.drift.iter().map(|drift| drift.cosine).fold(1.0, f64::min);
        assert!(worst > 0.995, "{worst}");
        let vindex = Vindex::open(&target).unwrap();
        assert_eq!((vindex.manifest().quant, vindex.features(0)), (Quant::Q4k, 512));
        let roles = [LayerRole::Query, LayerRole::Value, LayerRole::Gate, LayerRole::Down];
        let formats = roles.map(|role| vindex.matrix(Role::Layer(1, role)).unwrap().format());
        (formats, target.join("gate_vectors.bin").exists())
    };
    let (q4, q6) = (Format::Q4_K, Format::Q6_K);
    assert_eq!(formats(Q4kOptions::default()), ([q4, q6, q4, q6], false));
    assert_eq!(formats(Q4kOptions { down_q4k: true, gate_vectors: true }), ([q4, q6, q4, q4], true));
}

#[test]
fn a_gguf_file_keeps_its_blocks_and_its_tokenizer() {
    let Some(path) = larql_testing::real_model(larql_testing::SMOLLM2) else { return };
    let (_folder, target) = place();
    let checkpoint = Checkpoint::open(&path).unwrap();
    // One layer, because finding the tokens that features write takes a while.
    let options = ExtractOptions { layers: Some([7, 7]), ..Default::default() };
    let report = extract(&checkpoint, &target, &options, &NoProgress).unwrap();
    assert_eq!((report.quant, report.drift.len()), (Quant::Source, 0));

    let vindex = Vindex::open(&target).unwrap();
    for (role, shape) in checkpoint.spec().tensors() {
        let wanted = matches!(role, Role::Layer(7, _) | Role::Embedding);
        if let (true, Shape::Matrix(..)) = (wanted, shape) {
            let (found, expected) = (vindex.matrix(role).unwrap(), checkpoint.matrix(role).unwrap());
            assert_eq!((found.format(), found.bytes()), (expected.format(), expected.bytes()), "{role}");
        }
    }
    let text = "The capital of France is Paris.";
    let encode = |files: &TextFiles| files.tokenizer().unwrap().unwrap().encode(text, true).unwrap();
    assert_eq!(encode(vindex.text()), encode(checkpoint.text()));

    // The container is sound for other readers, and the blocks' formats are stated in it.
    let container = SafetensorsFile::open(&target.join("gate_vectors.safetensors")).unwrap();
    let gate = &container.tensors()[0];
    assert_eq!((&*gate.name, &*gate.shape), ("layers.7.mlp.gate_proj.weight", &[1536, 360][..]));
    assert_eq!(container.metadata()[&gate.name], r#"{"format":"Q4_1","shape":[1536,576]}"#);
}

#[test]
fn a_vindex_becomes_a_smaller_one() {
    let (folder, target) = place();
    extract_to(&target, &ExtractOptions::default());
    fs::write(target.join("feature_labels.json"), r#"{"1:7": "capital"}"#).unwrap();
    let (small, direct) = (folder.path().join("small.vindex"), folder.path().join("direct.vindex"));
    let vindex = Vindex::open(&target).unwrap();
    quantize(&vindex, &small, &ExtractOptions::in_storage(Storage::Q4k(Q4kOptions::default())), &NoProgress)
        .unwrap();
    extract_to(
        &direct,
        &ExtractOptions { storage: Storage::Q4k(Q4kOptions::default()), ..Default::default() },
    );

    // The same as if it had been extracted so, as the checkpoint's weights are f16.
    for name in names(&direct).into_iter().filter(|name| name != "index.json") {
        assert_eq!(fs::read(small.join(&name)).unwrap(), fs::read(direct.join(&name)).unwrap(), "{name}");
    }
    let (small, direct) = (Vindex::open(&small).unwrap(), Vindex::open(&direct).unwrap());
    assert_eq!(assert_same_weights(&small, &direct), small.spec().tensors().len());
    assert_eq!(small.label(1, 7).unwrap().relation, "capital");
    assert_eq!(
        small.manifest().source,
        vindex.manifest().source.clone().map(|source| {
            let extracted_at = small.manifest().source.as_ref().unwrap().extracted_at.clone();
            larql_vindex_spec::Source { extracted_at, ..source }
        })
    );
    let larger: u64 = Summary::read(&target).unwrap().bytes();
    assert!(Summary::read(small.path()).unwrap().bytes() * 2 < larger);
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let (folder, target) = place();
    let floats = Storage::Floats(FloatType::F32);
    extract_to(
        &target,
        &ExtractOptions { storage: floats, level: ExtractLevel::Browse, ..Default::default() },
    );
    let gates = target.join("gate_vectors.bin");
    let mut bytes = fs::read(&gates).unwrap();
    bytes[400..404].copy_from_slice(&1e6_f32.to_le_bytes());
    fs::write(&gates, bytes).unwrap();

    let q4k = Q4kOptions { gate_vectors: true, ..Default::default() };
    let vindex = Vindex::open(&target).unwrap();
    let error = quantize(
        &vindex,
        &folder.path().join("small"),
        &ExtractOptions::in_storage(Storage::Q4k(q4k)),
        &NoProgress,
    )
    .unwrap_err();
    let expected =
        "`layers.0.mlp.gate_proj.weight` holds 1e6, which F16 cannot hold; store the model as bf16 or f32";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn old_vindexes_can_be_made_smaller_too() {
    let (folder, _) = place();
    for name in ["gemma3-f16-all.vindex", "llama-f32-browse.vindex", "llama-q4k.vindex"] {
        let old = Vindex::open(&fixture(name)).unwrap();
        let target = folder.path().join(name);
        quantize(
            &old,
            &target,
            &ExtractOptions::in_storage(Storage::Q4k(Q4kOptions::default())),
            &NoProgress,
        )
        .unwrap();
        let new = Vindex::open(&target).unwrap();
        assert_eq!((new.level(), new.features(2), new.spec()), (old.level(), 512, old.spec()), "{name}");
        assert!(new.top_tokens(2, 5).eq(old.top_tokens(2, 5)));
    }
}

#[test]
fn a_vindex_is_never_overwritten() {
    let (_folder, target) = place();
    fs::create_dir(&target).unwrap();
    let error = extract(&checkpoint(), &target, &ExtractOptions::default(), &NoProgress).unwrap_err();
    assert!(matches!(error, VindexError::AlreadyExists { .. }), "{error}");
    assert!(names(&target).is_empty());
}

#[test]
fn parts_and_layers_narrow_what_is_written() {
    let (_folder, target) = place();
    let parts = BTreeSet::from([Part::FfnGate, Part::FfnDown, Part::Embeddings]);
    let options = ExtractOptions { parts: Some(parts), layers: Some([1, 1]), ..Default::default() };
    let report = extract_to(&target, &options);
    assert_eq!(report.level, ExtractLevel::Browse);
    let vindex = Vindex::open(&target).unwrap();
    let features: Vec<usize> = (0..3).map(|layer| vindex.features(layer)).collect();
    assert_eq!(features, [0, 512, 0]);
    assert!(vindex.top_tokens(0, 0).next().is_none() && vindex.top_tokens(1, 0).next().is_some());
    assert!(vindex.matrix(Role::Layer(1, LayerRole::Up)).is_err());
    assert!(!target.join("attn_weights.bin").exists());

    for layers in [[1, 3], [2, 1]] {
        let options = ExtractOptions { layers: Some(layers), ..Default::default() };
        let error =
            extract(&checkpoint(), &target.with_extension("other"), &options, &NoProgress).unwrap_err();
        assert!(error.to_string().ends_with("the model has layers 0 to 2"), "{error}");
    }
}

/// Stops when the `left`th step of a stage is reported.
struct StopAt {
    stage: Stage,
    left: AtomicUsize,
    token: CancelToken,
}

impl Progress for StopAt {
    fn report(&self, step: Step<'_>) {
        assert!(step.done <= step.total);
        if step.stage == self.stage && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.token.cancel();
        }
    }

    fn cancel_token(&self) -> &CancelToken {
        &self.token
    }
}

#[test]
fn a_stopped_extraction_goes_on_where_it_was() {
    let (_folder, whole) = place();
    let options = ExtractOptions::default();
    extract_to(&whole, &options);
    for (stage, left) in
        [(Stage::Digests, 1), (Stage::Weights, 1), (Stage::Weights, 15), (Stage::DownMeta, 2)]
    {
        let (_folder, target) = place();
        let stop = StopAt { stage, left: AtomicUsize::new(left), token: CancelToken::new() };
        let error = extract(&checkpoint(), &target, &options, &stop).unwrap_err();
        assert!(matches!(error, VindexError::Cancelled), "{error}");
        assert!(!target.exists());
        let partial = target.with_file_name("tiny.vindex.partial");
        // Before the first file is complete there is nothing to go on from, and nothing is left.
        let goes_on = (stage, left) != (Stage::Weights, 1) && stage != Stage::Digests;
        assert_eq!(partial.exists(), goes_on);
        if goes_on {
            assert!(matches!(Vindex::open(&partial), Err(VindexError::NotAVindex { .. })));
            let error = extract(&checkpoint(), &target, &options, &NoProgress).unwrap_err();
            assert!(matches!(error, VindexError::Unfinished { .. }), "{error}");
            let other = ExtractOptions { top_k: 3, resume: true, ..options.clone() };
            let error = extract(&checkpoint(), &target, &other, &NoProgress).unwrap_err();
            assert!(matches!(error, VindexError::OtherExtraction { .. }), "{error}");
        }
        extract_to(&target, &ExtractOptions { resume: true, ..options.clone() });
        assert!(!partial.exists());
        assert_eq!(names(&target), names(&whole));
        for name in names(&whole).into_iter().filter(|name| name != "index.json") {
            assert_eq!(fs::read(whole.join(&name)).unwrap(), fs::read(target.join(&name)).unwrap(), "{name}");
        }
    }
}

#[test]
fn errors_name_tensors_that_cannot_be_written() {
    let (folder, _) = place();
    let target = folder.path().join("missing").join("tiny.vindex");
    let error = extract(&checkpoint(), &target, &ExtractOptions::default(), &NoProgress).unwrap_err();
    assert!(matches!(error, VindexError::Io { .. }), "{error}");
    assert!(error.to_string().contains("tiny.vindex.partial"), "{error}");
}

/// A checkpoint with its matrices in other blocks.
struct InBlocks<'a>(&'a Checkpoint, Format);

impl WeightSource for InBlocks<'_> {
    fn spec(&self) -> &larql_models::ModelSpec {
        self.0.spec()
    }

    fn matrix(&self, role: Role) -> Result<larql_compute::Matrix, larql_models::ModelError> {
        let matrix = self.0.matrix(role)?;
        let mut bytes = Vec::new();
        self.1.encode(&matrix.view().to_f32(), &mut bytes).unwrap();
        Ok(larql_compute::Matrix::new(self.1, matrix.rows(), matrix.cols(), bytes.into()).unwrap())
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, larql_models::ModelError> {
        self.0.vector(role)
    }
}

#[test]
fn blocks_that_are_smaller_already_are_kept() {
    let checkpoint = checkpoint();
    let (folder, source) = place();
    let gguf = folder.path().join("small.gguf");
    let weights = InBlocks(&checkpoint, Format::Q4_0);
    let export = larql_models::Export {
        weights: &weights,
        text: checkpoint.text(),
        path: checkpoint.path(),
        source: None,
        unused: &[],
    };
    larql_models::write_gguf(export, &gguf, larql_models::ExportOptions::default()).unwrap();
    let options = ExtractOptions { level: ExtractLevel::All, ..ExtractOptions::default() };
    extract(&Checkpoint::open(&gguf).unwrap(), &source, &options, &NoProgress).unwrap();
    let vindex = Vindex::open(&source).unwrap();
    let target = folder.path().join("quantized.vindex");
    let report = quantize(
        &vindex,
        &target,
        &ExtractOptions::in_storage(Storage::Q4k(Q4kOptions::default())),
        &NoProgress,
    )
    .unwrap();
    assert!(report.kept > 0);
    let bytes = |path: &Path| Summary::read(path).unwrap().bytes();
    // Lists of tensors may grow by a few lines.
    assert!(bytes(&target) <= bytes(&source) + 4096, "{} and {}", bytes(&target), bytes(&source));
    let quantized = Vindex::open(&target).unwrap();
    for role in [Role::Embedding, Role::Layer(0, LayerRole::Down), Role::Layer(1, LayerRole::Value)] {
        assert_eq!(quantized.matrix(role).unwrap().bytes(), vindex.matrix(role).unwrap().bytes(), "{role}");
    }
}
