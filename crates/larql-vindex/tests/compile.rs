//! Compiling: what an overlay says, as a vindex of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::{Activations, Format, Pool};
use larql_core::progress::{CancelToken, NoProgress};
use larql_inference::{KeyValueCache, Model};
use larql_models::{
    Checkpoint, Export, ExportOptions, LayerRole, ModelSpec, Role, Shape, WeightSource, write_safetensors,
};
use larql_vindex::{
    CompileOptions, CompileReport, Component, EditedFeature, ExtractOptions, FeatureEdit, FeatureEdits,
    FeatureStore, KnnStore, Overlay, Patch, PatchStack, Q4kOptions, StatedEdge, Storage, Summary, TokenScore,
    Vindex, VindexError, compile, extract, verify,
};
use larql_vindex_spec::{ExtractLevel, FloatType};
use tempfile::TempDir;

const TOKENS: [u32; 4] = [17, 99, 200, 5];

fn fixture(name: &str) -> PathBuf {
    larql_testing::repository("fixtures").join(name)
}

/// A vindex of a checkpoint in the repository's test data, or of the bundled model.
fn extracted(source: &str, storage: Storage, level: ExtractLevel) -> (TempDir, PathBuf) {
    let source = match source {
        "atlas" => Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas"),
        other => larql_testing::repository(other),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.vindex");
    let options = ExtractOptions { storage, level, ..ExtractOptions::default() };
    extract(&Checkpoint::open(&source).unwrap(), &path, &options, &NoProgress).unwrap();
    (folder, path)
}

fn open(path: &Path) -> Arc<Vindex> {
    Arc::new(Vindex::open(path).unwrap())
}

fn vector(length: usize, seed: usize) -> Option<Arc<[f32]>> {
    Some((0..length).map(|i| ((i * 37 + seed * 101) % 23) as f32 * 0.02 - 0.2).collect())
}

/// Edits of all kinds in the first and the last layer.
fn edits(spec: &ModelSpec) -> FeatureEdits {
    let mut edits = FeatureEdits::default();
    for layer in [0, spec.layers.len() - 1] {
        let feed_forward = &spec.layers[layer].feed_forward;
        let whole = EditedFeature {
            gate: vector(spec.hidden_size, 1),
            up: if feed_forward.is_gated() { vector(spec.hidden_size, 2) } else { None },
            down: vector(spec.hidden_size, 3),
            tokens: Some(vec![TokenScore { token: 7, score: 2.5 }]),
            edge: StatedEdge { relation: Some("capital".into()), ..StatedEdge::default() },
        };
        let part = EditedFeature { down: vector(spec.hidden_size, 4), ..EditedFeature::default() };
        let last = feed_forward.features() - 1;
        edits.set(layer, 2, FeatureEdit::Changed(whole.clone()));
        edits.set(layer, 7, FeatureEdit::Deleted);
        edits.set(layer, last / 2, FeatureEdit::Changed(part));
        edits.set(layer, last, FeatureEdit::Changed(whole));
    }
    edits
}

fn logits(model: &Model) -> Vec<f32> {
    model.pass().all_logits(&mut KeyValueCache::new(model.spec()), &TOKENS).unwrap()
}

fn load(source: &dyn WeightSource) -> Model {
    Model::load(source, Arc::new(Pool::new(2))).unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Compiles edits over `base`, and compares what comes out with what they said.
fn check(base: &Path, edits: &FeatureEdits, budget: f32) -> (TempDir, CompileReport) {
    let vindex = open(base);
    let overlay = Overlay::new(Arc::clone(&vindex), edits.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("compiled.vindex");
    let report = compile(&overlay, &target, &CompileOptions::default(), &NoProgress).unwrap();
    assert!(verify(&target, &NoProgress).unwrap().is_sound());
    let compiled = open(&target);
    let wanted = logits(&load(&*vindex).edited(edits).unwrap());
    let found = logits(&load(&*compiled));
    assert!(distance(&wanted, &found) <= budget, "{}", distance(&wanted, &found));
    let pool = Pool::new(1);
    let query = vector(vindex.hidden_size(), 9).unwrap();
    for layer in 0..vindex.layers() {
        let scores = |store: &dyn FeatureStore| {
            let mut scores = vec![0.0; store.features(layer)];
            store.gate_scores(&pool, layer, &Activations::new(&query, query.len()), &mut scores);
            scores
        };
        assert!(distance(&scores(&overlay), &scores(&*compiled)) < 1e-2);
        for feature in 0..vindex.features(layer) {
            assert!(overlay.top_tokens(layer, feature).eq(compiled.top_tokens(layer, feature)));
            let relation = |store: &dyn FeatureStore| store.label(layer, feature).map(|label| label.relation);
            assert_eq!(relation(&overlay), relation(&*compiled));
        }
    }
    assert!(verify(base, &NoProgress).unwrap().is_sound());
    (folder, report)
}

#[test]
fn a_compiled_vindex_says_what_the_overlay_said_in_every_format() {
    let kinds = [
        ("atlas", Storage::Floats(FloatType::F32), 1e-5),
        ("atlas", Storage::Floats(FloatType::F16), 2e-3),
        ("atlas", Storage::Q4k(Q4kOptions::default()), 2e-2),
        ("atlas", Storage::Q4k(Q4kOptions { gate_vectors: true, down_q4k: true }), 2e-2),
        ("mlx/4-bit", Storage::Source, 2e-3),
        ("conformance/gpt2", Storage::Floats(FloatType::F32), 1e-5),
        ("conformance/mixtral", Storage::Floats(FloatType::F32), 1e-5),
        ("conformance/gpt_oss_mxfp4", Storage::Source, 2e-3),
        ("conformance/deepseek_v3", Storage::Floats(FloatType::F16), 2e-3),
        ("conformance/qwen3_moe_256", Storage::Q4k(Q4kOptions::default()), 5e-3),
    ];
    for (source, storage, budget) in kinds {
        println!("{source} {storage:?}");
        let (_folder, base) = extracted(source, storage, ExtractLevel::All);
        let edits = edits(open(&base).spec());
        let (_compiled, report) = check(&base, &edits, budget);
        assert!(report.tensors >= 4 && report.kept > 3, "{source} {storage:?}: {report:?}");
    }
}

#[test]
fn vindexes_of_the_existing_implementation_are_compiled() {
    for (name, budget) in [("llama-f16-all.vindex", 2e-3), ("llama-q4k.vindex", 2e-2)] {
        let edits = edits(open(&fixture(name)).spec());
        check(&fixture(name), &edits, budget);
    }
}

#[test]
fn a_compiled_vindex_is_compiled_again() {
    let (_folder, base) = extracted("atlas", Storage::Q4k(Q4kOptions::default()), ExtractLevel::All);
    let edits = edits(open(&base).spec());
    let (folder, _) = check(&base, &edits, 2e-2);
    let compiled = folder.path().join("compiled.vindex");
    let mut others = FeatureEdits::default();
    let other = EditedFeature { gate: vector(open(&base).hidden_size(), 8), ..EditedFeature::default() };
    others.set(1, 5, FeatureEdit::Changed(other));
    others.set(0, 2, FeatureEdit::Deleted);
    let (again, _) = check(&compiled, &others, 2e-2);
    let folder = again.path().join("compiled.vindex/edited");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
}

#[test]
fn blocks_that_no_edit_touches_keep_their_bytes() {
    let (_folder, base) = extracted("atlas", Storage::Q4k(Q4kOptions::default()), ExtractLevel::All);
    let edits = edits(open(&base).spec());
    let (folder, _) = check(&base, &edits, 2e-2);
    let (before, after) = (open(&base), open(&folder.path().join("compiled.vindex")));
    let mut formats = Vec::new();
    for (role, _) in before.spec().tensors() {
        let (Ok(old), Ok(new)) = (before.matrix(role), after.matrix(role)) else { continue };
        match old.bytes() == new.bytes() {
            true => assert_eq!(old.format(), new.format()),
            false => formats.push(new.format()),
        }
    }
    assert_eq!(formats, [Format::F16; 6]);
}

#[cfg(unix)]
#[test]
fn files_without_edits_are_the_same_files() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, base) = extracted("atlas", Storage::Floats(FloatType::F16), ExtractLevel::All);
    let (folder, report) = check(&base, &FeatureEdits::default(), 0.0);
    let compiled = folder.path().join("compiled.vindex");
    assert_eq!((report.kept, report.tensors), (report.files.len() - 1, 0));
    for (name, bytes) in &report.files {
        let [old, new] = [&base, &compiled].map(|folder| folder.join(name));
        assert_eq!(std::fs::metadata(&new).unwrap().len(), *bytes);
        if name != "index.json" {
            assert_eq!(std::fs::read(&old).unwrap(), std::fs::read(&new).unwrap(), "{name}");
            let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
            let same_device =
                std::fs::metadata(&old).unwrap().dev() == std::fs::metadata(&new).unwrap().dev();
            assert!(!same_device || inode(&old) == inode(&new), "{name}");
        }
    }
}

#[test]
fn failed_compiling_leaves_no_files() {
    let stop = CancelToken::new();
    stop.cancel();
    let base = open(&fixture("llama-f16-all.vindex"));
    let overlay = Overlay::new(Arc::clone(&base), edits(base.spec())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("compiled.vindex");
    assert!(matches!(
        compile(&overlay, &target, &CompileOptions::default(), &stop),
        Err(VindexError::Cancelled)
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    std::fs::create_dir(&target).unwrap();
    assert!(matches!(
        compile(&overlay, &target, &CompileOptions::default(), &NoProgress),
        Err(VindexError::AlreadyExists { .. })
    ));
    std::fs::remove_dir(&target).unwrap();

    let mut huge = FeatureEdits::default();
    let edited = EditedFeature { gate: Some(vec![1e6; 256].into()), ..EditedFeature::default() };
    huge.set(0, 1, FeatureEdit::Changed(edited));
    let error = compile(
        &Overlay::new(Arc::clone(&base), huge).unwrap(),
        &target,
        &CompileOptions::default(),
        &NoProgress,
    )
    .unwrap_err();
    assert!(error.to_string().ends_with("has the value 1e6, which F16 cannot hold"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_slice_without_the_edited_weights_is_not_enough() {
    let base = open(&fixture("llama-f32-browse.vindex"));
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("compiled.vindex");
    let all = Overlay::new(Arc::clone(&base), edits(base.spec())).unwrap();
    let error = compile(&all, &target, &CompileOptions::default(), &NoProgress).unwrap_err();
    assert!(error.to_string().contains("feature 2 is edited, is not in"), "{error}");
    assert!(
        error.to_string().contains("holds level browse; extract the model at level inference"),
        "{error}"
    );

    let mut gates = FeatureEdits::default();
    let edited = EditedFeature { gate: vector(256, 1), ..EditedFeature::default() };
    gates.set(1, 3, FeatureEdit::Changed(edited));
    gates.set(1, 4, FeatureEdit::Deleted);
    compile(
        &Overlay::new(Arc::clone(&base), gates).unwrap(),
        &target,
        &CompileOptions::default(),
        &NoProgress,
    )
    .unwrap();
    let mut row = vec![0.0; 256];
    let compiled = open(&target);
    compiled.gate_row(1, 3, &mut row);
    assert_eq!(row, *vector(256, 1).unwrap());
    compiled.gate_row(1, 4, &mut row);
    assert!(row.iter().all(|value| *value == 0.0) && compiled.top_tokens(1, 4).next().is_none());
}

#[test]
fn a_lower_level_holds_no_matrix_above_it() {
    let kinds = [
        ("atlas", Storage::Floats(FloatType::F16)),
        ("atlas", Storage::Q4k(Q4kOptions::default())),
        ("atlas", Storage::Q4k(Q4kOptions { gate_vectors: true, down_q4k: true })),
        ("mlx/4-bit", Storage::Source),
        ("conformance/mixtral", Storage::Floats(FloatType::F32)),
        ("conformance/gpt_oss_mxfp4", Storage::Source),
        ("conformance/qwen3_moe_256", Storage::Q4k(Q4kOptions::default())),
    ];
    for ((source, storage), level) in
        kinds.into_iter().flat_map(|kind| ExtractLevel::ALL.map(|level| (kind, level)))
    {
        println!("{source} {storage:?} {level}");
        let (folder, base) = extracted(source, storage, ExtractLevel::All);
        let (base, target) = (open(&base), folder.path().join("lower.vindex"));
        let overlay = Overlay::new(Arc::clone(&base), edits(base.spec())).unwrap();
        let options = CompileOptions { level: Some(level), ..CompileOptions::default() };
        let report = compile(&overlay, &target, &options, &NoProgress).unwrap();
        assert!(verify(&target, &NoProgress).unwrap().is_sound());
        let lower = open(&target);
        assert_eq!(lower.level(), level);
        for (role, shape) in base.spec().tensors().into_iter().filter(|(role, _)| base.holds(*role)) {
            let is_wanted = level_of(role) <= level;
            assert!(lower.holds(role) == is_wanted || matches!(shape, Shape::Vector(_)), "{role}");
            if lower.holds(role) && is_wanted {
                let (wanted, found) = (overlay.matrix(role).unwrap(), lower.matrix(role).unwrap());
                assert!(wanted.bytes() == found.bytes() && wanted.format() == found.format(), "{role}");
            }
        }
        let bytes = |files: &[(String, u64)]| files.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let parts = report.files.iter().filter_map(|(name, _)| Component::of_file(name));
        assert!(parts.clone().all(|part| part.level() <= level));
        assert!(
            level > ExtractLevel::Attention
                || bytes(&report.files) < Summary::read(base.path()).unwrap().bytes()
        );
        let rows = |store: &dyn FeatureStore, layer| {
            let mut row = vec![0.0; store.hidden_size()];
            store.gate_row(layer, 5, &mut row);
            row
        };
        // Blocks that an edit touches become f16.
        assert!((0..base.layers()).all(|layer| distance(&rows(&*base, layer), &rows(&*lower, layer)) < 1e-3));
        if level >= ExtractLevel::Inference {
            load(&*lower);
        }
    }
}

/// The lowest level that has a matrix.
fn level_of(role: Role) -> ExtractLevel {
    use LayerRole::*;
    match role {
        Role::Layer(_, Query | Key | Value | AttentionOutput | QueryDown | KeyValueDown | KeyValueUp) => {
            ExtractLevel::Attention
        }
        Role::Layer(_, Up | Down | ExpertUp(_) | ExpertDown(_)) | Role::Head => ExtractLevel::Inference,
        _ => ExtractLevel::Browse,
    }
}

#[test]
fn a_level_that_the_base_has_not_is_refused() {
    let base = open(&fixture("llama-f32-browse.vindex"));
    let overlay = Overlay::new(Arc::clone(&base), FeatureEdits::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = CompileOptions { level: Some(ExtractLevel::Inference), ..CompileOptions::default() };
    let error = compile(&overlay, &folder.path().join("x.vindex"), &options, &NoProgress).unwrap_err();
    assert!(error.to_string().starts_with("level inference, which is to be compiled, is not in"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_edge_memory_is_copied_by_compiling() {
    let base = open(&fixture("llama-f16-all.vindex"));
    let mut stack = PatchStack::new(base).unwrap();
    stack.apply("sample", Patch::read(&fixture("sample.vlp")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("compiled.vindex");
    compile(stack.overlay(), &target, &CompileOptions::default(), &NoProgress).unwrap();
    // The key is the one that the existing implementation compiled the same patch into.
    let theirs = KnnStore::parse(&std::fs::read(fixture("knn_store.bin")).unwrap()).unwrap();
    let ours = KnnStore::parse(&std::fs::read(target.join("knn_store.bin")).unwrap()).unwrap();
    let [our_key, their_key] = [&ours, &theirs].map(|store| &store.entries(1)[0].key);
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let lengths = (product(our_key, our_key) * product(their_key, their_key)).sqrt();
    assert!(product(our_key, their_key) / lengths > 0.99999);
    let compiled = PatchStack::new(open(&target)).unwrap();
    assert_eq!(compiled.overlay().knn().entries(1)[0].triple.entity, "Japan");
    assert_eq!(compiled.overlay().label(1, 498).unwrap().relation, "capital");
}

#[test]
fn a_model_is_written_with_its_edits() {
    let (_folder, base) = extracted("atlas", Storage::Automatic, ExtractLevel::All);
    let vindex = open(&base);
    let overlay = Overlay::new(Arc::clone(&vindex), edits(vindex.spec())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    let export =
        Export { weights: &overlay, text: overlay.base().text(), path: &base, source: None, unused: &[] };
    write_safetensors(export, &target, ExportOptions::default()).unwrap();
    let written = logits(&load(&Checkpoint::open(&target).unwrap()));
    let wanted = logits(&load(&*vindex).edited(overlay.edits()).unwrap());
    assert!(distance(&written, &wanted) <= 2e-3);
}
