//! Every family in `tests/data/conformance` computes what its reference implementation computes.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::sync::Arc;

use larql_compute::Pool;
use larql_inference::Model;
use larql_inference::eval::conformance::{LOGIT_TOLERANCE, compare, folders};
use larql_models::Checkpoint;

#[test]
fn every_folder_agrees_with_its_reference() {
    let set = larql_test_data::repository("conformance");
    let pool = Arc::new(Pool::new(2));
    let mut over = Vec::new();
    for (name, facts) in folders(&set).unwrap() {
        let folder = set.join(&name);
        let model = Model::load(&Checkpoint::open(&folder).unwrap(), Arc::clone(&pool)).unwrap();
        let deviation = compare(&model, &folder, &facts).unwrap();
        println!("{name}: {deviation:?}");
        if !deviation.within(LOGIT_TOLERANCE) {
            over.push(name);
        }
    }
    assert!(over.is_empty(), "over the tolerance: {over:?}");
}
