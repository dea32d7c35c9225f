//! Damage is found and named, and never brings anything down.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use larql_core::progress::NoProgress;
use larql_models::{Checkpoint, Shape, WeightSource};
use larql_vindex::{
    ExtractOptions, FeatureStore, FileState, Storage, Summary, Vindex, VindexError, extract, list, verify,
};
use larql_vindex_spec::{ExtractLevel, FloatType};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    larql_testing::repository("fixtures").join(name)
}

fn extracted() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("tiny.vindex");
    let checkpoint = Checkpoint::open(&fixture("llama-checkpoint")).unwrap();
    let options = ExtractOptions { level: ExtractLevel::All, storage: Storage::Source, ..Default::default() };
    extract(&checkpoint, &target, &options, &NoProgress).unwrap();
    (folder, target)
}

fn flip(path: &Path, position: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn damaged(path: &Path) -> Vec<(String, FileState)> {
    let report = verify(path, &NoProgress).unwrap();
    report.damaged().map(|file| (file.name.clone(), file.state.clone())).collect()
}

#[test]
fn a_flipped_bit_is_found_in_every_file() {
    let (_folder, vindex) = extracted();
    assert!(verify(&vindex, &NoProgress).unwrap().is_sound());
    for file in Summary::read(&vindex).unwrap().files {
        let path = vindex.join(&file.name);
        for position in [0, file.bytes as usize / 2, file.bytes as usize - 1] {
            let sound = fs::read(&path).unwrap();
            flip(&path, position);
            let found = damaged(&vindex);
            assert!(
                found.iter().any(|(name, _)| *name == file.name),
                "{} at {position}: {found:?}",
                file.name
            );
            fs::write(&path, sound).unwrap();
        }
    }
    fs::remove_file(vindex.join("norms.bin")).unwrap();
    assert_eq!(damaged(&vindex), [("norms.bin".to_owned(), FileState::Missing)]);
}

#[test]
fn old_vindexes_are_checked_as_far_as_they_can_be() {
    let report = verify(&fixture("llama-q4k.vindex"), &NoProgress).unwrap();
    assert!(report.is_sound());
    let unchecked = report.files.iter().filter(|file| file.state == FileState::Unchecked);
    let unchecked: Vec<&str> = unchecked.map(|file| &*file.name).collect();
    assert!(unchecked.contains(&"interleaved_q4k.bin") && unchecked.contains(&"index.json"), "{unchecked:?}");
}

#[test]
fn directories_without_a_manifest_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for error in [Vindex::open(folder.path()).unwrap_err(), verify(folder.path(), &NoProgress).unwrap_err()] {
        assert!(matches!(error, VindexError::NotAVindex { .. }), "{error}");
    }
}

#[test]
fn a_folder_lists_its_vindexes() {
    let names: Vec<String> = list(&larql_testing::repository("fixtures"))
        .unwrap()
        .into_iter()
        .map(|summary| format!("{} {}", summary.path.file_name().unwrap().to_str().unwrap(), summary.level))
        .collect();
    assert_eq!(
        names,
        [
            "gemma3-f16-all.vindex all",
            "llama-f16-all.vindex all",
            "llama-f32-browse.vindex browse",
            "llama-q4k.vindex inference",
        ]
    );
    let summary = Summary::read(&fixture("llama-f32-browse.vindex")).unwrap();
    assert_eq!((summary.dtype, summary.features), (FloatType::F32, 3 * 512));
}

/// Opens a damaged vindex and touches everything in it; whatever happens, it is no panic.
fn use_everything(path: &Path) {
    let Ok(vindex) = Vindex::open(path) else { return };
    for (role, shape) in vindex.spec().tensors() {
        match shape {
            Shape::Vector(_) => drop(vindex.vector(role)),
            Shape::Matrix(..) => drop(vindex.matrix(role)),
        }
    }
    for layer in 0..vindex.layers() {
        let mut row = vec![0.0; vindex.hidden_size()];
        for feature in (0..vindex.features(layer)).step_by(100) {
            vindex.top_tokens(layer, feature).count();
            vindex.gate_row(layer, feature, &mut row);
            let _ = vindex.down_vector(layer, feature, &mut row);
        }
    }
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let (_folder, vindex) = extracted();
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for source in [vindex, fixture("llama-q4k.vindex")] {
        let copy = tempfile::tempdir().unwrap();
        let files = Summary::read(&source).unwrap().files;
        for file in &files {
            fs::copy(source.join(&file.name), copy.path().join(&file.name)).unwrap();
        }
        for file in files.iter().filter(|file| !file.name.starts_with("tokenizer")) {
            let sound = fs::read(source.join(&file.name)).unwrap();
            let path = copy.path().join(&file.name);
            let rounds = if file.name.ends_with(".json") { 60 } else { 6 };
            for round in 0..rounds {
                let mut bytes = sound.clone();
                match round % 3 {
                    0 => bytes.truncate(random(sound.len())),
                    1 => bytes[random(sound.len())] = random(256) as u8,
                    _ => {
                        // A digit for another keeps JSON sound and makes its counts lie.
                        let digits: Vec<usize> =
                            (0..sound.len()).filter(|i| sound[*i].is_ascii_digit()).collect();
                        bytes[digits[random(digits.len())]] = b'0' + random(10) as u8;
                    }
                }
                fs::write(&path, &bytes).unwrap();
                use_everything(copy.path());
            }
            fs::write(&path, &sound).unwrap();
        }
        use_everything(copy.path());
        assert!(Vindex::open(copy.path()).is_ok());
    }
}
