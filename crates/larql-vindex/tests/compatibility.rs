//! Vindexes of the existing implementation are read as they are, and run as their source does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::sync::Arc;

use larql_compute::{Format, Pool};
use larql_inference::{KeyValueCache, Model};
use larql_models::{Checkpoint, LayerRole, Role, Shape, WeightSource};
use larql_vindex::{FeatureStore, Vindex};
use larql_vindex_spec::{ExtractLevel, Quant};

fn fixture(name: &str) -> PathBuf {
    larql_testing::repository("fixtures").join(name)
}

fn open(name: &str) -> Vindex {
    Vindex::open(&fixture(name)).unwrap()
}

/// The smallest cosine of corresponding tensors of `found` and `expected`.
fn least_cosine(found: &dyn WeightSource, expected: &dyn WeightSource) -> f64 {
    let values = |source: &dyn WeightSource, role, shape| match shape {
        Shape::Vector(_) => source.vector(role).unwrap(),
        Shape::Matrix(..) => source.matrix(role).unwrap().view().to_f32(),
    };
    let cosine = |a: &[f32], b: &[f32]| {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let cosines = expected.spec().tensors().into_iter().map(|(role, shape)| {
        let (found, expected) = (values(found, role, shape), values(expected, role, shape));
        assert_eq!(found.len(), expected.len(), "{role}");
        cosine(&found, &expected)
    });
    cosines.fold(f64::INFINITY, f64::min)
}

fn logits(source: &dyn WeightSource, tokens: &[u32]) -> Vec<f32> {
    let model = Model::load(source, Arc::new(Pool::new(1))).unwrap();
    model.pass().last_logits(&mut KeyValueCache::new(model.spec()), tokens).unwrap()
}

#[test]
fn f16_weights_are_the_checkpoints() {
    let checkpoint = Checkpoint::open(&fixture("llama-checkpoint")).unwrap();
    let vindex = open("llama-f16-all.vindex");
    assert_eq!(vindex.level(), ExtractLevel::All);
    assert!(least_cosine(&vindex, &checkpoint) > 0.999_999);
}

#[test]
fn blocks_are_used_where_there_are_any() {
    let checkpoint = Checkpoint::open(&fixture("llama-checkpoint")).unwrap();
    let vindex = open("llama-q4k.vindex");
    assert_eq!(vindex.manifest().quant, Quant::Q4k);
    let format = |role| vindex.matrix(Role::Layer(1, role)).unwrap().format();
    assert_eq!(format(LayerRole::Gate), Format::Q4_K);
    assert_eq!(format(LayerRole::Value), Format::Q6_K);
    assert_eq!(format(LayerRole::Down), Format::Q6_K);
    assert!(least_cosine(&vindex, &checkpoint) > 0.99);
}

#[test]
fn newer_names_of_block_files_are_read() {
    let (old, folder) = (fixture("llama-q4k.vindex"), tempfile::tempdir().unwrap());
    for entry in std::fs::read_dir(&old).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().replace("q4k", "kquant");
        std::fs::copy(&path, folder.path().join(name)).unwrap();
    }
    let manifest = folder.path().join("index.json");
    let json = std::fs::read_to_string(&manifest).unwrap().replace("\"q4k\"", "\"kquant\"");
    std::fs::remove_file(&manifest).unwrap();
    std::fs::write(&manifest, json).unwrap();
    let (old, new) = (Vindex::open(&old).unwrap(), Vindex::open(folder.path()).unwrap());
    assert_eq!(new.manifest().quant, Quant::Q4k);
    assert!(least_cosine(&new, &old) > 0.999_999);
}

#[test]
fn models_run_as_the_reference_says() {
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
    for (model, name) in [("llama", "llama-f16-all.vindex"), ("gemma3", "gemma3-f16-all.vindex")] {
        let vindex = open(name);
        for (prompt, expected) in expected[model].as_object().unwrap() {
            let tokens: Vec<u32> = serde_json::from_value(expected["tokens"].clone()).unwrap();
            let top: Vec<(usize, f32)> = serde_json::from_value(expected["top10"].clone()).unwrap();
            let found = logits(&vindex, &tokens);
            for (token, logit) in top {
                let difference = (found[token] - logit).abs();
                assert!(difference < 1e-3, "{name}, {prompt:?}, token {token}: {difference}");
            }
        }
    }
}

#[test]
fn errors_name_components_that_a_level_leaves_out() {
    let vindex = open("llama-f32-browse.vindex");
    assert_eq!(vindex.matrix(Role::Embedding).unwrap().format(), Format::F32);
    let error = vindex.matrix(Role::Layer(0, LayerRole::Query)).unwrap_err().to_string();
    let place = vindex.path().display();
    assert_eq!(
        error,
        format!(
            "the Query of layer 0 is not in {place}: it holds level browse; extract the model at level attention to have it"
        )
    );
}

#[test]
fn features_are_records() {
    let vindex = open("llama-q4k.vindex");
    assert_eq!((vindex.layers(), vindex.features(2), vindex.features(3)), (3, 512, 0));
    let (mut gate, mut down) = (vec![0.0; 256], vec![0.0; 256]);
    vindex.gate_row(2, 511, &mut gate);
    // Searching uses the exact rows that lie beside the blocks.
    let blocks = vindex.matrix(Role::Layer(2, LayerRole::Gate)).unwrap().view().to_f32();
    assert_ne!(gate, blocks[511 * 256..]);
    vindex.down_vector(2, 511, &mut down).unwrap();
    let columns = vindex.matrix(Role::Layer(2, LayerRole::Down)).unwrap().view().to_f32();
    assert!(down.iter().zip(columns.chunks_exact(512)).all(|(value, row)| *value == row[511]));
    assert_eq!(vindex.top_tokens(0, 0).next().unwrap().token, 272);
}
