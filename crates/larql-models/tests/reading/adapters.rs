//! Adapters: weights as PEFT merges them, and errors for those of another model.

use std::path::{Path, PathBuf};

use larql_compute::Format;
use larql_models::{Checkpoint, ModelError, SafetensorsFile, Shape, WeightSource};
use safetensors::Dtype;
use serde_json::Value;

use crate::tiny::{Tiny, Written};

fn adapter(name: &str) -> PathBuf {
    larql_testing::repository("adapters").join(name)
}

fn base(name: &str) -> PathBuf {
    larql_testing::repository("conformance").join(name)
}

fn base_of(adapter: &Path) -> PathBuf {
    let config = std::fs::read(adapter.join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    base(config["base_model_name_or_path"].as_str().unwrap())
}

/// The base with the tensors that PEFT changed.
fn merged_by_peft(adapter: &Path) -> Written {
    let mut tiny = Tiny::read(&base_of(adapter));
    for tensor in SafetensorsFile::open(&adapter.join("merged.safetensors")).unwrap().into_tensors() {
        let known = tiny.tensors.get_mut(&tensor.name).unwrap();
        *known = (Dtype::F32, tensor.shape, tensor.bytes.to_vec());
    }
    tiny.write()
}

#[test]
fn merged_weights_are_those_of_peft() {
    for folder in std::fs::read_dir(larql_testing::repository("adapters")).unwrap() {
        let folder = folder.unwrap().path();
        let found = Checkpoint::open(&base_of(&folder)).unwrap().with_adapter(&folder).unwrap();
        let written = merged_by_peft(&folder);
        let expected = Checkpoint::open(written.path()).unwrap();
        let unchanged = Checkpoint::open(&base_of(&folder)).unwrap();
        let mut changed = 0;
        for (role, shape) in found.spec().tensors() {
            let values = |source: &Checkpoint| match shape {
                Shape::Matrix(..) => source.matrix(role).unwrap().view().to_f32(),
                Shape::Vector(_) => source.vector(role).unwrap(),
            };
            let (merged, expected) = (values(&found), values(&expected));
            changed += usize::from(merged != values(&unchanged));
            for (merged, expected) in merged.iter().zip(&expected) {
                let difference = (merged - expected).abs();
                assert!(difference <= 1e-6 * expected.abs().max(1.0), "{}: {role}", folder.display());
            }
        }
        assert!(changed >= 4, "{}: {changed}", folder.display());
        assert_eq!(found.weight_files().len(), 2);
    }
}

#[test]
fn matrices_in_blocks_become_blocks_of_8_bits() {
    let quantised = larql_testing::repository("quantised").join("gptq-4-sym-llama");
    let folder = Written::new();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(adapter("lora-llama").join(file), folder.file(file)).unwrap();
    }
    let checkpoint = Checkpoint::open(&quantised).unwrap().with_adapter(folder.path()).unwrap();
    let before = Checkpoint::open(&quantised).unwrap();
    let mut formats = Vec::new();
    for (role, shape) in checkpoint.spec().tensors() {
        let Shape::Matrix(rows, _) = shape else { continue };
        let matrix = checkpoint.matrix(role).unwrap();
        if matrix.bytes() == before.matrix(role).unwrap().bytes() {
            continue;
        }
        formats.push(matrix.format());
        let exact = checkpoint.defined_rows(role, 0..rows).unwrap().unwrap();
        assert_eq!(
            checkpoint.defined_rows(role, 1..2).unwrap().unwrap(),
            exact[matrix.cols()..2 * matrix.cols()]
        );
        let largest = exact.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (exact, near) in exact.iter().zip(matrix.view().to_f32()) {
            assert!((exact - near).abs() <= 4.6e-3 * largest, "{role}");
        }
    }
    assert_eq!(formats, [Format::Q8_0; 6]);
}

fn refused(base: &Path, adapter: &Path) -> String {
    let error: ModelError = Checkpoint::open(base).unwrap().with_adapter(adapter).unwrap_err();
    let set = larql_testing::repository("conformance").parent().unwrap().display().to_string();
    error.to_string().replace(&set, "DATA").replace('\\', "/")
}

/// An adapter after a change of its settings and its tensors.
fn changed(name: &str, key: &str, value: impl Into<Value>, without: &str) -> String {
    let mut tiny = Tiny {
        config: serde_json::from_slice(&std::fs::read(adapter(name).join("adapter_config.json")).unwrap())
            .unwrap(),
        tensors: Default::default(),
        metadata: Vec::new(),
    };
    let file = SafetensorsFile::open(&adapter(name).join("adapter_model.safetensors")).unwrap();
    for tensor in file.into_tensors().into_iter().filter(|tensor| tensor.name != without) {
        tiny.tensors.insert(tensor.name, (Dtype::F32, tensor.shape, tensor.bytes.to_vec()));
    }
    tiny.config[key] = value.into();
    let written = Written::new()
        .with("adapter_config.json", tiny.config.to_string())
        .with("adapter_model.safetensors", tiny.weights());
    written.neutral(refused(&base_of(&adapter(name)), written.path()))
}

#[test]
fn adapters_that_cannot_be_merged_are_refused() {
    const DOWN: &str = "base_model.model.model.layers.0.mlp.down_proj";
    let messages = [
        refused(&base("gpt2"), &adapter("lora-llama")),
        refused(&base("mistral"), &adapter("lora-llama")),
        refused(&base("llama"), &base("llama")),
        changed("lora-llama", "peft_type", "LOHA", ""),
        changed("lora-llama", "use_qalora", true, ""),
        changed("lora-llama", "init_lora_weights", "pissa", ""),
        changed("lora-llama", "lora_alpha", "six", ""),
        changed("lora-llama", "r", 4, &format!("{DOWN}.lora_B.weight")),
        changed("dora-mistral", "r", 4, "base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight"),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r#"
    DATA/adapters/lora-llama/adapter_model.safetensors: tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight`: expected a change of a tensor of DATA/conformance/gpt2, found one of `model.layers.0.mlp.down_proj.weight`, which is not there: it is an adapter of another model
    DATA/adapters/lora-llama/adapter_model.safetensors: tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: expected [96, 4], as DATA/conformance/mistral needs, found [64, 4]: it is an adapter of another model
    DATA/conformance/llama is no adapter: it has no adapter_config.json; give the directory that PEFT's `save_pretrained` wrote
    DIR/adapter_config.json: an adapter of type LOHA is not supported; merge it with PEFT (merge_and_unload), and give the merged checkpoint
    DIR/adapter_config.json: an adapter with `use_qalora` is not supported; merge it with PEFT (merge_and_unload), and give the merged checkpoint
    DIR/adapter_config.json: an adapter with `init_lora_weights` pissa is not supported; merge it with PEFT (merge_and_unload), and give the merged checkpoint
    DIR/adapter_config.json: `lora_alpha`: expected a finite number, found "six"
    DIR/adapter_model.safetensors: tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight`: expected the factor lora_B beside it, found no such tensor
    DIR/adapter_model.safetensors: tensor `base_model.model.model.layers.0.mlp.gate_proj.lora_B.weight`: expected the factor lora_A beside it, found no such tensor
    "#);
}
