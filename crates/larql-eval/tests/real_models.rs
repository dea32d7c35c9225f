//! Two real models, from their GGUF files, predict what the reference implementation recorded.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::sync::Arc;

use larql_compute::{Pool, Precision};
use larql_eval::real::{Recording, compare};
use larql_inference::Model;
use larql_models::Checkpoint;

fn agrees(file: &str, recording: &str) {
    let Some(path) = larql_testing::real_model(file) else { return };
    let recording = Recording::open(&larql_testing::repository(recording)).unwrap();
    let model = Model::load(&Checkpoint::open(&path).unwrap(), Arc::new(Pool::for_this_machine())).unwrap();
    for precision in [Precision::Exact, Precision::Fast] {
        let deviation = compare(&model, &recording, precision).unwrap();
        println!("{deviation:?}");
        assert!(deviation.holds(), "{deviation:?}");
    }
}

#[test]
fn smollm2_agrees_with_its_recording() {
    agrees(larql_testing::SMOLLM2, "real/smollm2-135m-instruct-q4_1.json");
}

#[test]
fn gemma3_agrees_with_its_recording() {
    agrees(larql_testing::GEMMA3, "real/gemma-3-270m-q4_k_m.json");
}
