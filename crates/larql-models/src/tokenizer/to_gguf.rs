//! A tokenizer as the entries of a GGUF file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::sentence_piece::{SPACE, byte_of};
use super::split::{GPT_2, Scheme};
use super::vocabulary::TokenType;
use super::{Tokenizer, TokenizerError};

/// The `tokenizer.ggml.*` entries of a tokenizer, for a model with a row for each token.
#[derive(Debug, PartialEq)]
pub(crate) struct GgufEntries {
    pub(crate) model: &'static str,
    pub(crate) pre: Option<&'static str>,
    pub(crate) tokens: Vec<String>,
    pub(crate) scores: Vec<f32>,
    pub(crate) token_types: Vec<i32>,
    pub(crate) merges: Vec<String>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) add_bos: bool,
    pub(crate) add_eos: bool,
    pub(crate) add_space_prefix: bool,
}

/// The fields of `tokenizer.json` that a GGUF file needs.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    model: Value,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    special: bool,
}

/// Its model, if it is byte-pair encoding.
#[derive(Deserialize)]
struct Bpe {
    vocab: BTreeMap<String, u32>,
    merges: Vec<(String, String)>,
    unk_token: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

impl Tokenizer {
    /// Its entries in the GGUF file of a model with this number of embedding rows; rows without a token get one that is
    /// never made, and tokens without a row are left out, since the model cannot take them.
    ///
    /// # Errors
    /// [`TokenizerError::NotInGguf`] for kinds of tokenizers and ways of splitting text that have no name there.
    pub(crate) fn to_gguf(&self, rows: usize) -> Result<GgufEntries, TokenizerError> {
        let parse_error = |error: serde_json::Error| TokenizerError::Encode { message: error.to_string() };
        let mut file: File = serde_json::from_str(&self.to_tokenizer_json()?).map_err(parse_error)?;
        let kind = file.model["type"].as_str().unwrap_or("no name").to_owned();
        if kind != "BPE" {
            return Err(not_in_gguf("byte-pair encoding", kind));
        }
        let mut model: Bpe = serde_json::from_value(file.model.take()).map_err(parse_error)?;
        let has_row = |id: &u32| (*id as usize) < rows;
        model.vocab.retain(|_, id| has_row(id));
        let is_made = |token: &str| model.vocab.contains_key(token);
        model
            .merges
            .retain(|(left, right)| is_made(left) && is_made(right) && is_made(&format!("{left}{right}")));

        let mut entries = GgufEntries {
            model: if model.byte_fallback { "llama" } else { "gpt2" },
            pre: None,
            tokens: (0..rows).map(|id| format!("[PAD{id}]")).collect(),
            scores: Vec::new(),
            token_types: vec![TokenType::Unused.to_gguf(); rows],
            merges: Vec::new(),
            bos: self.bos().filter(has_row),
            eos: self.eos().first().copied().filter(has_row),
            unknown: model
                .unk_token
                .as_ref()
                .and_then(|token| model.vocab.get(token))
                .copied()
                .filter(has_row),
            add_bos: false,
            add_eos: false,
            add_space_prefix: false,
        };
        for (text, id) in &model.vocab {
            let kind = match byte_of(text) {
                _ if entries.unknown == Some(*id) => TokenType::Unknown,
                Some(_) if model.byte_fallback => TokenType::Byte,
                _ => TokenType::Normal,
            };
            entries.put(*id, text.clone(), kind);
        }
        for AddedToken { id, content, special } in
            file.added_tokens.into_iter().filter(|added| has_row(&added.id))
        {
            match special {
                true => entries.put(id, content, TokenType::Control),
                // Text is searched for these as it stands, before spaces are spelled.
                false => entries.put(id, content.replace(SPACE, " "), TokenType::UserDefined),
            }
        }
        if model.byte_fallback {
            entries.scores = scores(&model, &entries);
            entries.add_space_prefix =
                prepends_space(&file.normalizer) || prepends_space(&file.pre_tokenizer);
        } else {
            let patterns = file.pre_tokenizer.iter().map(patterns).collect::<Result<Vec<_>, _>>()?.concat();
            let found = || {
                let whole = if model.ignore_merges { "whole pieces and " } else { "" };
                not_in_gguf("a known way of splitting text", format!("{whole}{patterns:?}"))
            };
            let scheme = Scheme::of_patterns(&patterns, model.ignore_merges).ok_or_else(found)?;
            entries.pre = Some(scheme.name());
            entries.merges = model.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        }
        let (alone, around) = (self.encode("", false)?, self.encode("", true)?);
        let added = around.len().saturating_sub(alone.len());
        entries.add_bos = added > 0 && around.first() == entries.bos.as_ref();
        entries.add_eos = added > usize::from(entries.add_bos) && around.last() == entries.eos.as_ref();
        Ok(entries)
    }
}

impl GgufEntries {
    /// Gives a row its token.
    fn put(&mut self, id: u32, text: String, kind: TokenType) {
        (self.tokens[id as usize], self.token_types[id as usize]) = (text, kind.to_gguf());
    }

