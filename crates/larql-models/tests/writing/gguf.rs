//! As GGUF files.

use std::path::Path;

use larql_models::{
    Checkpoint, Encoding, Export, ExportOptions, GgufFile, GgufTensor, GgufWriter, ModelError, StoredTensor,
    WeightSource, write_gguf, write_safetensors,
};

use serde_json::{Value, json};

use super::folders;

/// Models of the conformance set that GGUF cannot describe, with the value of the configuration that is at fault and
/// one that it can say.
fn beyond_gguf() -> [(&'static str, &'static str, Value); 10] {
    [
        ("deepseek_v2", "/rope_parameters/mscale", 0.8.into()),
        ("gemma2", "/query_pre_attn_scalar", 24.into()),
        ("gemma3", "/text_config/query_pre_attn_scalar", 24.into()),
        ("gemma3_text", "/query_pre_attn_scalar", 24.into()),
        ("gpt_oss", "/swiglu_limit", 7.0.into()),
        ("gpt_oss_mxfp4", "/swiglu_limit", 7.0.into()),
        ("mistral", "/sliding_window", Value::Null),
        ("qwen2", "/layer_types", vec!["full_attention"; 4].into()),
        // The tensors of their second layer are those of a dense step.
        ("qwen2_moe", "/mlp_only_layers", vec![1].into()),
        ("qwen3_moe", "/mlp_only_layers", vec![1].into()),
    ]
}

/// Families for which no `config.json` is made from a GGUF file.
const WITHOUT_CONFIGURATION: [&str; 11] = [
    "deepseek_v2",
    "deepseek_v2_lite",
    "deepseek_v3",
    "gemma4",
    "gemma4_e2b",
    "gemma4_moe",
    "gemma4_text",
    "gpt_oss",
    "gpt_oss_mxfp4",
    "mixtral",
    "qwen3_moe_256",
];

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
        let original = Checkpoint::open(&source).unwrap();
        let file = folder.path().join(format!("{name}.gguf"));
        let written = write_gguf(export(&original), &file, ExportOptions::default());
        let Some((_, key, value)) = beyond_gguf().into_iter().find(|(beyond, ..)| *beyond == name) else {
            written.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_same(&original, &file, name);
            continue;
        };
        assert!(matches!(written, Err(ModelError::Contradiction { .. })), "{name}: {written:?}");
        assert!(!file.exists());
        if !matches!(name, "qwen2_moe" | "qwen3_moe") {
            let plain = with_value(&source, &folder.path().join("plain").join(name), key, value);
            write_gguf(export(&plain), &file, ExportOptions::default())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_same(&plain, &file, name);
        }
    }
}

/// The checkpoint at `source` with another value in its configuration, copied to `target`.
fn with_value(source: &Path, target: &Path, key: &str, value: Value) -> Checkpoint {
    std::fs::create_dir_all(target).unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    let path = target.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    *config.pointer_mut(key).unwrap() = value;
    std::fs::write(path, config.to_string()).unwrap();
    Checkpoint::open(target).unwrap()
}

/// Asserts that a GGUF file opens and, where a configuration can be made for it, goes back to what it was made of.
fn assert_same(original: &Checkpoint, file: &Path, name: &str) {
    let gguf = Checkpoint::open(file).unwrap_or_else(|error| panic!("{name}: {error}"));
    if WITHOUT_CONFIGURATION.contains(&name) {
        return;
    }
    let back = file.with_extension("");
    write_safetensors(export(&gguf), &back, ExportOptions::default())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let back = Checkpoint::open(&back).unwrap();
    let roles = original.spec().tensors().into_iter().map(|(role, _)| role);
    for (role, (expected, found)) in roles.zip(values(original).into_iter().zip(values(&back))) {
        assert!(expected == found, "{name}: {role}");
    }
}

#[test]
fn blocks_of_real_files_go_over_as_they_are() {
    for model in [larql_testing::GEMMA3, larql_testing::SMOLLM2] {
        let Some(path) = larql_testing::real_model(model) else { continue };
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("copy.gguf");
        let checkpoint = Checkpoint::open(&path).unwrap();
        let source = checkpoint.source_tensors();
        let export = Export { source: Some(&source), ..export(&checkpoint) };
        write_gguf(export, &target, ExportOptions::default()).unwrap();
        let copy = Checkpoint::open(&target).unwrap();
        assert_eq!(copy.spec(), checkpoint.spec());
        let (expected, found) = (checkpoint.gguf().unwrap(), copy.gguf().unwrap());
        let told = |key: &str| ["general.", "tokenizer."].iter().any(|start| key.starts_with(start));
        for (key, value) in expected.metadata().filter(|(key, _)| told(key)) {
            assert_eq!(found.get(key), Some(value), "{key}");
        }
        assert_eq!(found.tensors().len(), expected.tensors().len());
        for tensor in expected.tensors() {
            let copied = found.tensor(&tensor.name).unwrap();
            assert_eq!((copied.encoding, &copied.shape), (tensor.encoding, &tensor.shape), "{}", tensor.name);
            assert!(copied.bytes == tensor.bytes, "{}", tensor.name);
        }
    }
}

