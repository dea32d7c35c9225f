use super::*;

/// Token texts, scores and types of a small SentencePiece vocabulary.
const SMALL: &[(&str, f32, i32)] = &[
    ("<unk>", 0.0, 2),
    ("<s>", 0.0, 3),
    ("</s>", 0.0, 3),
    ("<0xC3>", 0.0, 6),
    ("<0xA9>", 0.0, 6),
    ("▁", -9.0, 1),
    ("h", -10.0, 1),
    ("i", -11.0, 1),
    ("hi", -1.0, 1),
    ("▁hi", -2.0, 1),
    ("  ", -1000.0, 4),
    ("<tag>", -1000.0, 4),
    ("<unused0>", -1000.0, 5),
];

fn small() -> GgufVocabulary<'static> {
    GgufVocabulary {
        model: "llama",
        tokens: SMALL.iter().map(|token| token.0).collect(),
        scores: SMALL.iter().map(|token| token.1).collect(),
        token_types: SMALL.iter().map(|token| token.2).collect(),
        unknown: Some(0),
        bos: Some(1),
        eos: Some(2),
        ..GgufVocabulary::default()
    }
}

fn small_tokenizer() -> Tokenizer {
    Tokenizer::from_gguf(&small()).unwrap()
}

#[test]
fn a_space_is_put_before_every_stretch_of_text() {
    let tokenizer = small_tokenizer();
    assert_eq!(tokenizer.encode("hi hi", false).unwrap(), [9, 9]);
    assert_eq!(tokenizer.encode(" hi", false).unwrap(), [10, 8], "one more");
    assert_eq!(tokenizer.encode("<tag>hi", false).unwrap(), [11, 9]);
    assert_eq!(tokenizer.decode(&[9, 9], false), "hi hi");
    assert_eq!(tokenizer.decode(&[11, 9], false), "<tag> hi");
}

#[test]
fn special_tokens_surround_a_text() {
    let tokenizer = small_tokenizer();
    assert_eq!(tokenizer.encode("", true).unwrap(), [1]);
    assert_eq!(tokenizer.encode("hi</s>", true).unwrap(), [1, 9, 2]);
    assert_eq!(tokenizer.decode(&[1, 9, 2], true), "hi");
    assert_eq!(tokenizer.decode(&[1, 9, 2], false), "<s> hi</s>");
    let both = Tokenizer::from_gguf(&GgufVocabulary { add_eos: Some(true), ..small() }).unwrap();
    assert_eq!(both.encode("hi", true).unwrap(), [1, 9, 2]);
    let none = Tokenizer::from_gguf(&GgufVocabulary { add_bos: Some(false), ..small() }).unwrap();
    assert_eq!(none.encode("hi", true).unwrap(), [9]);
}

#[test]
fn characters_without_a_token_become_bytes_or_unknown() {
    let tokenizer = small_tokenizer();
    assert_eq!(tokenizer.encode("é", false).unwrap(), [5, 3, 4]);
    assert_eq!(tokenizer.encode("hié漢字h", false).unwrap(), [9, 3, 4, 0, 6], "one for both unknown");
    assert_eq!(tokenizer.decode(&[9, 3, 4], false), "hié");
    let strict = Tokenizer::from_gguf(&GgufVocabulary { unknown: None, ..small() }).unwrap();
    assert!(matches!(strict.encode("漢", false), Err(TokenizerError::NoToken { byte: 0xE6 })));
}

#[test]
fn runs_of_spaces_are_merged_like_other_tokens() {
    let tokenizer = small_tokenizer();
    assert_eq!(tokenizer.encode("hi   hi", false).unwrap(), [9, 10, 9]);
    assert_eq!(tokenizer.token_text(10).as_deref(), Some("  "));
}

#[test]
fn tokens_are_shown_as_they_are_written() {
    let tokenizer = small_tokenizer();
    let texts: Vec<_> = [9, 3, 11, 99].iter().map(|&id| tokenizer.token_text(id)).collect();
    assert_eq!(texts, [Some(" hi".into()), Some("<0xC3>".into()), Some("<tag>".into()), None]);
    assert_eq!(tokenizer.token_id("▁hi"), Some(9));
    assert_eq!((0..13).filter(|&id| tokenizer.is_special(id)).collect::<Vec<_>>(), [0, 1, 2, 12]);
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos()), (13, Some(1), &[2][..]));
}

