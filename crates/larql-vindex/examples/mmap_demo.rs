//! Opening maps files instead of reading them: `cargo run -p larql-vindex --example mmap_demo`.
//!
//! Extracts atlas, then prints the time of opening the vindex and of reading all gate rows.

use std::error::Error;
use std::time::Instant;

use larql_core::progress::NoProgress;
use larql_models::Checkpoint;
use larql_vindex::{ExtractOptions, FeatureStore, Summary, Vindex, extract};
use larql_vindex_spec::ExtractLevel;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("atlas.vindex");
    let checkpoint = Checkpoint::open(&larql_testing::shipped("atlas"))?;
    let options = ExtractOptions { level: ExtractLevel::Inference, ..ExtractOptions::default() };
    extract(&checkpoint, &path, &options, &NoProgress)?;
    println!("on disk                {:5.1} MB", Summary::read(&path)?.bytes() as f64 / 1e6);

    let started = Instant::now();
    let vindex = Vindex::open(&path)?;
    println!("open                   {:5.1} ms", started.elapsed().as_secs_f64() * 1e3);

    let started = Instant::now();
    let mut row = vec![0.0; vindex.hidden_size()];
    let mut sum = 0.0;
    for layer in 0..vindex.layers() {
        for feature in 0..vindex.features(layer) {
            vindex.gate_row(layer, feature, &mut row);
            sum += row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        }
    }
    println!(
        "read all gate rows     {:5.1} ms (norm {:.2})",
        started.elapsed().as_secs_f64() * 1e3,
        sum.sqrt()
    );
    Ok(())
}
