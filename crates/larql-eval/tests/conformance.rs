//! Every family in `tests/data/conformance` computes what its reference implementation computes, from the checkpoint
//! and from vindexes of it.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::path::Path;
use std::sync::Arc;

use larql_compute::{Matrix, Pool};
use larql_core::progress::NoProgress;
use larql_eval::conformance::{Deviation, FolderFacts, LOGIT_TOLERANCE, block_tolerance, compare, folders};
use larql_inference::Model;
use larql_models::{Checkpoint, ModelError, ModelSpec, Role, WeightSource};
use larql_vindex::{ExtractOptions, Q4kOptions, Storage, Vindex, extract};
use larql_vindex_spec::FloatType;

/// Compares every folder as `deviation` finds it and collects those that are not `good`.
fn check_all(
    deviation: impl Fn(&Path, &FolderFacts) -> (Deviation, f32),
    good: impl Fn(&Deviation, f32) -> bool,
) {
    check_set("conformance", deviation, good);
}

/// As [`check_all`], for one of the sets.
fn check_set(
    set: &str,
    deviation: impl Fn(&Path, &FolderFacts) -> (Deviation, f32),
    good: impl Fn(&Deviation, f32) -> bool,
) {
    let set = larql_testing::repository(set);
    let mut over = Vec::new();
    for (name, facts) in folders(&set).unwrap() {
        let (deviation, allowed) = deviation(&set.join(&name), &facts);
        println!("{name}: {allowed:.2e} allowed, {deviation:?}");
        if !good(&deviation, allowed) {
            over.push(name);
        }
    }
    assert!(over.is_empty(), "over the tolerance: {over:?}");
}

fn run(source: &dyn WeightSource, folder: &Path, facts: &FolderFacts) -> Deviation {
    let model = Model::load(source, Arc::new(Pool::new(2))).unwrap();
    compare(&model, folder, facts).unwrap()
}

fn through_vindex(
    storage: Storage,
    folder: &Path,
    visit: impl FnOnce(&Checkpoint, &Vindex) -> (Deviation, f32),
) -> (Deviation, f32) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("conformance.vindex");
    let checkpoint = Checkpoint::open(folder).unwrap();
    let options = ExtractOptions { storage, ..ExtractOptions::default() };
    extract(&checkpoint, &path, &options, &NoProgress).unwrap();
    visit(&checkpoint, &Vindex::open(&path).unwrap())
}

fn exactly_through(storage: Storage) {
    check_all(
        |folder, facts| {
            through_vindex(storage, folder, |_, vindex| (run(vindex, folder, facts), LOGIT_TOLERANCE))
        },
        |deviation, allowed| deviation.within(allowed),
    );
}

#[test]
fn every_checkpoint_agrees_with_its_reference() {
    check_all(
        |folder, facts| (run(&Checkpoint::open(folder).unwrap(), folder, facts), LOGIT_TOLERANCE),
        |deviation, allowed| deviation.within(allowed),
    );
}

#[test]
fn every_vindex_in_f32_agrees_with_its_reference() {
    exactly_through(Storage::Floats(FloatType::F32));
}

#[test]
fn every_vindex_in_f16_agrees_with_its_reference() {
    // All weights of the set are exact in f16.
    exactly_through(Storage::Floats(FloatType::F16));
}

#[test]
fn every_vindex_that_keeps_its_source_agrees_with_its_reference() {
    exactly_through(Storage::Source);
}

#[test]
fn blocks_move_logits_no_further_than_their_error_explains() {
    check_all(
        |folder, facts| {
            through_vindex(Storage::Q4k(Q4kOptions::default()), folder, |checkpoint, vindex| {
                (run(vindex, folder, facts), block_tolerance(facts, checkpoint, vindex).unwrap())
            })
        },
        Deviation::logits_within,
    );
}

/// A checkpoint with all values as its format defines them.
struct Defined(Checkpoint);

impl WeightSource for Defined {
    fn spec(&self) -> &ModelSpec {
        self.0.spec()
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        let near = self.0.matrix(role)?;
        match self.0.defined_rows(role, 0..near.rows())? {
            Some(values) => Ok(Matrix::from_f32(near.rows(), near.cols(), &values).unwrap()),
            None => Ok(near),
        }
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        self.0.vector(role)
    }
}

#[test]
fn quantised_checkpoints_have_the_values_that_their_formats_define() {
    check_set(
        "quantised",
        |folder, facts| (run(&Defined(Checkpoint::open(folder).unwrap()), folder, facts), LOGIT_TOLERANCE),
        |deviation, allowed| deviation.within(allowed),
    );
}

#[test]
fn quantised_checkpoints_run_within_the_error_of_their_blocks() {
    check_set(
        "quantised",
        |folder, facts| {
            let checkpoint = Checkpoint::open(folder).unwrap();
            let deviation = run(&checkpoint, folder, facts);
            (
                deviation,
                block_tolerance(facts, &Defined(checkpoint), &Checkpoint::open(folder).unwrap()).unwrap(),
            )
        },
        Deviation::logits_within,
    );
}

#[test]
fn quantised_checkpoints_become_vindexes_that_hold_what_they_ran_with() {
    check_set(
        "quantised",
        |folder, facts| {
            through_vindex(Storage::Automatic, folder, |checkpoint, vindex| {
                let (direct, stored) = (run(checkpoint, folder, facts), run(vindex, folder, facts));
                assert_eq!(direct, stored, "{}", folder.display());
                let repacked = &vindex.manifest().extra["repacked"];
                assert_eq!(repacked["from"], checkpoint.quantisation().unwrap());
                (stored, f32::INFINITY)
            })
        },
        Deviation::logits_within,
    );
}

#[test]
fn quantised_checkpoints_become_blocks_within_their_error() {
    check_set(
        "quantised",
        |folder, facts| {
            through_vindex(Storage::Q4k(Q4kOptions::default()), folder, |checkpoint, vindex| {
                let checkpoint = Defined(Checkpoint::open(checkpoint.path()).unwrap());
                (run(vindex, folder, facts), block_tolerance(facts, &checkpoint, vindex).unwrap())
            })
        },
        Deviation::logits_within,
    );
}