#[test]
fn a_stream_gives_whole_characters() {
    let tokenizer = small_tokenizer();
    let mut stream = tokenizer.decode_stream(true);
    let texts: Vec<_> = [1, 9, 9, 3, 4, 2, 9, 3].iter().map(|&id| stream.push(id)).collect();
    let expected = [None, Some("hi"), Some(" hi"), None, Some("é"), None, Some(" hi"), None];
    assert_eq!(texts.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    assert_eq!(stream.finish().as_deref(), Some("\u{FFFD}"));
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    let refused = |change: fn(&mut GgufVocabulary<'_>)| {
        let mut vocabulary = small();
        change(&mut vocabulary);
        Tokenizer::from_gguf(&vocabulary).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let messages = [
        refused(|v| v.model = "bert"),
        refused(|v| v.scores.clear()),
        refused(|v| v.scores[8] = f32::NAN),
        refused(|v| v.token_types.truncate(1)),
        refused(|v| (v.model, v.merges) = ("gpt2", vec!["h x"])),
        refused(|v| (v.model, v.merges) = ("gpt2", vec!["h i", "hi"])),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    unknown `tokenizer.ggml.model` `bert`: expected `gpt2`, `llama` or `gemma4`; put the model's `tokenizer.json` beside the file instead
    `tokenizer.ggml.scores` has 0 entries, expected 13
    `tokenizer.ggml.scores` has no number for token 8 (`hi`)
    `tokenizer.ggml.token_type` has 1 entries, expected 13
    `tokenizer.ggml.merges` entry 0 (`h x`) does not join two tokens to a third
    `tokenizer.ggml.merges` entry 1 (`hi`) does not join two tokens to a third
    ");
}

#[test]
fn later_vocabularies_of_mistral_have_a_space_before_the_whole_text() {
    let mut vocabulary = small();
    vocabulary.tokens[12] = "[INST]";
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode("hi<tag>hi", false).unwrap(), [9, 11, 8]);
    assert_eq!(tokenizer.encode(" hi", false).unwrap(), [9], "one is there already");
}

#[test]
fn special_tokens_of_phi_3_take_the_blanks_after_them() {
    let strips = GgufVocabulary { strips_after_special: true, ..small() };
    let tokenizer = Tokenizer::from_gguf(&strips).unwrap();
    assert_eq!(tokenizer.encode("<tag> \n hi</s>\n<tag>", false).unwrap(), [11, 9, 2, 11]);
    assert_eq!(tokenizer.encode("<s> hi", false).unwrap(), [1, 10, 8], "not this one");
    let json = tokenizer.to_tokenizer_json().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json).unwrap();
    let exported = Tokenizer::from_file(path).unwrap();
    for text in ["<tag> hi</s> hi", "hi<tag>hi", "<s>hi hi", " hi"] {
        assert_eq!(exported.encode(text, false).unwrap(), tokenizer.encode(text, false).unwrap(), "{text}");
    }
}

#[test]
fn ids_that_are_no_tokens_are_left_out() {
    let beyond = Some(13);
    let vocabulary = GgufVocabulary { bos: beyond, eos: beyond, unknown: beyond, padding: beyond, ..small() };
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (None, &[][..]));
    assert_eq!(tokenizer.encode("hi", true).unwrap(), [9]);
}

/// Gemma 4's kind: merges of raw text, spaces as `▁`, bytes for what has no token, nothing in front.
#[test]
fn merges_may_be_of_raw_text() {
    let tokens = vec!["<bos>", "<0xC3>", "<0xA9>", "▁", "h", "i", "hi", "▁hi", "▁h"];
    let tokenizer = Tokenizer::from_gguf(&GgufVocabulary {
        model: "gemma4",
        token_types: vec![3, 6, 6, 1, 1, 1, 1, 1, 1],
        merges: vec!["h i", "▁ h", "▁ hi"],
        bos: Some(0),
        tokens,
        ..GgufVocabulary::default()
    })
    .unwrap();
    assert_eq!(tokenizer.encode("hi hi", true).unwrap(), [0, 6, 7]);
    assert_eq!(tokenizer.encode(" hié", false).unwrap(), [7, 1, 2]);
    assert_eq!(tokenizer.decode(&[7, 1, 2], false), " hié");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, tokenizer.to_tokenizer_json().unwrap()).unwrap();
    let exported = Tokenizer::from_file(path).unwrap();
    for text in ["hi hi", " hié", "h i"] {
        assert_eq!(exported.encode(text, true).unwrap(), tokenizer.encode(text, true).unwrap(), "{text}");
    }
}

#[test]
fn tokens_that_end_a_turn_are_known() {
    let ends = |texts: [&'static str; 3]| {
        let mut vocabulary = small();
        vocabulary.tokens.extend(texts);
        vocabulary.scores.extend([0.0; 3]);
        vocabulary.token_types.extend([3; 3]);
        Tokenizer::from_gguf(&vocabulary).unwrap().eos().to_vec()
    };
    assert_eq!(ends(["<|end|>", "<turn|>", "<|im_end|>"]), [2, 15, 13, 14]);
    // `<|end|>` ends a message of several.
    assert_eq!(ends(["<|end|>", "<|return|>", "<|call|>"]), [2, 14, 15]);
}