    /// The same, as read from a file.
    #[cfg(test)]
    fn vocabulary(&self) -> crate::GgufVocabulary<'_> {
        crate::GgufVocabulary {
            model: self.model,
            pre: self.pre,
            tokens: self.tokens.iter().map(String::as_str).collect(),
            scores: self.scores.clone(),
            token_types: self.token_types.clone(),
            merges: self.merges.iter().map(String::as_str).collect(),
            bos: self.bos,
            eos: self.eos,
            unknown: self.unknown,
            padding: None,
            add_bos: Some(self.add_bos),
            add_eos: Some(self.add_eos),
            add_space_prefix: Some(self.add_space_prefix),
            strips_after_special: false,
        }
    }
}

/// The higher the score of a token, the earlier pairs are joined to it: here in the order of the merges.
fn scores(model: &Bpe, entries: &GgufEntries) -> Vec<f32> {
    let mut scores = vec![-(model.merges.len() as f32); entries.tokens.len()];
    for (rank, (left, right)) in model.merges.iter().enumerate().rev() {
        if let Some(id) = model.vocab.get(&format!("{left}{right}")) {
            scores[*id as usize] = -(rank as f32);
        }
    }
    scores
}

/// True if a normalizer or pre-tokenizer puts a space before a text.
fn prepends_space(stage: &Option<Value>) -> bool {
    let Some(stage) = stage else { return false };
    let inner = stage["normalizers"].as_array().or(stage["pretokenizers"].as_array());
    match stage["type"].as_str() {
        Some("Prepend") => true,
        Some("Metaspace") => stage["prepend_scheme"].as_str().is_none_or(|scheme| scheme != "never"),
        _ => inner.is_some_and(|stages| stages.iter().any(|stage| prepends_space(&Some(stage.clone())))),
    }
}

/// The patterns that a pre-tokenizer splits text by, one after the other.
fn patterns(stage: &Value) -> Result<Vec<String>, TokenizerError> {
    let unknown = || not_in_gguf("text split by regular expressions", stage.to_string());
    match stage["type"].as_str() {
        Some("Sequence") => {
            let stages = stage["pretokenizers"].as_array().ok_or_else(unknown)?;
            Ok(stages.iter().map(patterns).collect::<Result<Vec<_>, _>>()?.concat())
        }
        Some("Split") if stage["behavior"] == "Isolated" && stage["invert"] == false => {
            let pattern = stage["pattern"]["Regex"].as_str().ok_or_else(unknown)?;
            Ok(vec![pattern.to_owned()])
        }
        Some("Digits") if stage["individual_digits"] == true => Ok(vec![r"\p{N}".into()]),
        Some("ByteLevel") if stage["add_prefix_space"] == false => {
            Ok(if stage["use_regex"] == false { Vec::new() } else { vec![GPT_2.into()] })
        }
        _ => Err(unknown()),
    }
}

