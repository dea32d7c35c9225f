//! As GGUF files.

use std::path::Path;

use larql_models::{
    Checkpoint, Export, ExportOptions, ModelError, WeightSource, write_gguf, write_safetensors,
};

use super::folders;

/// Models of the conformance set that GGUF cannot describe: it has no words for their windows or scales.
const BEYOND_GGUF: [&str; 9] = [
    "deepseek_v2",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gpt_oss",
    "gpt_oss_mxfp4",
    "mistral",
    "qwen2",
    "qwen3_moe",
];

/// Those for which no `config.json` is made from a GGUF file.
const WITHOUT_CONFIGURATION: [&str; 7] =
    ["deepseek_v2_lite", "deepseek_v3", "gemma4", "gemma4_e2b", "gemma4_moe", "gemma4_text", "mixtral"];

fn export(checkpoint: &Checkpoint) -> Export<'_> {
    Export {
        weights: checkpoint,
        text: checkpoint.text(),
        path: checkpoint.path(),
        source: None,
        unused: &[],
    }
}

/// Values of every tensor of a checkpoint, by role.
fn values(checkpoint: &Checkpoint) -> Vec<Vec<f32>> {
    let of = |(role, shape)| match shape {
        larql_models::Shape::Vector(_) => checkpoint.vector(role).unwrap(),
        larql_models::Shape::Matrix(..) => checkpoint.matrix(role).unwrap().view().to_f32(),
    };
    checkpoint.spec().tensors().into_iter().map(of).collect()
}

#[test]
fn every_family_comes_back_from_gguf() {
    let folder = tempfile::tempdir().unwrap();
    for source in folders() {
        let name = source.file_name().unwrap().to_str().unwrap();
        let checkpoint = Checkpoint::open(&source).unwrap();
        let file = folder.path().join(format!("{name}.gguf"));
        let written = write_gguf(export(&checkpoint), &file, ExportOptions::default());
        if BEYOND_GGUF.contains(&name) {
            assert!(matches!(written, Err(ModelError::Contradiction { .. })), "{name}: {written:?}");
            assert!(!file.exists());
            continue;
        }
        written.unwrap_or_else(|error| panic!("{name}: {error}"));
        let gguf = Checkpoint::open(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Back to the hub's way.
        let back = folder.path().join(name);
        if WITHOUT_CONFIGURATION.contains(&name) {
            continue;
        }
        write_safetensors(export(&gguf), &back, ExportOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let back = Checkpoint::open(&back).unwrap();
        for ((role, _), (expected, found)) in
            checkpoint.spec().tensors().into_iter().zip(values(&checkpoint).into_iter().zip(values(&back)))
        {
            assert!(expected == found, "{name}: {role}");
        }
    }
}

#[test]
fn blocks_of_real_files_go_over_as_they_are() {
    for model in [larql_test_data::GEMMA3, larql_test_data::SMOLLM2] {
        let Some(path) = larql_test_data::real_model(model) else { continue };
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("copy.gguf");
        let checkpoint = Checkpoint::open(&path).unwrap();
        write_gguf(export(&checkpoint), &target, ExportOptions::default()).unwrap();
        let copy = Checkpoint::open(&target).unwrap();
        assert_eq!(copy.spec(), checkpoint.spec());
        let (expected, found) = (checkpoint.gguf().unwrap(), copy.gguf().unwrap());
        assert_eq!(found.tensors().len(), expected.tensors().len());
        for tensor in expected.tensors() {
            let copied = found.tensor(&tensor.name).unwrap();
            assert_eq!((copied.encoding, &copied.shape), (tensor.encoding, &tensor.shape), "{}", tensor.name);
            assert!(copied.bytes == tensor.bytes, "{}", tensor.name);
        }
    }
}

#[test]
fn what_is_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.gguf");
    std::fs::write(&target, "precious").unwrap();
    let checkpoint = Checkpoint::open(&larql_test_data::repository("conformance/llama")).unwrap();
    let error = write_gguf(export(&checkpoint), Path::new(&target), ExportOptions::default()).unwrap_err();
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
}
