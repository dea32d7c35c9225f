//! From a checkpoint to a vindex and back.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeMap;
use std::path::Path;

use larql_core::progress::NoProgress;
use larql_models::{
    Checkpoint, Export, ExportOptions, ExportReport, ModelError, SourceTensors, StoredTensor,
    TemplateSources, TextFiles, WeightSource, write_gguf, write_safetensors,
};
use larql_vindex::{ExtractOptions, Storage, Vindex, extract};
use larql_vindex_spec::{ExtractLevel, FloatType};

/// Extracts `source` whole, and writes the vindex back as a checkpoint.
fn there_and_back(source: &Checkpoint, folder: &Path, options: ExtractOptions) -> Checkpoint {
    let (vindex, target) = (folder.join("there.vindex"), folder.join("back"));
    let options = ExtractOptions { level: ExtractLevel::All, ..options };
    extract(source, &vindex, &options, &NoProgress).unwrap();
    let opened = Vindex::open(&vindex).unwrap();
    let known = SourceTensors::read(&vindex).unwrap();
    let unused = opened.unused_tensors().unwrap();
    let export = Export {
        weights: &opened,
        text: opened.text(),
        path: &vindex,
        source: known.as_ref(),
        unused: &unused,
    };
    write_safetensors(export, &target, ExportOptions::default()).unwrap();
    Checkpoint::open(&target).unwrap()
}

fn by_name<'a>(tensors: impl IntoIterator<Item = &'a StoredTensor>) -> BTreeMap<&'a str, &'a StoredTensor> {
    tensors.into_iter().map(|tensor| (&*tensor.name, tensor)).collect()
}

fn assert_same(found: &Checkpoint, expected: BTreeMap<&str, &StoredTensor>) {
    let (at, found) = (found.path().display().to_string(), by_name(found.tensors()));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{at}");
    for (name, expected) in expected {
        let same = (found[name].encoding, &found[name].shape) == (expected.encoding, &expected.shape);
        assert!(same && found[name].bytes == expected.bytes, "{at}: {name}");
    }
}

/// The folders of the conformance set.
fn folders() -> impl Iterator<Item = std::path::PathBuf> {
    let set = std::fs::read_dir(larql_testing::repository("conformance")).unwrap();
    set.map(|entry| entry.unwrap().path()).filter(|path| path.join("config.json").is_file())
}

#[test]
fn every_family_comes_back_bit_for_bit() {
    for source in folders() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&source).unwrap();
        let options = ExtractOptions { storage: Storage::Source, ..ExtractOptions::default() };
        let back = there_and_back(&checkpoint, folder.path(), options);
        let mut expected = by_name(checkpoint.tensors());
        for unused in checkpoint.unused_tensors() {
            expected.remove(&*unused.name);
        }
        assert_same(&back, expected);
        assert_eq!(back.spec(), checkpoint.spec());
    }
}

#[test]
fn checkpoints_in_16_bits_need_no_option() {
    let source = larql_testing::repository("conformance/llama3_sharded_bf16");
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(&source).unwrap();
    let back = there_and_back(&checkpoint, folder.path(), ExtractOptions::default());
    assert_same(&back, by_name(checkpoint.tensors()));
    assert_eq!(back.weight_files().len(), 3);
}

#[test]
fn unpacked_experts_are_not_called_packed() {
    let source = larql_testing::repository("conformance/gpt_oss_mxfp4");
    let checkpoint = Checkpoint::open(&source).unwrap();
    for (storage, packed) in [(Storage::Automatic, true), (Storage::Floats(FloatType::F16), false)] {
        let folder = tempfile::tempdir().unwrap();
        let options = ExtractOptions { storage, ..ExtractOptions::default() };
        let back = there_and_back(&checkpoint, folder.path(), options);
        let config = std::fs::read_to_string(back.path().join("config.json")).unwrap();
        assert_eq!(config.contains("quantization_config"), packed);
        let has_blocks = back.tensors().iter().any(|tensor| tensor.name.ends_with("_blocks"));
        assert_eq!(has_blocks, packed);
    }
}

