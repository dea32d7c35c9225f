//! As directories of safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use larql_models::{Checkpoint, Export, ExportOptions, SafetensorsFile, WeightSource, write_safetensors};

use super::folders;

/// Writes what a checkpoint holds to `target`.
fn copy(checkpoint: &Checkpoint, target: &Path) {
    let source = checkpoint.source_tensors();
    let export = Export {
        weights: checkpoint,
        text: checkpoint.text(),
        path: checkpoint.path(),
        source: Some(&source),
        unused: &[],
    };
    write_safetensors(export, target, ExportOptions::default()).unwrap();
}

/// A tensor in its file: place, encoding, shape and bytes.
type Facts = (String, String, Vec<usize>, Vec<u8>);

/// Every tensor of a directory by name.
fn tensors(directory: &Path) -> BTreeMap<String, Facts> {
    let mut all = BTreeMap::new();
    for path in Checkpoint::open(directory).unwrap().weight_files() {
        for tensor in SafetensorsFile::open(path).unwrap().tensors() {
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let facts = (file, tensor.encoding.to_string(), tensor.shape.clone(), tensor.bytes.to_vec());
            all.insert(tensor.name.clone(), facts);
        }
    }
    all
}

#[test]
fn every_family_goes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for source in folders() {
        let name = source.file_name().unwrap().to_str().unwrap();
        let target = folder.path().join(name);
        let checkpoint = Checkpoint::open(&source).unwrap();
        copy(&checkpoint, &target);

        let mut expected = tensors(&source);
        for unused in checkpoint.unused_tensors() {
            expected.remove(&unused.name);
        }
        let found = tensors(&target);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, facts) in &expected {
            assert!(found[tensor] == *facts, "{name}: {tensor}");
        }
        let config = |directory: &Path| std::fs::read(directory.join("config.json")).unwrap();
        assert!(config(&target) == config(&source), "{name}: config.json");
        assert_eq!(Checkpoint::open(&target).unwrap().spec(), checkpoint.spec(), "{name}");
    }
}

#[test]
fn what_mlx_quantised_becomes_floats() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["4-bit", "8-bit"] {
        let source = Checkpoint::open(&larql_testing::repository("mlx").join(name)).unwrap();
        let target = folder.path().join(name);
        copy(&source, &target);
        let written = Checkpoint::open(&target).unwrap();
        assert_eq!(written.kind(), source.kind());
        assert_eq!(written.spec(), source.spec());
        for (role, _) in source.spec().tensors() {
            let (Ok(found), Ok(expected)) = (written.matrix(role), source.matrix(role)) else { continue };
            for (found, expected) in found.view().to_f32().iter().zip(expected.view().to_f32()) {
                assert!((found - expected).abs() <= expected.abs() / 1024.0 + 1e-7, "{name}: {role}");
            }
        }
    }
}
