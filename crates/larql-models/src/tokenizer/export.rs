//! A tokenizer made from a GGUF file as the `tokenizer.json` that other programs read.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::byte_level::ByteLevel;
use super::gguf::{GgufTokenizer, Model};
use super::sentence_piece::{Prefix, SPACE, SentencePiece};
use super::vocabulary::TokenTable;

/// The fields of `tokenizer.json` in the order in which the `tokenizers` library writes them.
#[derive(Serialize)]
pub(super) struct TokenizerJson<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<AddedToken<'a>>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Bpe<'a>,
}

#[derive(Serialize)]
struct AddedToken<'a> {
    id: u32,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "BPE")]
struct Bpe<'a> {
    dropout: (),
    unk_token: Option<&'a str>,
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    #[serde(serialize_with = "as_map")]
    vocab: &'a TokenTable,
    merges: Vec<(&'a str, &'a str)>,
}

/// Ids by text.
fn as_map<S: Serializer>(tokens: &TokenTable, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        tokens.iter().filter(|&(id, text)| is_found(tokens, id, text)).map(|(id, text)| (text, id)),
    )
}

impl GgufTokenizer {
    pub(super) fn to_json(&self) -> TokenizerJson<'_> {
        let tokens = &self.vocabulary.tokens;
        let unknown = self.vocabulary.unknown.and_then(|id| tokens.text(id));
        let (normalizer, pre_tokenizer, decoder) = match &self.model {
            Model::ByteLevel(model) => around_byte_level(model),
            Model::SentencePiece(model) => around_sentence_piece(model),
        };
        TokenizerJson {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: self.added_tokens(),
            normalizer,
            pre_tokenizer,
            post_processor: self.template(),
            decoder,
            model: match &self.model {
                Model::ByteLevel(model) => model.to_json(tokens, unknown),
                Model::SentencePiece(model) => model.to_json(tokens, unknown),
            },
        }
    }

    fn added_tokens(&self) -> Vec<AddedToken<'_>> {
        let tokens = &self.vocabulary.tokens;
        let whole = tokens.iter().filter(|&(id, text)| is_found(tokens, id, text) && self.is_whole(id));
        whole
            .map(|(id, content)| AddedToken {
                id,
                content,
                single_word: false,
                lstrip: false,
                rstrip: self.strips_after(id),
                normalized: false,
                special: self.is_special(id),
            })
            .collect()
    }

    /// Tokens around a text.
    fn template(&self) -> Value {
        let special: Vec<u32> = self.bos.iter().chain(&self.eos).copied().collect();
        if special.is_empty() {
            return Value::Null;
        }
        let text = |id: u32| self.vocabulary.tokens.text(id).unwrap_or_default();
        let token = |id: u32| json!({"SpecialToken": {"id": text(id), "type_id": 0}});
        let around = |sequence: &str| -> Vec<Value> {
            let sequence = json!({"Sequence": {"id": sequence, "type_id": 0}});
            self.bos.map(token).into_iter().chain([sequence]).chain(self.eos.map(token)).collect()
        };
        let pair = [around("A"), around("B")].concat();
        let tokens: serde_json::Map<_, _> = special
            .iter()
            .map(|&id| (text(id).to_owned(), json!({"id": text(id), "ids": [id], "tokens": [text(id)]})))
            .collect();
        json!({"type": "TemplateProcessing", "single": around("A"), "pair": pair, "special_tokens": tokens})
    }
}

/// True if looking up the text of a token leads to it, and not to a later one of the same text.
fn is_found(tokens: &TokenTable, id: u32, text: &str) -> bool {
    tokens.id(text) == Some(id)
}

/// Normalizer, pre-tokenizer and decoder.
fn around_byte_level(model: &ByteLevel) -> (Value, Value, Value) {
    let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let stages: Vec<_> = model.scheme.patterns.iter().map(split).chain([byte_level.clone()]).collect();
    (Value::Null, json!({"type": "Sequence", "pretokenizers": stages}), byte_level)
}

/// Normalizer, pre-tokenizer and decoder.
fn around_sentence_piece(model: &SentencePiece) -> (Value, Value, Value) {
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if model.prefix != Prefix::Never {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let spelled = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let (normalizer, pre_tokenizer) = match model.prefix {
        Prefix::Never => (spelled, Value::Null),
        Prefix::Start => {
            let first =
                json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": false});
            (Value::Null, first)
        }
        Prefix::Stretches => {
            let prepended = json!({"type": "Prepend", "prepend": SPACE});
            (json!({"type": "Sequence", "normalizers": [prepended, spelled]}), Value::Null)
        }
    };
    (normalizer, pre_tokenizer, json!({"type": "Sequence", "decoders": decoders}))
}

impl ByteLevel {
    fn to_json<'a>(&self, tokens: &'a TokenTable, unk_token: Option<&'a str>) -> Bpe<'a> {
        let mut merges: Vec<_> = self.merges.iter().map(|(&pair, merge)| (merge.rank, pair)).collect();
        merges.sort_unstable();
        let text = |id| tokens.text(id).unwrap_or_default();
        Bpe {
            dropout: (),
            unk_token,
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: self.scheme.whole_pieces,
            vocab: tokens,
            merges: merges.into_iter().map(|(_, (left, right))| (text(left), text(right))).collect(),
        }
    }
}

impl SentencePiece {
    fn to_json<'a>(&self, tokens: &'a TokenTable, unk_token: Option<&'a str>) -> Bpe<'a> {
        Bpe {
            dropout: (),
            unk_token,
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: true,
            byte_fallback: true,
            ignore_merges: false,
            vocab: tokens,
            merges: self.merges(tokens),
        }
    }
}
