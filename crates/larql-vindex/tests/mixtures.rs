//! Mixtures of experts in a vindex: what is stored where, and how their features are searched.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::path::Path;

use larql_compute::{Activations, Format, Pool};
use larql_core::progress::NoProgress;
use larql_models::{Checkpoint, LayerRole, Role, WeightSource};
use larql_vindex::search::{Ranking, gate_knn, walk};
use larql_vindex::{ExtractOptions, FeatureStore, Storage, Vindex, VindexError, extract, quantize, verify};
use larql_vindex_spec::{ExtractLevel, FloatType};

fn folder(family: &str) -> Checkpoint {
    Checkpoint::open(&larql_testing::repository("conformance").join(family)).unwrap()
}

fn extracted(family: &str, target: &Path, level: ExtractLevel, storage: Storage) -> Vindex {
    let options = ExtractOptions { level, storage, ..ExtractOptions::default() };
    extract(&folder(family), target, &options, &NoProgress).unwrap();
    Vindex::open(target).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const F32: Storage = Storage::Floats(FloatType::F32);

#[test]
fn experts_have_a_file_for_each_layer_and_the_router_one_for_all() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("deepseek.vindex");
    let vindex = extracted("deepseek_v2_lite", &path, ExtractLevel::Inference, F32);
    // Layer 0 is dense.
    assert_eq!(names(&path.join("layers")), ["layer_01.weights", "layer_02.weights"]);
    assert!(path.join("router_weights.bin").is_file());
    let slot = vindex.manifest().slot(1).unwrap();
    assert_eq!((slot.num_experts, slot.num_features_per_expert), (Some(8), Some(24)));
    assert_eq!(slot.num_features, 8 * 24 + 48);
    assert_eq!(slot.file.as_deref(), Some("layers/layer_01.weights"));
    assert_eq!(vindex.manifest().slot(0).unwrap().num_experts, None);
    assert_eq!(vindex.manifest().extra["moe_config"]["num_experts"], 8);
    assert!(verify(&path, &NoProgress).unwrap().is_sound());
    let file = path.join("layers/layer_02.weights");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let report = verify(&path, &NoProgress).unwrap();
    assert_eq!(
        report.damaged().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["layers/layer_02.weights"]
    );
}

#[test]
fn features_are_numbered_expert_by_expert_and_the_shared_ones_come_last() {
    let scratch = tempfile::tempdir().unwrap();
    let pool = Pool::new(2);
    for (index, level) in [ExtractLevel::Browse, ExtractLevel::Inference].into_iter().enumerate() {
        let path = scratch.path().join(format!("{index}.vindex"));
        let vindex = extracted("deepseek_v2_lite", &path, level, F32);
        let checkpoint = folder("deepseek_v2_lite");
        let (features, shared) = (24, 48);
        assert_eq!(vindex.features(1), 8 * features + shared);
        let query: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut scores = vec![0.0; vindex.features(1)];
        vindex.gate_scores(&pool, 1, &Activations::new(&query, 64), &mut scores);
        for (feature, role, row) in [
            (0, LayerRole::ExpertGate(0), 0),
            (5 * features + 3, LayerRole::ExpertGate(5), 3),
            (8 * features + 40, LayerRole::Gate, 40),
        ] {
            let expected =
                checkpoint.matrix(Role::Layer(1, role)).unwrap().slice_rows(row..row + 1).view().to_f32();
            let mut found = vec![0.0; 64];
            vindex.gate_row(1, feature, &mut found);
            assert_eq!(found, expected);
            let score: f32 = expected.iter().zip(&query).map(|(w, x)| w * x).sum();
            assert!((scores[feature] - score).abs() < 1e-4);
            if level == ExtractLevel::Inference {
                let role = match role {
                    LayerRole::ExpertGate(expert) => LayerRole::ExpertDown(expert),
                    _ => LayerRole::Down,
                };
                let down = checkpoint.matrix(Role::Layer(1, role)).unwrap();
                let column: Vec<f32> = (0..64).map(|r| down.view().to_f32()[r * down.cols() + row]).collect();
                vindex.down_vector(1, feature, &mut found).unwrap();
                assert_eq!(found, column);
            }
        }
        assert_eq!(vindex.top_tokens(1, 5 * features + 3).count(), 10);
        let strongest = gate_knn(&vindex, &pool, 1, &query, 1)[0];
        assert!(scores.iter().all(|score| score.abs() <= strongest.gate.abs()));
    }
}

