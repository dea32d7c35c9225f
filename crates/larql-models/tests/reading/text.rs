//! Tokenizers and chat templates as checkpoints carry them.

use std::sync::Arc;

use larql_models::{Checkpoint, GgufFile, Message};

use crate::gguf_writer::{ARRAY, F32, GgufWriter};
use crate::tiny::{Tiny, Written, llama_gguf};

fn open(writer: &GgufWriter) -> Checkpoint {
    Checkpoint::from_gguf(GgufFile::parse(writer.bytes().into(), "tiny.gguf".as_ref()).unwrap()).unwrap()
}

#[test]
fn a_checkpoint_without_a_tokenizer_opens() {
    let written = Tiny::llama().write();
    let checkpoint = Checkpoint::open(written.path()).unwrap();
    assert!(checkpoint.text().tokenizer().unwrap().is_none());
    assert!(checkpoint.text().chat_template().unwrap().is_none());
}

#[test]
fn real_files_turn_text_into_tokens_and_are_asked_once() {
    for (file, text, ids) in [
        (larql_testing::GEMMA3, "Hello world", vec![2, 9259, 1902]),
        (larql_testing::SMOLLM2, "Hello world", vec![19556, 905]),
    ] {
        let Some(path) = larql_testing::real_model(file) else { continue };
        let checkpoint = Checkpoint::open(&path).unwrap();
        let tokenizer = checkpoint.text().tokenizer().unwrap().unwrap();
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids);
        assert!(Arc::ptr_eq(&tokenizer, &checkpoint.text().tokenizer().unwrap().unwrap()));
    }
}

#[test]
fn the_metadata_alone_makes_the_same_tokenizer() {
    let Some(path) = larql_testing::real_model(larql_testing::SMOLLM2) else { return };
    let whole = GgufFile::open(&path).unwrap();
    let alone = GgufFile::parse(whole.metadata_only().into(), "tokenizer.gguf".as_ref()).unwrap();
    assert!(alone.tensors().is_empty());
    assert!(alone.metadata().eq(whole.metadata()));
    let tokens = |file: &GgufFile| file.vocabulary().unwrap().unwrap().tokens.join(" ");
    assert_eq!(tokens(&alone), tokens(&whole));
}

#[test]
fn a_chat_template_is_found_in_either_kind() {
    let messages = [Message::new("user", "hi")];
    let source = "{{ messages[0].content }}!";
    let mut writer = llama_gguf();
    writer.text("tokenizer.chat_template", source);
    let written = Tiny::llama().write().with("chat_template.jinja", source);
    for checkpoint in [open(&writer), Checkpoint::open(written.path()).unwrap()] {
        let template = checkpoint.text().chat_template().unwrap().unwrap();
        assert_eq!(template.render(&messages, &Default::default()).unwrap(), "hi!");
    }
}

#[test]
fn damaged_vocabularies_are_named() {
    let said = |change: fn(&mut GgufWriter)| {
        let mut writer = llama_gguf();
        change(&mut writer);
        open(&writer).text().tokenizer().unwrap_err().to_string()
    };
    let messages = [
        said(|writer| writer.text("tokenizer.ggml.model", "banana")),
        said(|writer| writer.u32("tokenizer.ggml.model", 1)),
        said(|writer| {
            writer.text("tokenizer.ggml.model", "gpt2");
            writer.raw("tokenizer.ggml.scores", F32, &[0; 4]);
        }),
        said(|writer| {
            writer.text("tokenizer.ggml.model", "gpt2");
            writer.texts("tokenizer.ggml.token_type", &["a"]);
        }),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r#"
    the tokenizer of tiny.gguf: unknown `tokenizer.ggml.model` `banana`: expected `gpt2`, `llama` or `gemma4`; put the model's `tokenizer.json` beside the file instead
    tiny.gguf: `tokenizer.ggml.model`: expected a string, found 1
    tiny.gguf: `tokenizer.ggml.scores`: expected a list of numbers, found 0
    tiny.gguf: `tokenizer.ggml.token_type`: expected a list of whole numbers, found ["a"]
    "#);
}

#[test]
fn a_tokenizer_file_beside_stands_in_for_an_unknown_vocabulary() {
    let mut writer = llama_gguf();
    writer.text("tokenizer.ggml.model", "banana");
    let folder = larql_testing::repository("../../crates/larql-models/tests/data/tokenizer");
    let tokenizer = std::fs::read(folder.join("byte_level.tokenizer.json")).unwrap();
    let written = Written::new().with("tiny.gguf", writer.bytes()).with("tokenizer.json", tokenizer);
    assert!(Checkpoint::open(&written.file("tiny.gguf")).unwrap().text().tokenizer().unwrap().is_some());
}

#[test]
fn lists_may_be_in_any_type_of_numbers_and_descriptions_in_any_encoding() {
    let ids = |change: fn(&mut GgufWriter)| {
        let mut writer = llama_gguf();
        writer.text("tokenizer.ggml.model", "gpt2");
        change(&mut writer);
        let checkpoint = open(&writer);
        checkpoint.text().tokenizer().unwrap().unwrap().encode("ab<s>", false).unwrap()
    };
    let expected = ids(|_| ());
    assert_eq!(expected, [0, 1, 3]);
    fn list(writer: &mut GgufWriter, name: &str, kind: u32, value: &[u8]) {
        let bytes = [&kind.to_le_bytes()[..], &5u64.to_le_bytes(), &value.repeat(5)].concat();
        writer.raw(&format!("tokenizer.ggml.{name}"), ARRAY, &bytes);
    }
    assert_eq!(ids(|writer| list(writer, "token_type", 0, &[1])), expected);
    assert_eq!(ids(|writer| list(writer, "token_type", 4, &1u32.to_le_bytes())), expected);
    assert_eq!(ids(|writer| list(writer, "token_type", 11, &1i64.to_le_bytes())), expected);
    assert_eq!(ids(|writer| list(writer, "scores", 12, &0f64.to_le_bytes())), expected);
    assert_eq!(
        ids(|writer| writer.raw("general.name", 8, &crate::gguf_writer::string(b"caf\xe9"))),
        expected
    );
}

#[test]
fn special_ids_that_are_no_tokens_are_left_out() {
    let read = |id: i32| {
        let mut writer = GgufWriter::new("llama");
        writer.texts("tokenizer.ggml.tokens", &["a", "b"]);
        writer.text("tokenizer.ggml.model", "gpt2");
        for name in ["bos", "eos", "unknown", "padding"] {
            writer.raw(&format!("tokenizer.ggml.{name}_token_id"), 5, &id.to_le_bytes());
        }
        let file = GgufFile::parse(writer.bytes().into(), "tiny.gguf".as_ref()).unwrap();
        let vocabulary = file.vocabulary().unwrap().unwrap();
        [vocabulary.bos, vocabulary.eos, vocabulary.unknown, vocabulary.padding]
    };
    assert_eq!(read(1), [Some(1); 4]);
    for id in [2, -1, 32_000] {
        assert_eq!(read(id), [None; 4], "{id}");
    }
    let mut writer = llama_gguf();
    writer.text("tokenizer.ggml.model", "gpt2");
    assert!(open(&writer).notes().is_empty());
}