fn not_in_gguf(expected: &'static str, found: String) -> TokenizerError {
    TokenizerError::NotInGguf { expected, found: crate::config::shorten(&found) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::GgufFile;

    const TEXTS: [&str; 6] = [
        "The capital of France is",
        "  two spaces, then\n\n\ttabs \u{1F980} and 12345 digits",
        "def f(x):\n    return x ** 2  # it's \"quoted\"",
        "Übergrößenträger, 漢字, हिन्दी, العربية",
        "",
        " <eos> <|im_start|>user\nhi<|im_end|><end_of_turn>",
    ];

    #[test]
    fn real_vocabularies_come_back_through_tokenizer_json() {
        for model in [larql_testing::SMOLLM2, larql_testing::GEMMA3] {
            let Some(path) = larql_testing::real_model(model) else { continue };
            let file = GgufFile::open(&path).unwrap();
            let original = file.vocabulary().unwrap().unwrap();
            let tokenizer = Tokenizer::from_gguf(&original).unwrap();

            let folder = tempfile::tempdir().unwrap();
            let json = folder.path().join("tokenizer.json");
            std::fs::write(&json, tokenizer.to_tokenizer_json().unwrap()).unwrap();
            let config = folder.path().join("tokenizer_config.json");
            std::fs::write(config, tokenizer.to_tokenizer_config_json(None)).unwrap();
            let entries = Tokenizer::from_file(&json).unwrap().to_gguf(original.tokens.len()).unwrap();

            assert_eq!(entries.model, original.model);
            assert_eq!((entries.bos, entries.eos), (original.bos, original.eos));
            assert_eq!(entries.pre, original.pre.filter(|_| entries.model == "gpt2"));
            assert_eq!(entries.merges, original.merges);
            // Runs of spaces are merged here, where the file has them as tokens that are matched whole.
            let is_run = |token: &str| token.len() > 1 && token.bytes().all(|byte| byte == b' ');
            for (id, token) in original.tokens.iter().enumerate().filter(|(_, token)| !is_run(token)) {
                let converted = (entries.tokens[id].as_str(), entries.token_types[id]);
                assert_eq!(converted, (*token, original.token_types[id]), "{id}");
            }

            let again = Tokenizer::from_gguf(&entries.vocabulary()).unwrap();
            for text in TEXTS {
                for add_special in [false, true] {
                    let ids = |tokenizer: &Tokenizer| tokenizer.encode(text, add_special).unwrap();
                    assert_eq!(ids(&again), ids(&tokenizer), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn rows_without_a_token_are_filled_and_unnamed_tokens_are_listed() {
        let file: Value =
            serde_json::from_str(include_str!("../../tests/data/tokenizer/byte_level.tokenizer.json"))
                .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let convert = |change: fn(&mut Value), rows: usize| {
            let mut file = file.clone();
            change(&mut file);
            std::fs::write(&path, file.to_string()).unwrap();
            Tokenizer::from_file(&path).unwrap().to_gguf(rows)
        };
        let entries = convert(|_| (), 1000).unwrap();
        assert_eq!((entries.tokens[999].as_str(), entries.token_types[999]), ("[PAD999]", 5));
        let few = convert(|_| (), 300).unwrap();
        let all = convert(|_| (), 1000).unwrap();
        assert_eq!(few.tokens, all.tokens[..300]);
        assert!(few.merges.len() < all.merges.len());
        Tokenizer::from_gguf(&few.vocabulary()).unwrap();
        let errors = [
            convert(|file| file["pre_tokenizer"] = json!({"type": "Whitespace"}), 1000),
            convert(
                |file| {
                    file["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated", "invert": false});
                },
                1000,
            ),
            convert(
                |file| file["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}),
                1000,
            ),
        ];
        let messages = errors.map(|result| result.unwrap_err().to_string());
        insta::assert_snapshot!(messages.join("\n"), @r#"
        a GGUF file cannot hold this tokenizer: expected text split by regular expressions, found {"type":"Whitespace"}
        a GGUF file cannot hold this tokenizer: expected a known way of splitting text, found ["x"]
        a GGUF file cannot hold this tokenizer: expected byte-pair encoding, found Unigram
        "#);
    }
}
