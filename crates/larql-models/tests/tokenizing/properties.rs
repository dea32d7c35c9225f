//! Tokenizers made from GGUF vocabularies against the `tokenizers` library, on random vocabularies and texts.

use std::path::Path;

use larql_models::{GgufVocabulary, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Library};

const SPLITS: [&str; 11] = [
    "gpt-2",
    "smollm",
    "llama-bpe",
    "dbrx",
    "qwen2",
    "qwen35",
    "seed-coder",
    "tekken",
    "gpt-4o",
    "deepseek-v3",
    "deepseek-coder",
];

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Texts that tokenizers stumble over.
fn corpus() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer/byte_level.json");
    let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = expected["cases"].as_array().unwrap().iter();
    cases.map(|case| case["text"].as_str().unwrap().to_owned()).collect()
}

/// Pieces of the corpus, runs of what splits care about, and anything.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        prop::sample::select(corpus()),
        "[ \t\r\n\u{a0}'’a-zA-Zsſé0-9٣²漢ー!/.¿\u{301}]{0,12}",
        "( ?[a-z]{1,6}|'(s|T|ll|Ve)|\n|  |[0-9]{1,5}){0,12}",
        any::<String>(),
        Just("<|end|>".to_owned()),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

/// A small byte-level vocabulary: tokens by id, and merges.
fn trained() -> (Vec<String>, Vec<String>) {
    let mut library = Library::new(BPE::default());
    library.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(700)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from("<|end|>", true)])
        .build()
        .into();
    library.train(&mut trainer, corpus().into_iter()).unwrap();
    let ModelWrapper::BPE(model) = library.get_model() else { panic!("trained something else") };
    let model: serde_json::Value = serde_json::to_value(model).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let merges = model["merges"].as_array().unwrap();
    let merges = merges.iter().map(|pair| format!("{} {}", text(&pair[0]), text(&pair[1]))).collect();
    let tokens = 0..model["vocab"].as_object().unwrap().len() as u32;
    (tokens.map(|id| library.id_to_token(id).unwrap()).collect(), merges)
}

/// A tokenizer and the library's, which is made from what the first one exports.
fn pair(vocabulary: &GgufVocabulary<'_>) -> (Tokenizer, Tokenizer) {
    let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, tokenizer.to_tokenizer_json().unwrap()).unwrap();
    let library = Tokenizer::from_file(&path).unwrap();
    let texts =
        |of: &Tokenizer| (0..of.vocab_size() as u32 + 1).map(|id| of.token_text(id)).collect::<Vec<_>>();
    assert_eq!(texts(&tokenizer), texts(&library));
    (tokenizer, library)
}

fn check(tokenizer: &Tokenizer, library: &Tokenizer, text: &str, decoded: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(tokenizer.encode(text, true).unwrap(), library.encode(text, true).unwrap(), "{:?}", text);
    let ids = tokenizer.encode(text, false).unwrap();
    for tokenizer in [tokenizer, library] {
        prop_assert_eq!(tokenizer.decode(&ids, false), decoded);
        let mut stream = tokenizer.decode_stream(false);
        let mut streamed: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        streamed.extend(stream.finish());
        prop_assert_eq!(streamed, decoded);
    }
    Ok(())
}

#[test]
fn byte_level_tokenizers_split_and_merge_like_the_library() {
    let (tokens, merges) = trained();
    let mut types = vec![1; tokens.len()];
    types[0] = 3;
    for split in SPLITS {
        let (tokenizer, library) = pair(&GgufVocabulary {
            model: "gpt2",
            pre: Some(split),
            tokens: tokens.iter().map(String::as_str).collect(),
            token_types: types.clone(),
            merges: merges.iter().map(String::as_str).collect(),
            eos: Some(0),
            add_eos: Some(true),
            ..GgufVocabulary::default()
        });
        for text in corpus() {
            check(&tokenizer, &library, &text, &text).unwrap();
        }
        proptest!(config(100), |(text in texts())| check(&tokenizer, &library, &text, &text)?);
    }
}