#[test]
fn the_tokenizer_goes_along() {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "byte_fallback": true, "fuse_unk": true, "unk_token": "<unk>",
            "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x21>": 3, "▁": 4, "h": 5, "i": 6, "hi": 7, "▁hi": 8},
            "merges": [["h", "i"], ["▁", "hi"]],
        },
    });
    let config = json!({
        "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<unk>", "add_bos_token": true,
        "chat_template": "{{ messages[0].content }}",
    });
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("llama");
    let llama = larql_testing::repository("conformance/llama");
    with_value(&llama, &source, "/vocab_size", 256.into());
    std::fs::write(source.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(source.join("tokenizer_config.json"), config.to_string()).unwrap();

    let target = folder.path().join("out.gguf");
    let original = Checkpoint::open(&source).unwrap();
    write_gguf(export(&original), &target, ExportOptions::default()).unwrap();
    let file = GgufFile::open(&target).unwrap();
    let entries: Vec<String> = (file.metadata())
        .filter_map(|(key, value)| Some(format!("{} = {value}", key.strip_prefix("tokenizer.")?)))
        .collect();
    insta::assert_snapshot!(entries.join("\n"), @r#"
    ggml.model = "llama"
    ggml.tokens = ["<unk>", "<s>", "</s>", "<0x21>", "▁", "h", ... 256 in all]
    ggml.scores = [-2, -2, -2, -2, -2, -2, ... 256 in all]
    ggml.token_type = [3, 3, 3, 6, 1, 1, ... 256 in all]
    ggml.bos_token_id = 1
    ggml.eos_token_id = 2
    ggml.unknown_token_id = 0
    ggml.padding_token_id = 0
    ggml.add_bos_token = true
    ggml.add_eos_token = false
    ggml.add_space_prefix = true
    ggml.eot_token_id = 1
    chat_template = "{{ messages[0].content }}"
    "#);
    let ids = |checkpoint: &Checkpoint| {
        checkpoint.text().tokenizer().unwrap().unwrap().encode("hi hi!</s>", true).unwrap()
    };
    assert_eq!(ids(&original), [1, 8, 8, 3, 2]);
    assert_eq!(ids(&Checkpoint::from_gguf(file).unwrap()), ids(&original));
}

#[test]
fn existing_files_are_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.gguf");
    std::fs::write(&target, "precious").unwrap();
    let checkpoint = Checkpoint::open(&larql_testing::repository("conformance/llama")).unwrap();
    let error = write_gguf(export(&checkpoint), Path::new(&target), ExportOptions::default()).unwrap_err();
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
}

/// The tensors of a file as files of 2023 have them: one for each expert, and one for queries, keys and values.
fn as_in_2023(file: &GgufFile) -> Vec<(GgufTensor, Vec<u8>)> {
    let described = |name: String, tensor: &StoredTensor, shape: &[usize], bytes: Vec<u8>| {
        let Encoding::Format(format) = tensor.encoding else { panic!("{tensor:?}") };
        (GgufTensor { name, format, shape: shape.to_vec() }, bytes)
    };
    let find = |name: String| file.tensors().iter().find(|tensor| tensor.name == name).unwrap();
    let mut older = Vec::new();
    for tensor in file.tensors() {
        let name = &tensor.name;
        if name.contains("_exps.") {
            let experts = tensor.bytes.chunks_exact(tensor.bytes.len() / tensor.shape[0]);
            for (expert, bytes) in experts.enumerate() {
                let name = name.replace("_exps.", &format!(".{expert}."));
                older.push(described(name, tensor, &tensor.shape[1..], bytes.to_vec()));
            }
        } else if name.contains("attn_q.") {
            let parts = ["attn_q.", "attn_k.", "attn_v."].map(|part| find(name.replace("attn_q.", part)));
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes.to_vec()).collect();
            let mut shape = tensor.shape.clone();
            shape[0] = parts.iter().map(|part| part.shape[0]).sum();
            older.push(described(name.replace("attn_q.", "attn_qkv."), tensor, &shape, bytes));
        } else if !name.contains("attn_k.") && !name.contains("attn_v.") {
            older.push(described(name.clone(), tensor, &tensor.shape, tensor.bytes.to_vec()));
        }
    }
    older
}

#[test]
fn layouts_of_2023_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for family in ["mixtral", "phi"] {
        let source = Checkpoint::open(&larql_testing::repository("conformance").join(family)).unwrap();
        let (new, old) = (folder.path().join("new.gguf"), folder.path().join("old.gguf"));
        write_gguf(export(&source), &new, ExportOptions::default()).unwrap();
        let file = GgufFile::open(&new).unwrap();
        let metadata: Vec<_> = file.metadata().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let tensors = as_in_2023(&file);
        let described = tensors.iter().map(|(tensor, _)| tensor.clone()).collect();
        let mut writer = GgufWriter::create(&old, &metadata, described).unwrap();
        tensors.iter().for_each(|(tensor, bytes)| writer.write(&tensor.name, bytes).unwrap());
        writer.finish().unwrap();
        let (new, old) = (Checkpoint::open(&new).unwrap(), Checkpoint::open(&old).unwrap());
        assert!(new.tensors().len() != old.tensors().len());
        assert_eq!(values(&new), values(&old), "{family}");
        [new.path(), old.path()].into_iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}
