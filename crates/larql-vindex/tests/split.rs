//! A GGUF model that is split into several files is the same model.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeMap;
use std::path::Path;

use larql_core::progress::NoProgress;
use larql_models::{Checkpoint, GgufFile};
use larql_vindex::{ExtractOptions, extract};
use larql_vindex_spec::ExtractLevel;

#[path = "../../larql-models/tests/support/split.rs"]
mod support;

/// Layers that are extracted, the first and the last. Each layer takes seconds.
const LAYERS: [usize; 2] = [7, 9];

/// The files of the vindex that comes of a checkpoint, without those that name the source's files.
fn extracted(checkpoint: &Path, target: &Path) -> BTreeMap<String, Vec<u8>> {
    let options =
        ExtractOptions { level: ExtractLevel::All, layers: Some(LAYERS), ..ExtractOptions::default() };
    let report = extract(&Checkpoint::open(checkpoint).unwrap(), target, &options, &NoProgress).unwrap();
    let names = report.files.into_iter().map(|(name, _)| name);
    let names = names.filter(|name| name != "index.json" && name != "source_tensors.json");
    names.map(|name| (name.clone(), std::fs::read(target.join(name)).unwrap())).collect()
}

#[test]
fn a_real_model_in_twelve_parts_extracts_bit_for_bit() {
    let Some(path) = larql_testing::real_model(larql_testing::GEMMA3) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = GgufFile::open(&path).unwrap();
    let parts = support::split(&file, folder.path(), "gemma", 12);
    assert_eq!(parts.len(), 12);
    let joined = GgufFile::open(&parts[3]).unwrap();
    assert_eq!(joined.tensors().len(), file.tensors().len());
    for (split, whole) in joined.tensors().iter().zip(file.tensors()) {
        assert_eq!((&split.name, &split.shape), (&whole.name, &whole.shape));
        assert!(split.bytes == whole.bytes, "{}", whole.name);
    }
    let whole = extracted(&path, &folder.path().join("whole.vindex"));
    let split = extracted(&parts[6], &folder.path().join("split.vindex"));
    assert_eq!(whole.keys().collect::<Vec<_>>(), split.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        assert!(split[name] == *bytes, "{name}");
    }
}