#[test]
fn what_the_text_model_does_not_use_is_kept_if_asked_for() {
    let source = larql_testing::repository("conformance/gemma3");
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(&source).unwrap();
    assert!(checkpoint.unused_tensors().count() > 0);
    let options = ExtractOptions { storage: Storage::Source, keep_unused: true, ..ExtractOptions::default() };
    let back = there_and_back(&checkpoint, folder.path(), options);
    assert_same(&back, by_name(checkpoint.tensors()));
}

/// Facts of a model that lie beside its weights.
#[derive(Debug, PartialEq)]
struct Facts {
    stop_tokens: Vec<u32>,
    templates: TemplateSources,
    /// Tokens of a text, with what the model expects around it.
    tokens: Vec<u32>,
}

impl Facts {
    fn of(text: &TextFiles) -> Facts {
        let mut stop_tokens = text.stop_tokens().unwrap();
        stop_tokens.sort_unstable();
        let tokenizer = text.tokenizer().unwrap().unwrap();
        let tokens = tokenizer.encode("a", true).unwrap();
        Facts { stop_tokens, templates: text.templates().unwrap(), tokens }
    }
}

/// A checkpoint whose files name four ends of a text, a begin that is put before every text, three templates, and a token
/// for which there is no row.
fn with_facts(folder: &Path) -> Checkpoint {
    let source = larql_testing::repository("conformance/llama");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(source.join(name), folder.join(name)).unwrap();
    }
    let tokenizer =
        larql_testing::repository("../../crates/larql-models/tests/data/tokenizer/byte_level.tokenizer.json");
    std::fs::copy(tokenizer, folder.join("tokenizer.json")).unwrap();
    let write = |name: &str, content: &str| std::fs::write(folder.join(name), content).unwrap();
    write(
        "tokenizer_config.json",
        r#"{"add_bos_token": true, "bos_token": "<bos>", "eos_token": "<eos>",
            "chat_template": [{"name": "default", "template": "d"}, {"name": "rag", "template": "r"}]}"#,
    );
    write("generation_config.json", r#"{"eos_token_id": [47, 48, 49]}"#);
    std::fs::create_dir(folder.join("additional_chat_templates")).unwrap();
    write("additional_chat_templates/tool_use.jinja", "t");
    Checkpoint::open(folder).unwrap()
}

type Write = fn(Export<'_>, &Path, ExportOptions) -> Result<ExportReport, ModelError>;

fn write_vindex(vindex: &Path, target: &Path, write: Write) -> Checkpoint {
    let opened = Vindex::open(vindex).unwrap();
    let export = Export { weights: &opened, text: opened.text(), path: vindex, source: None, unused: &[] };
    write(export, target, ExportOptions::default()).unwrap();
    Checkpoint::open(target).unwrap()
}

#[test]
fn the_edge_memory_survives_every_way_of_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("source")).unwrap();
    let source = with_facts(&path("source"));
    let facts = Facts::of(source.text());
    assert_eq!(facts.stop_tokens, [1, 47, 48, 49]);
    assert_eq!(facts.templates.named.len(), 2);
    assert_eq!(facts.tokens[0], 2);

    for level in ExtractLevel::ALL {
        let target = path(&format!("{level}.vindex"));
        let options = ExtractOptions { level, ..ExtractOptions::default() };
        extract(&source, &target, &options, &NoProgress).unwrap();
        assert_eq!(Facts::of(Vindex::open(&target).unwrap().text()), facts, "{level}");
    }
    let whole = path("all.vindex");
    assert_eq!(Facts::of(write_vindex(&whole, &path("back"), write_safetensors).text()), facts);
    let gguf = write_vindex(&whole, &path("x.gguf"), write_gguf);
    assert_eq!(Facts::of(gguf.text()), facts);
    let (again, options) = (path("again.vindex"), ExtractOptions::default());
    extract(&gguf, &again, &ExtractOptions { level: ExtractLevel::All, ..options }, &NoProgress).unwrap();
    assert_eq!(Facts::of(Vindex::open(&again).unwrap().text()), facts);
    assert_eq!(Facts::of(write_vindex(&again, &path("y.gguf"), write_gguf).text()), facts);
    assert_eq!(Facts::of(write_vindex(&again, &path("hub"), write_safetensors).text()), facts);
}
