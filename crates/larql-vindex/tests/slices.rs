//! Slices: vindexes without some of their files open as what they are, and say what they cannot do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::{Activations, Pool};
use larql_core::progress::NoProgress;
use larql_inference::Model;
use larql_models::{Checkpoint, LayerRole, Role, WeightSource};
use larql_vindex::Component::{Attention, Down, DownMeta, Embeddings, Gate, Head, Norms, Router, Up};
use larql_vindex::search::gate_knn;
use larql_vindex::{
    CompileOptions, Component, ExtractOptions, FeatureEdit, FeatureEdits, FeatureStore, Holdings, Overlay,
    Q4kOptions, Storage, Summary, Vindex, VindexError, compile, extract, verify,
};
use larql_vindex_spec::{ExtractLevel, FloatType};
use serde_json::Value;

/// Everything of a model, stored in one of the ways.
fn whole(folder: &Path, family: &str, storage: Storage) -> PathBuf {
    let checkpoint = Checkpoint::open(&larql_testing::repository("conformance").join(family)).unwrap();
    let path = folder.join(format!("{family}-{storage:?}.vindex"));
    let options = ExtractOptions { level: ExtractLevel::All, storage, ..ExtractOptions::default() };
    extract(&checkpoint, &path, &options, &NoProgress).unwrap();
    path
}

