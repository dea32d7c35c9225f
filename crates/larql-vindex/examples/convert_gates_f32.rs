//! Gate rows in 32 bits, for exact searches: `cargo run -p larql-vindex --example convert_gates_f32`.
//!
//! Extracts atlas in f16, stores it again in f32, and compares size and values of the gate rows. Every f16 value is an
//! f32 value, so that none may differ.

use std::error::Error;
use std::path::Path;

use larql_core::progress::NoProgress;
use larql_models::Checkpoint;
use larql_vindex::{ExtractOptions, FeatureStore, Storage, Vindex, extract, quantize};
use larql_vindex_spec::{ExtractLevel, FloatType};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let [half, single] = ["f16.vindex", "f32.vindex"].map(|name| folder.path().join(name));
    let checkpoint = Checkpoint::open(&larql_testing::shipped("atlas"))?;
    let options = |float| ExtractOptions {
        level: ExtractLevel::Browse,
        ..ExtractOptions::in_storage(Storage::Floats(float))
    };
    extract(&checkpoint, &half, &options(FloatType::F16), &NoProgress)?;
    quantize(&Vindex::open(&half)?, &single, &options(FloatType::F32), &NoProgress)?;

    let size = |path: &Path| path.join("gate_vectors.bin").metadata().map(|file| file.len() as f64 / 1e6);
    println!("gate_vectors.bin: {:.2} MB in f16, {:.2} MB in f32", size(&half)?, size(&single)?);
    let [half, single] = [Vindex::open(&half)?, Vindex::open(&single)?];
    let mut rows = [(); 2].map(|()| vec![0.0; half.hidden_size()]);
    let mut different = 0;
    for layer in 0..half.layers() {
        for feature in 0..half.features(layer) {
            let [before, after] = &mut rows;
            half.gate_row(layer, feature, before);
            single.gate_row(layer, feature, after);
            different += usize::from(before != after);
        }
    }
    println!("{different} gate rows differ");
    Ok(())
}