/// Tokens of two letters and spaces with few different scores, so that many merges compete.
fn sentence_piece() -> impl Strategy<Value = Vec<(String, f32)>> {
    prop::collection::vec(("[ab▁]{1,6}", (-4..0i8).prop_map(f32::from)), 0..60)
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn sentence_piece_tokenizers_merge_like_the_library(
        learnt in sentence_piece(),
        texts in prop::collection::vec("([ab]{1,5}|[ab ▁]{1,12}|a{1,9}| {1,9}|<tag>|é|漢){0,8}", 1..20),
        space_prefix: bool,
    ) {
        let mut tokens = vec!["<unk>".to_owned(), "<s>".into(), "<tag>".into(), "  ".into(), "    ".into()];
        let mut types = vec![2, 3, 4, 4, 4];
        tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        types.resize(tokens.len(), 6);
        let mut scores = vec![0.0; tokens.len()];
        let letters = ["▁", "a", "b"].map(|letter| (letter.to_owned(), -9.0));
        for (token, score) in letters.into_iter().chain(learnt) {
            // Real vocabularies have no two tokens of one text.
            if !tokens.contains(&token) && !["▁▁", "▁▁▁▁"].contains(&token.as_str()) {
                tokens.push(token);
                scores.push(score);
                types.push(1);
            }
        }
        let (tokenizer, library) = pair(&GgufVocabulary {
            model: "llama",
            tokens: tokens.iter().map(String::as_str).collect(),
            scores,
            token_types: types,
            unknown: Some(0),
            bos: Some(1),
            add_space_prefix: Some(space_prefix),
            ..GgufVocabulary::default()
        });
        for text in texts {
            let spaced = text.replace('▁', " ");
            // Every stretch of text gets a space in front; that of the first is taken off again.
            let stretches = spaced.split("<tag>").enumerate().map(|(place, stretch)| match stretch {
                stretch if space_prefix && place > 0 && !stretch.is_empty() => format!(" {stretch}"),
                stretch => stretch.to_owned(),
            });
            let decoded = stretches.collect::<Vec<_>>().join("<tag>");
            check(&tokenizer, &library, &text, &decoded)?;
        }
    }

    #[test]
    fn no_vocabulary_makes_a_tokenizer_panic(
        tokens in prop::collection::vec("|[a-cĠ▁ ]{0,3}|<0x[0-9A-F]{0,3}>|\\PC{0,4}", 0..40),
        scores in prop::collection::vec(any::<f32>(), 0..40),
        token_types in prop::collection::vec(-1..8, 0..40),
        merges in prop::collection::vec("[a-cĠ ]{0,4} ?[a-cĠ]{0,3}", 0..4),
        ids in prop::collection::vec(prop::option::of(0..50u32), 4),
        flags in prop::collection::vec(prop::option::of(any::<bool>()), 3),
        fitting in 0..4usize,
        text in "([a-c ▁]|\\PC){0,20}",
    ) {
        for model in ["gpt2", "llama", "gemma4"] {
            let mut vocabulary = GgufVocabulary {
                model,
                pre: None,
                tokens: tokens.iter().map(String::as_str).collect(),
                scores: scores.clone(),
                token_types: token_types.clone(),
                merges: merges.iter().map(String::as_str).collect(),
                bos: ids[0], eos: ids[1], unknown: ids[2], padding: ids[3],
                add_bos: flags[0], add_eos: flags[1], add_space_prefix: flags[2],
                strips_after_special: fitting == 2,
            };
            // Most that are wrong at random are refused at once; let some through.
            if fitting > 0 {
                vocabulary.scores.resize(tokens.len(), 0.5);
                vocabulary.scores.iter_mut().for_each(|score| *score = if score.is_nan() { 0.0 } else { *score });
                vocabulary.token_types.resize(tokens.len(), 1);
                vocabulary.merges.truncate(fitting - 1);
            }
            let Ok(tokenizer) = Tokenizer::from_gguf(&vocabulary) else { continue };
            for id in 0..60 {
                tokenizer.token_text(id);
            }
            tokenizer.to_tokenizer_json().unwrap();
            if let Ok(ids) = tokenizer.encode(&text, true) {
                tokenizer.decode(&ids, true);
            }
        }
    }
}