/// A vindex with the files of some components of another alone, whose manifest names `level`.
fn slice(whole: &Path, kept: &[Component], level: ExtractLevel) -> PathBuf {
    let path = whole.with_extension(format!("{level}.vindex"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).unwrap();
    let is_kept = |name: &str| {
        Component::of_file(name).is_some_and(|component| {
            kept.contains(&component)
                || [Component::TensorManifest, Component::Tokenizer].contains(&component)
        })
    };
    for file in Summary::read(whole).unwrap().files.iter().filter(|file| is_kept(&file.name)) {
        let copy = path.join(&file.name);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(whole.join(&file.name), copy).unwrap();
    }
    let mut manifest: Value = serde_json::from_slice(&fs::read(whole.join("index.json")).unwrap()).unwrap();
    let fields = manifest.as_object_mut().unwrap();
    fields.remove("self_digest");
    fields["extract_level"] = level.name().into();
    fields["has_model_weights"] = (level >= ExtractLevel::Attention).into();
    fields["checksums"].as_object_mut().unwrap().retain(|name, _| is_kept(name));
    fs::write(path.join("index.json"), manifest.to_string()).unwrap();
    path
}

fn storages() -> [Storage; 2] {
    [Storage::Floats(FloatType::F32), Storage::Source]
}

/// The manifest is edited by hand, so that it has no seal; the files are as the manifest says.
fn has_all_that_it_lists(path: &Path) -> bool {
    let report = verify(path, &NoProgress).unwrap();
    report.damaged().all(|file| file.name == "index.json")
}

fn refusal(vindex: &Vindex) -> String {
    let error = vindex.require(&Holdings::PREDICTING, "predicting").unwrap_err();
    assert!(matches!(error, VindexError::NotHeld { .. }));
    error.to_string().replace(&vindex.path().display().to_string(), "PATH")
}

/// Products of a query with the gate rows of layer 1.
fn gate_scores(vindex: &dyn FeatureStore) -> Vec<f32> {
    let query: Vec<f32> = (0..vindex.hidden_size()).map(|i| (i as f32).sin()).collect();
    let mut scores = vec![0.0; vindex.features(1)];
    vindex.gate_scores(&Pool::new(1), 1, &Activations::new(&query, query.len()), &mut scores);
    scores
}

#[test]
fn a_browse_slice_is_searched_and_does_not_predict() {
    let folder = tempfile::tempdir().unwrap();
    for storage in storages() {
        let whole = whole(folder.path(), "llama", storage);
        let path = slice(&whole, &[Embeddings, Gate, DownMeta, Norms], ExtractLevel::Browse);
        assert!(has_all_that_it_lists(&path));
        let (vindex, whole) = (Vindex::open(&path).unwrap(), Vindex::open(&whole).unwrap());
        assert!(whole.holdings().contains_all(&Holdings::PREDICTING));
        assert!(vindex.holdings().contains_all(&[Embeddings, Gate, DownMeta, Norms]));
        assert_eq!(vindex.holdings().missing(&Holdings::PREDICTING), [Attention, Up, Down, Head]);
        assert_eq!(gate_scores(&vindex), gate_scores(&whole));
        assert!(vindex.top_tokens(1, 0).eq(whole.top_tokens(1, 0)));
        assert_eq!(
            refusal(&vindex),
            "predicting is not in PATH, which holds level browse; extract the model at level inference to have it"
        );
        let mut down = vec![0.0; vindex.hidden_size()];
        assert!(matches!(vindex.down_vector(1, 0, &mut down), Err(VindexError::NotHeld { .. })));
    }
}

#[test]
fn an_attention_slice_has_attention_and_nothing_to_search() {
    let folder = tempfile::tempdir().unwrap();
    for storage in storages().into_iter().chain([Storage::Q4k(Q4kOptions::default())]) {
        let whole = whole(folder.path(), "llama_512", storage);
        let path = slice(&whole, &[Attention, Norms], ExtractLevel::Attention);
        assert!(has_all_that_it_lists(&path));
        let (vindex, whole) = (Vindex::open(&path).unwrap(), Vindex::open(&whole).unwrap());
        assert!(vindex.holdings().contains_all(&[Attention, Norms]) && !vindex.holdings().contains(Gate));
        let query = Role::Layer(1, LayerRole::Query);
        assert_eq!(vindex.matrix(query).unwrap().bytes(), whole.matrix(query).unwrap().bytes());
        assert_eq!(vindex.features(1), 0);
        assert!(gate_scores(&vindex).is_empty());
        assert!(gate_knn(&vindex, &Pool::new(1), 1, &vec![1.0; vindex.hidden_size()], 5).is_empty());
        let error = vindex.embedding_query(&[1]).unwrap_err().to_string();
        assert!(error.ends_with(": it is a slice without embeddings; use a vindex that has them"), "{error}");
        assert!(refusal(&vindex).ends_with("extract the model at level inference to have it"));
        let pool = Arc::new(Pool::new(1));
        assert!(Model::load(&vindex, Arc::clone(&pool)).is_err());
        assert!(Model::load_held(&vindex, pool).is_ok());
        assert!(Overlay::new(Arc::new(vindex), FeatureEdits::default()).is_ok());
    }
}

#[test]
fn a_feed_forward_slice_has_features_and_no_attention() {
    let folder = tempfile::tempdir().unwrap();
    for (family, storage) in [
        ("llama", storages()[0]),
        ("llama", storages()[1]),
        ("mixtral", storages()[1]),
        ("llama_512", Storage::Q4k(Q4kOptions::default())),
    ] {
        let whole = whole(folder.path(), family, storage);
        let kept = [Gate, Up, Down, Norms, Router, Component::FeedForward, Component::Experts];
        let path = slice(&whole, &kept, ExtractLevel::Inference);
        assert!(has_all_that_it_lists(&path));
        let (vindex, whole) = (Vindex::open(&path).unwrap(), Vindex::open(&whole).unwrap());
        assert!(vindex.holdings().contains_all(&[Gate, Up, Down, Norms, Router]));
        assert_eq!(gate_scores(&vindex), gate_scores(&whole));
        let fired = |vindex: &Vindex| {
            let input: Vec<f32> = (0..vindex.hidden_size()).map(|i| (i as f32).cos()).collect();
            let mut activations = vec![0.0; vindex.features(1)];
            let input = Activations::new(&input, input.len());
            vindex.activations(&Pool::new(1), 1, &input, &mut activations).unwrap();
            activations
        };
        assert_eq!(fired(&vindex), fired(&whole));
        assert_eq!(
            refusal(&vindex),
            "predicting is not in PATH, which is a slice without embeddings, attention weights and the output head; \
             use a vindex that has them"
        );
        let error = vindex.matrix(Role::Layer(0, LayerRole::Query)).unwrap_err().to_string();
        assert!(error.contains("a slice without attention weights"), "{error}");
        let pool = Arc::new(Pool::new(1));
        assert!(Model::load(&vindex, Arc::clone(&pool)).is_err());
        assert!(Model::load_held(&vindex, pool).is_ok());
    }
}

#[test]
fn a_tied_head_needs_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole(folder.path(), "gemma3_text", Storage::Source);
    let vindex = Vindex::open(&whole).unwrap();
    assert!(vindex.holdings().contains(Head));
    assert!(vindex.require(&Holdings::PREDICTING, "predicting").is_ok());
    assert!(vindex.holdings().iter().any(|component| component == Component::Config));
}

#[test]
fn edits_of_a_slice_are_compiled_into_a_slice() {
    let folder = tempfile::tempdir().unwrap();
    for storage in storages() {
        let whole = whole(folder.path(), "llama", storage);
        let path = slice(&whole, &[Gate, Up, Down, Norms], ExtractLevel::Inference);
        let mut edits = FeatureEdits::default();
        edits.set(1, 3, FeatureEdit::Deleted);
        let overlay = Overlay::new(Arc::new(Vindex::open(&path).unwrap()), edits).unwrap();
        let target = path.with_extension("compiled.vindex");
        compile(&overlay, &target, &CompileOptions::default(), &NoProgress).unwrap();
        assert!(verify(&target, &NoProgress).unwrap().is_sound());
        let compiled = Vindex::open(&target).unwrap();
        assert_eq!(compiled.holdings().missing(&Holdings::PREDICTING), [Embeddings, Attention, Head]);
        assert_eq!(gate_scores(&compiled), gate_scores(&overlay));
    }
}
