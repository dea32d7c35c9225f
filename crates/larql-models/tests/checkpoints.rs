//! Opens the reference checkpoints and checks what they are said to be.

use std::path::PathBuf;

use larql_compute::Format;
use larql_models::{Checkpoint, CheckpointKind, Config, ModelSpec, Shape, WeightSource};

const FAMILIES: [&str; 10] = [
    "llama",
    "llama3",
    "llama3_sharded_bf16",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gpt2",
];

fn folder(family: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/conformance").join(family)
}

#[test]
fn both_spellings_of_a_configuration_give_one_spec() {
    for family in FAMILIES {
        let spec = |file: &str| {
            let config = Config::read(&folder(family).join(file)).unwrap();
            ModelSpec::from_config(&config).unwrap_or_else(|error| panic!("{family}: {error}"))
        };
        assert_eq!(spec("config.json"), spec("config.hub.json"), "{family}");
    }
}

#[test]
fn every_tensor_is_found_in_its_shape() {
    for family in FAMILIES {
        let checkpoint =
            Checkpoint::open(&folder(family)).unwrap_or_else(|error| panic!("{family}: {error}"));
        assert_eq!(checkpoint.kind(), CheckpointKind::Safetensors);
        for (role, shape) in checkpoint.spec().tensors() {
            match shape {
                Shape::Vector(len) => {
                    assert_eq!(checkpoint.vector(role).unwrap().len(), len, "{family} {role}")
                }
                Shape::Matrix(rows, cols) => {
                    let matrix = checkpoint.matrix(role).unwrap();
                    assert_eq!((matrix.rows(), matrix.cols()), (rows, cols), "{family} {role}");
                }
            }
        }
        let expected = if family == "llama3_sharded_bf16" { Format::BF16 } else { Format::F32 };
        assert_eq!(checkpoint.dtype(), Some(expected), "{family}");
    }
}

#[test]
fn real_gguf_files_open() {
    let Some(home) = std::env::home_dir() else { return };
    for name in ["gemma-3-270m.q4_k_m.gguf", "smollm2-135m-instruct.q4_1.gguf"] {
        let path = home.join(".cache/larql-test-models").join(name);
        if !path.exists() {
            println!("skipped: {} is absent", path.display());
            continue;
        }
        let checkpoint = Checkpoint::open(&path).unwrap();
        for (role, shape) in checkpoint.spec().tensors() {
            match shape {
                Shape::Vector(len) => assert_eq!(checkpoint.vector(role).unwrap().len(), len),
                Shape::Matrix(rows, cols) => {
                    let matrix = checkpoint.matrix(role).unwrap();
                    assert_eq!((matrix.rows(), matrix.cols()), (rows, cols));
                }
            }
        }
    }
}
