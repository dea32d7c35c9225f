//! Tokenizers against reference implementations; `data/tokenizer/make_expected.py` has written their ids.

use std::path::{Path, PathBuf};
use std::time::Instant;

use larql_models::{ChatOptions, ChatTemplate, GgufFile, GgufVocabulary, Message, Tokenizer};
use serde::Deserialize;

/// The reference's tokens of a corpus.
#[derive(Deserialize)]
struct Expected {
    /// The ids of `Hello` with special tokens around it.
    with_special: Vec<u32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    /// Without special tokens around it.
    ids: Vec<u32>,
    /// Text of the ids, if it is not the input.
    decoded: Option<String>,
}

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer").join(file)
}

/// Compares a tokenizer with the reference, and returns the corpus.
fn compare(tokenizer: &Tokenizer, expected: &str) -> Expected {
    let expected: Expected = serde_json::from_slice(&std::fs::read(data(expected)).unwrap()).unwrap();
    assert_eq!(tokenizer.encode("Hello", true).unwrap(), expected.with_special);
    assert!(expected.cases.len() > 100);
    for Case { text, ids, decoded } in &expected.cases {
        assert_eq!(tokenizer.encode(text, false).unwrap(), *ids, "{text:?}");
        let decoded = decoded.as_ref().unwrap_or(text);
        assert_eq!(tokenizer.decode(ids, false), *decoded);
        let mut stream = tokenizer.decode_stream(false);
        let mut streamed: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        streamed.extend(stream.finish());
        assert_eq!(streamed, *decoded);
    }
    expected
}

/// Every token of a vocabulary that is matched whole, with its text.
fn whole_tokens(vocabulary: &GgufVocabulary<'_>) -> impl Iterator<Item = (u32, String)> {
    let kinds = (0..).zip(&vocabulary.tokens).zip(&vocabulary.token_types);
    kinds
        .filter(|((_, text), kind)| matches!(kind, 3 | 4) && !text.trim_matches(' ').is_empty())
        .map(|((id, text), _)| (id, (*text).to_owned()))
}

#[test]
fn tokenizer_json_gives_the_ids_of_the_python_package() {
    let tokenizer = Tokenizer::from_file(data("byte_level.tokenizer.json")).unwrap();
    compare(&tokenizer, "byte_level.json");
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos()), (320, Some(2), &[1][..]));
}

#[test]
fn the_vocabulary_of_a_gguf_file_gives_the_ids_of_transformers() {
    for model in [larql_testing::GEMMA3, larql_testing::SMOLLM2] {
        let Some(path) = larql_testing::real_model(model) else { continue };
        let file = GgufFile::open(&path).unwrap();
        let vocabulary = file.vocabulary().unwrap().unwrap();
        let start = Instant::now();
        let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
        println!("{model}: tokenizer ready after {:?}", start.elapsed());

        compare(&tokenizer, &model.replace(".gguf", ".json"));
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("tokenizer.json");
        std::fs::write(&json, tokenizer.to_tokenizer_json().unwrap()).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), tokenizer.to_tokenizer_config_json(None))
            .unwrap();
        let exported = Tokenizer::from_file(&json).unwrap();
        compare(&exported, &model.replace(".gguf", ".json"));
        assert_eq!((exported.bos(), exported.eos()), (tokenizer.bos(), tokenizer.eos()));
        assert_eq!(tokenizer.vocab_size(), vocabulary.tokens.len());
        for (id, text) in whole_tokens(&vocabulary) {
            assert_eq!(tokenizer.encode(&text, false).unwrap(), [id]);
            assert_eq!(tokenizer.decode(&[id], false), text);
            assert_eq!(tokenizer.token_id(&text), Some(id));
        }
    }
}

#[test]
fn a_chat_with_smollm2_is_written_as_it_was_trained() {
    let Some(path) = larql_testing::real_model(larql_testing::SMOLLM2) else { return };
    let file = GgufFile::open(&path).unwrap();
    let template = file.get("tokenizer.chat_template").unwrap().as_str().unwrap();
    let messages = [Message::new("user", "Hi there")];
    let text = ChatTemplate::new(template).unwrap().render(&messages, &ChatOptions::default()).unwrap();
    insta::assert_snapshot!(text, @"
    <|im_start|>system
    You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
    <|im_start|>user
    Hi there<|im_end|>
    <|im_start|>assistant
    ");

    let tokenizer = Tokenizer::from_gguf(&file.vocabulary().unwrap().unwrap()).unwrap();
    let ids = tokenizer.encode(&text, false).unwrap();
    assert_eq!(ids.iter().filter(|&&id| tokenizer.is_special(id)).count(), 5);
    assert_eq!(tokenizer.decode(&ids, false), text);
    assert_eq!(tokenizer.eos(), [2, 0], "<|im_end|>, then <|endoftext|>");
}