#[test]
fn a_walk_stays_with_the_experts_that_its_query_is_routed_to() {
    let scratch = tempfile::tempdir().unwrap();
    let pool = Pool::new(2);
    for family in ["mixtral", "gpt_oss", "gemma4_moe"] {
        for (level, ranking) in
            [(ExtractLevel::Browse, Ranking::Gate), (ExtractLevel::Inference, Ranking::Activation)]
        {
            let path = scratch.path().join(format!("{family}-{level}.vindex"));
            let vindex = extracted(family, &path, level, F32);
            let mixture = vindex.spec().layers[1].feed_forward.mixture().unwrap().clone();
            let query = vindex.layer_query(1, &vindex.embedding_query(&[77]).unwrap());
            let weights = vindex.feature_weights(&pool, 1, &query).unwrap().unwrap();
            let chosen = |feature: usize| weights[feature] != 0.0;
            let per_expert = weights[..mixture.experts * mixture.features].chunks_exact(mixture.features);
            let routed = per_expert.filter(|weights| weights[0] != 0.0).count();
            assert_eq!(routed, mixture.router.chosen);
            let hits = walk(&vindex, &pool, 1, &query, ranking, usize::MAX).unwrap();
            let all = gate_knn(&vindex, &pool, 1, &query, usize::MAX);
            let expected = all.iter().filter(|hit| chosen(hit.feature) && hit.gate > 0.0).count();
            assert_eq!(hits.len(), expected, "{family} {level}");
            assert!(hits.iter().all(|hit| chosen(hit.feature)));
            assert!(all.len() > hits.len());
            if level == ExtractLevel::Browse {
                let refused = walk(&vindex, &pool, 1, &query, Ranking::Activation, 1);
                assert!(matches!(refused, Err(VindexError::NotHeld { .. })));
            }
        }
    }
}

#[test]
fn packed_experts_stay_packed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("gpt_oss.vindex");
    let vindex = extracted("gpt_oss_mxfp4", &path, ExtractLevel::Inference, Storage::Automatic);
    assert_eq!(names(&path.join("layers")), [0, 1, 2].map(|layer| format!("layer_0{layer}.safetensors")));
    assert_eq!(vindex.gate_format(1), Some(Format::MXFP4));
    let checkpoint = folder("gpt_oss_mxfp4");
    for role in [LayerRole::ExpertGate(3), LayerRole::ExpertUp(0), LayerRole::ExpertDown(2)] {
        let role = Role::Layer(2, role);
        assert_eq!(vindex.matrix(role).unwrap().bytes(), checkpoint.matrix(role).unwrap().bytes());
    }
}

#[test]
fn a_mixture_is_quantised_from_its_vindex_too() {
    let scratch = tempfile::tempdir().unwrap();
    let exact = extracted("mixtral", &scratch.path().join("exact.vindex"), ExtractLevel::Inference, F32);
    let path = scratch.path().join("blocks.vindex");
    quantize(&exact, &path, &ExtractOptions::in_storage(Storage::Q4k(Default::default())), &NoProgress)
        .unwrap();
    let blocks = Vindex::open(&path).unwrap();
    let format = |role| blocks.matrix(Role::Layer(0, role)).unwrap().format();
    // Rows of 64 and 32 values are too short for blocks of 256.
    assert_eq!(format(LayerRole::ExpertGate(1)), Format::Q5_0);
    assert_eq!(format(LayerRole::ExpertDown(1)), Format::Q8_0);
    assert_eq!(format(LayerRole::Router), Format::F32);
    assert_eq!(blocks.features(0), exact.features(0));
}
