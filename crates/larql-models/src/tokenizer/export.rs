//! A tokenizer made from a GGUF file as the `tokenizer.json` that other programs read.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::gguf::{ByteLevel, GgufTokenizer, Model, SPACE, SentencePiece, is_whole};
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
        let added_tokens = self
            .tokens
            .iter()
            .filter(|&(id, text)| {
                is_found(&self.tokens, id, text) && is_whole(self.types[id as usize], text, &self.model)
            })
            .map(|(id, content)| AddedToken {
                id,
                content,
                single_word: false,
                lstrip: false,
                rstrip: false,
                normalized: false,
                special: self.is_special(id),
            })
            .collect();
        let unk_token = self.unknown.and_then(|id| self.tokens.text(id));
        let (parts, model) = match &self.model {
            Model::ByteLevel(model) => (byte_level_parts(model), model.to_json(&self.tokens, unk_token)),
            Model::SentencePiece(model) => {
                (sentence_piece_parts(model), model.to_json(&self.tokens, unk_token))
            }
        };
        TokenizerJson {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens,
            normalizer: parts.normalizer,
            pre_tokenizer: parts.pre_tokenizer,
            post_processor: self.template(),
            decoder: parts.decoder,
            model,
        }
    }

    /// What is put around a text.
    fn template(&self) -> Value {
        if self.add_bos.is_none() && self.add_eos.is_none() {
            return Value::Null;
        }
        let text = |id: &u32| self.tokens.text(*id).unwrap_or_default();
        let special = |id: &u32| json!({"SpecialToken": {"id": text(id), "type_id": 0}});
        let around = |sequence: &str| -> Vec<Value> {
            let sequence = json!({"Sequence": {"id": sequence, "type_id": 0}});
            let bos = self.add_bos.iter().map(special);
            bos.chain([sequence]).chain(self.add_eos.iter().map(special)).collect()
        };
        let pair = [around("A"), around("B")].concat();
        let tokens: serde_json::Map<_, _> = self
            .add_bos
            .iter()
            .chain(&self.add_eos)
            .map(|id| (text(id).to_owned(), json!({"id": text(id), "ids": [id], "tokens": [text(id)]})))
            .collect();
        json!({
            "type": "TemplateProcessing",
            "single": around("A"),
            "pair": pair,
            "special_tokens": tokens,
        })
    }
}

/// Whether looking up the text of a token leads to it, and not to a later one of the same text.
fn is_found(tokens: &TokenTable, id: u32, text: &str) -> bool {
    tokens.id(text) == Some(id)
}

/// What comes before and after the model.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
}

fn byte_level_parts(model: &ByteLevel) -> Parts {
    let splits = model.scheme.patterns.iter().map(
        |pattern| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}),
    );
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    Parts {
        normalizer: Value::Null,
        pre_tokenizer: json!({
            "type": "Sequence",
            "pretokenizers": splits.chain([byte_level.clone()]).collect::<Vec<_>>(),
        }),
        decoder: byte_level,
    }
}

fn sentence_piece_parts(model: &SentencePiece) -> Parts {
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    let (normalizer, pre_tokenizer) = if model.space_prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        (
            Value::Null,
            json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": false}),
        )
    } else {
        (json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}), Value::Null)
    };
    Parts { normalizer, pre_tokenizer, decoder: json!({"type": "Sequence", "decoders": decoders}) }
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
    /// The list of merges that the scores amount to: every way in which a token falls into two others.
    fn to_json<'a>(&self, tokens: &'a TokenTable, unk_token: Option<&'a str>) -> Bpe<'a> {
        let mut merges = Vec::new();
        for (id, text) in tokens.iter().filter(|&(id, text)| is_found(tokens, id, text)) {
            let chars = text.chars().count() as u32;
            for (left_chars, (at, _)) in (0..).zip(text.char_indices()).skip(1) {
                let (left, right) = text.split_at(at);
                let sides = tokens.id(left).and(tokens.id(right));
                let merge = sides.and_then(|_| self.merge(id, left_chars, chars - left_chars));
                merges.extend(merge.map(|merge| (merge, left, right)));
            }
        }
        merges.sort_unstable_by_key(|&(merge, _, _)| merge);
        Bpe {
            dropout: (),
            unk_token,
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: true,
            byte_fallback: true,
            ignore_merges: false,
            vocab: tokens,
            merges: merges.into_iter().map(|(_, left, right)| (left, right)).collect(),
        }
    }
}
