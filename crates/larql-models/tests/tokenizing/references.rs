//! Tokenizers against reference implementations; `data/tokenizer/make_expected.py` has written their ids.

use std::path::{Path, PathBuf};
use std::time::Instant;

use larql_models::{ChatOptions, ChatTemplate, GgufFile, GgufVocabulary, Message, TextFiles, Tokenizer};
use serde::Deserialize;
use serde_json::{Value, json};

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

#[test]
fn a_model_file_of_sentence_piece_gives_the_ids_of_its_library() {
    let tokenizer = Tokenizer::from_piece_model(&std::fs::read(data("pieces.model")).unwrap()).unwrap();
    compare(&tokenizer, "pieces.json");
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos()), (520, Some(1), &[2][..]));
}

/// A directory of files.
fn directory(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

#[test]
fn files_beside_a_model_file_add_tokens() {
    let config = json!({
        "add_bos_token": true, "add_eos_token": true, "bos_token": "<s>", "eos_token": {"content": "<|end|>"},
        "added_tokens_decoder": {
            "0": {"content": "<unk>", "special": true},
            "520": {"content": "<|end|>", "special": true},
        },
    });
    let directory = directory(&[
        ("tokenizer.model", std::fs::read(data("pieces.model")).unwrap()),
        ("tokenizer_config.json", config.to_string().into()),
        ("added_tokens.json", json!({"<tool>": 522}).to_string().into()),
    ]);
    let tokenizer = TextFiles::in_directory(directory.path()).tokenizer().unwrap().unwrap();
    let alone = Tokenizer::from_piece_model(&std::fs::read(data("pieces.model")).unwrap()).unwrap();
    let hello = alone.encode("Hello", false).unwrap();
    let expected: Vec<u32> = [&[1][..], &hello, &[520, 522, 520]].concat();
    assert_eq!(tokenizer.encode("Hello<|end|><tool>", true).unwrap(), expected);
    assert_eq!((tokenizer.vocab_size(), tokenizer.eos()), (523, &[520][..]));
    assert!(tokenizer.is_special(520) && tokenizer.is_special(521) && !tokenizer.is_special(522));
}

/// `vocab.json` and `merges.txt` with the content of a `tokenizer.json`.
fn taken_apart() -> [(&'static str, Vec<u8>); 2] {
    let file = std::fs::read(data("byte_level.tokenizer.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let merges = file["model"]["merges"].as_array().unwrap().iter().map(|merge| {
        let side = |side: usize| merge[side].as_str().unwrap();
        format!("{} {}\n", side(0), side(1))
    });
    let merges: String = std::iter::once("#version: 0.2\n".to_owned()).chain(merges).collect();
    [("vocab.json", file["model"]["vocab"].to_string().into()), ("merges.txt", merges.into())]
}

#[test]
fn a_vocabulary_with_merges_gives_the_ids_of_the_whole_file() {
    let special = json!({
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<eos>",
    });
    let [vocabulary, merges] = taken_apart();
    let directory = directory(&[
        vocabulary.clone(),
        merges,
        ("special_tokens_map.json", special.to_string().into()),
        ("tokenizer_config.json", json!({"tokenizer_class": "GPT2Tokenizer"}).to_string().into()),
    ]);
    let text = TextFiles::in_directory(directory.path());
    let tokenizer = text.tokenizer().unwrap().unwrap();
    compare(&tokenizer, "byte_level.json");
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos()), (320, Some(2), &[1][..]));

    let config = directory.path().join("tokenizer_config.json");
    std::fs::write(config, json!({"tokenizer_class": "BanaPlusTokenizer"}).to_string()).unwrap();
    let error = TextFiles::in_directory(directory.path()).tokenizer().unwrap_err().to_string();
    assert!(
        error.contains("vocab.json is not a tokenizer: its `tokenizer_class` is BanaPlusTokenizer"),
        "{error}"
    );
    std::fs::write(directory.path().join("vocab.json"), r#"{"a": 4000000000}"#).unwrap();
    std::fs::remove_file(directory.path().join("tokenizer_config.json")).unwrap();
    let error = TextFiles::in_directory(directory.path()).tokenizer().unwrap_err().to_string();
    assert!(error.ends_with("its highest token id is 4000000000"), "{error}");
}
