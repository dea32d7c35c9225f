//! Growth of the cost of searching and making a vindex with the size of the model: `cargo bench -p larql-vindex --bench
//! vindex_scaling`. The exponent says with which power of the amount the time grew since the line before: 1 is
//! proportional. How cost grows with context and with the features that a walk takes is in the bench `inference` of
//! larql-inference.

use std::hint::black_box;

use larql_compute::{Activations, Pool, Precision, matmul};
use larql_core::progress::NoProgress;
use larql_models::{Checkpoint, Role, WeightSource};
use larql_testing::Table;
use larql_vindex::search::{gate_knn, gate_knn_in_layers};
use larql_vindex::{ExtractOptions, FeatureStore, Part, Vindex, extract};
use larql_vindex_spec::ExtractLevel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let model = larql_testing::real_model(larql_testing::SMOLLM2)
        .unwrap_or_else(|| larql_testing::repository("conformance/llama_512"));
    let checkpoint = Checkpoint::open(&model)?;
    let pool = Pool::for_this_machine();
    let path = folder.path().join("gates.vindex");
    let parts = Some(vec![Part::FfnGate, Part::Embeddings].into_iter().collect());
    let options = ExtractOptions { level: ExtractLevel::Browse, parts, ..ExtractOptions::default() };
    extract(&checkpoint, &path, &options, &NoProgress)?;
    let vindex = Vindex::open(&path)?;
    let query: Vec<f32> = (0..vindex.hidden_size()).map(|i| (i as f32 * 0.7).sin()).collect();

    let mut table = Table::of_growth("features searched (10 nearest gates)");
    for layers in doubling(1, vindex.layers()) {
        let features: usize = (0..layers).map(|layer| vindex.features(layer)).sum();
        table.growth(&features.to_string(), features, || {
            drop(black_box(gate_knn_in_layers(&vindex, &pool, 0..layers, &query, 10)));
        });
    }
    println!();

    let mut table = Table::of_growth("nearest gates asked for, in one layer");
    for k in doubling(1, 256.min(vindex.features(0))) {
        table.growth(&k.to_string(), k, || drop(black_box(gate_knn(&vindex, &pool, 0, &query, k))));
    }
    println!();

    let mut table = Table::of_growth("tokens of the vocabulary scored");
    let embedding = vindex.matrix(Role::Embedding)?;
    for rows in doubling(embedding.rows().div_ceil(32), embedding.rows()) {
        let part = embedding.slice_rows(0..rows);
        let mut scores = vec![0.0; rows];
        table.growth(&rows.to_string(), rows, || {
            let input = Activations::new(&query, query.len());
            matmul(&pool, part.view(), &input, Precision::Exact, black_box(&mut scores));
        });
    }
    println!();

    let mut table = Table::of_growth("layers extracted for browsing");
    for layers in doubling(1, vindex.layers().min(8)) {
        let mut number = 0;
        let options = ExtractOptions {
            level: ExtractLevel::Browse,
            layers: Some([0, layers - 1]),
            parts: Some(vec![Part::FfnGate, Part::FfnDown].into_iter().collect()),
            ..ExtractOptions::default()
        };
        table.growth(&layers.to_string(), layers, || {
            number += 1;
            let target = folder.path().join(format!("{layers}-{number}.vindex"));
            extract(&checkpoint, &target, &options, &NoProgress).expect("there is room");
        });
    }
    Ok(())
}

/// `first`, twice as much and so on, and last of all `last`.
fn doubling(first: usize, last: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(first), move |n| (*n < last).then(|| (2 * n).min(last)))
}
