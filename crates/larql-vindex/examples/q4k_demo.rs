//! Weights in 4-bit blocks: `cargo run -p larql-vindex --example q4k_demo`.
//!
//! Extracts atlas, quantises the vindex, and prints sizes and the largest differences from the source.

use std::error::Error;

use larql_core::progress::NoProgress;
use larql_models::Checkpoint;
use larql_vindex::{ExtractOptions, ExtractReport, Q4kOptions, Storage, Vindex, extract, quantize};
use larql_vindex_spec::ExtractLevel;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let [floats, blocks] = ["floats.vindex", "blocks.vindex"].map(|name| folder.path().join(name));
    let checkpoint = Checkpoint::open(&larql_testing::shipped("atlas"))?;
    let options = ExtractOptions { level: ExtractLevel::Inference, ..ExtractOptions::default() };
    let extracted = extract(&checkpoint, &floats, &options, &NoProgress)?;
    let quantised = quantize(
        &Vindex::open(&floats)?,
        &blocks,
        &ExtractOptions::in_storage(Storage::Q4k(Q4kOptions::default())),
        &NoProgress,
    )?;

    let megabytes = |report: &ExtractReport| {
        let bytes: u64 = report.files.iter().map(|(_, bytes)| bytes).sum();
        bytes as f64 / 1e6
    };
    println!("f16 {:.1} MB, 4-bit blocks {:.1} MB", megabytes(&extracted), megabytes(&quantised));
    let mut drifts = quantised.drift;
    drifts.sort_by(|a, b| a.cosine.total_cmp(&b.cosine));
    for drift in drifts.iter().take(5) {
        let (tensor, difference) = (&drift.tensor, drift.max_difference);
        println!(
            "{tensor:40} {:5}  cosine {:.5}  largest difference {difference:.4}",
            drift.format.name(),
            drift.cosine
        );
    }
    Ok(())
}
