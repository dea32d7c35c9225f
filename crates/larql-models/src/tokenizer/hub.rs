//! A tokenizer read from a `tokenizer.json`.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokenizers::{DecoderWrapper, Tokenizer as Backend};

use super::{SpecialTokens, TokenizerError, alphabet, oniguruma, sentence_piece};

#[derive(Debug)]
pub(super) struct HubTokenizer {
    backend: Backend,
    spelling: Spelling,
    /// Tokens that `tokenizer_config.json` puts around a text, if it names them; otherwise `tokenizer.json`
    /// decides.
    around: Option<Around>,
    vocab_size: usize,
}

/// Spelling of bytes in the vocabulary.
#[derive(Clone, Copy, Debug)]
enum Spelling {
    /// In the alphabet of byte-level BPE.
    ByteLevel,
    /// With `▁` for a space and `<0x0A>` for a byte.
    SentencePiece,
    /// As they are.
    Plain,
}

#[derive(Clone, Copy, Debug)]
struct Around {
    bos: Option<u32>,
    eos: Option<u32>,
}

/// The part of `tokenizer_config.json` that bears on ids.
#[derive(Debug, Default, Deserialize)]
struct Config {
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
}

/// A token as configurations name it: by its text, or by an object with more about it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a token, or an object with a token as its `content`")]
pub(super) enum TokenName {
    Text(String),
    Object { content: String },
}

impl TokenName {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

/// The largest vocabularies have a million tokens. Memory and time of tables of tokens grow with the highest id, so an
/// id far beyond that is a fault of the file.
pub(super) const MOST_TOKENS: usize = 1 << 24;

impl HubTokenizer {
    pub(super) fn read(path: &Path) -> Result<(Self, SpecialTokens), TokenizerError> {
        let file_error = |message| TokenizerError::File { path: path.into(), message };
        let mut backend = parse(&read(path)?).map_err(file_error)?;
        // Some files carry the batch settings of their training.
        backend.with_padding(None);
        backend.with_truncation(None).map_err(encode_error)?;

        let config_path = path.with_file_name("tokenizer_config.json");
        let config = match read(&config_path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| TokenizerError::Config { path: config_path, source })?,
            Err(TokenizerError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Config::default()
            }
            Err(error) => return Err(error),
        };
        let id = |name: &Option<TokenName>| name.as_ref().and_then(|name| backend.token_to_id(name.text()));
        let first_of = |names: &[&str]| names.iter().find_map(|name| backend.token_to_id(name));
        let bos = id(&config.bos_token)
            .or_else(|| first_of(&["<bos>", "<s>", "<|begin_of_text|>", "<|startoftext|>"]));
        let eos = id(&config.eos_token).or_else(|| first_of(&["<eos>", "</s>"]));
        let says = config.add_bos_token.is_some() || config.add_eos_token.is_some();
        let around = says.then(|| Around {
            bos: bos.filter(|_| config.add_bos_token == Some(true)),
            eos: eos.filter(|_| config.add_eos_token == Some(true)),
        });

        let vocab_size = backend.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        if vocab_size > MOST_TOKENS {
            return Err(file_error(format!("its highest token id is {}", vocab_size - 1)));
        }
        let spelling = backend.get_decoder().map_or(Spelling::Plain, spelling_of);
        let tokenizer = Self { backend, spelling, around, vocab_size };
        Ok((tokenizer, SpecialTokens { bos, eos: eos.into_iter().collect() }))
    }

    pub(super) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let template = add_special && self.around.is_none();
        let encoding = self.backend.encode_fast(text, template).map_err(encode_error)?;
        let Some(around) = self.around.filter(|_| add_special) else {
            return Ok(encoding.get_ids().to_vec());
        };
        Ok(around.bos.iter().chain(encoding.get_ids()).chain(&around.eos).copied().collect())
    }

    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        // Decoders are total on strings; an error would come from a decoder that the library cannot have built.
        self.backend.decode(ids, skip_special).unwrap_or_default()
    }

    pub(super) fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let text = self.backend.id_to_token(id)?;
        if self.backend.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) {
            return Some(text.into_bytes());
        }
        Some(match self.spelling {
            Spelling::ByteLevel => alphabet::bytes_of(&text).unwrap_or_else(|| text.into_bytes()),
            Spelling::SentencePiece => match sentence_piece::byte_of(&text) {
                Some(byte) => vec![byte],
                None => text.replace(sentence_piece::SPACE, " ").into_bytes(),
            },
            Spelling::Plain => text.into_bytes(),
        })
    }

    pub(super) fn bytes_after(&self, previous: Option<u32>, id: u32) -> Vec<u8> {
        match (previous, self.spelling) {
            // Decoders may treat the first token differently, and plain ones each by the one before it.
            (None, _) => {
                let text = self.decode(&[id], false);
                if !text.contains(char::REPLACEMENT_CHARACTER) {
                    return text.into_bytes();
                }
            }
            (Some(previous), Spelling::Plain) => {
                let before = self.decode(&[previous], false);
                let text = self.decode(&[previous, id], false);
                return text.strip_prefix(&before).unwrap_or(&text).into();
            }
            _ => {}
        }
        self.token_bytes(id).unwrap_or_default()
    }

    pub(super) fn to_json(&self) -> Result<String, TokenizerError> {
        self.backend.to_string(false).map_err(encode_error)
    }

    pub(super) fn token_id(&self, text: &str) -> Option<u32> {
        self.backend.token_to_id(text)
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        let added = self.backend.get_added_vocabulary().get_added_tokens_decoder();
        added.get(&id).is_some_and(|token| token.special)
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

fn spelling_of(decoder: &DecoderWrapper) -> Spelling {
    match decoder {
        DecoderWrapper::ByteLevel(_) => Spelling::ByteLevel,
        DecoderWrapper::Metaspace(_) | DecoderWrapper::ByteFallback(_) => Spelling::SentencePiece,
        DecoderWrapper::Sequence(sequence) => {
            let spellings = sequence.get_decoders().iter().map(spelling_of);
            spellings
                .into_iter()
                .find(|spelling| !matches!(spelling, Spelling::Plain))
                .unwrap_or(Spelling::Plain)
        }
        _ => Spelling::Plain,
    }
}

/// The parts of a `tokenizer.json` that may hold patterns.
#[derive(Deserialize)]
struct PatternParts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

impl PatternParts {
    fn parts(&mut self) -> [&mut Value; 3] {
        [&mut self.normalizer, &mut self.pre_tokenizer, &mut self.decoder]
    }
}

/// A file that is no tokenizer gives an error in words.
fn parse(bytes: &[u8]) -> Result<Backend, String> {
    // The library panics on some faults: here those of JSON are found before it sees them, and others caught.
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| error.to_string())?;
    let mut bytes = Cow::Borrowed(bytes);
    // A file that is no object is told of below.
    if let Ok(mut parts) = serde_json::from_slice::<PatternParts>(&bytes)
        && parts.parts().into_iter().fold(false, |changed, part| oniguruma::translate_all(part) | changed)
    {
        let mut file: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        oniguruma::translate_all(&mut file);
        bytes = file.to_string().into_bytes().into();
    }
    match std::panic::catch_unwind(|| Backend::from_bytes(&*bytes)) {
        Ok(backend) => backend.map_err(|error| error.to_string()),
        Err(_) => Err("its parts do not go together".into()),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    std::fs::read(path).map_err(|source| TokenizerError::Io { path: path.into(), source })
}

fn encode_error(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Encode { message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::super::Tokenizer;

    const FILE: &str = include_str!("../../tests/data/tokenizer/byte_level.tokenizer.json");

    /// A tokenizer after changes to its file, and perhaps with a configuration.
    fn changed(change: impl FnOnce(&mut Value), config: Option<Value>) -> Result<Tokenizer, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut file = serde_json::from_str(FILE).unwrap();
        change(&mut file);
        fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        if let Some(config) = config {
            fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        }
        let folder_name = format!("{}/", folder.path().display());
        Tokenizer::from_file(folder.path().join("tokenizer.json"))
            .map_err(|error| error.to_string().replace(&folder_name, ""))
    }

    #[test]
    fn the_configuration_decides_on_tokens_around_a_text() {
        let ids = |change: fn(&mut Value), config: Option<Value>| {
            changed(change, config).unwrap().encode("<pad>", true).unwrap()
        };
        let bos = |file: &mut Value| {
            file["post_processor"]["special_tokens"] =
                json!({"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}});
            let single = file["post_processor"]["single"].as_array_mut().unwrap();
            single.insert(0, json!({"SpecialToken": {"id": "<bos>", "type_id": 0}}));
        };
        assert_eq!(ids(|_| (), None), [0]);
        assert_eq!(ids(bos, None), [2, 0]);
        assert_eq!(ids(bos, Some(json!({"bos_token": "<bos>"}))), [2, 0]);
        assert_eq!(ids(bos, Some(json!({"add_bos_token": false}))), [0]);
        let both = json!({
            "add_bos_token": true, "add_eos_token": true,
            "bos_token": {"content": "<bos>", "lstrip": false}, "eos_token": "<eos>",
        });
        assert_eq!(ids(|_| (), Some(both)), [2, 0, 1]);
    }

    #[test]
    fn settings_for_training_batches_are_ignored() {
        let batches = |file: &mut Value| {
            file["truncation"] =
                json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0});
            file["padding"] = json!({
                "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
            });
        };
        let tokenizer = changed(batches, None).unwrap();
        assert_eq!(tokenizer.encode("<bos><eos>", true).unwrap(), [2, 1]);
    }

    #[test]
    fn tokens_are_shown_as_they_are_written() {
        let tokenizer = changed(|_| (), None).unwrap();
        let shown = |text: &str| tokenizer.token_id(text).and_then(|id| tokenizer.token_text(id));
        let texts = ["Ġc", "<bos>", "Ċ", "Ã"].map(shown);
        assert_eq!(texts, [" c", "<bos>", "\n", "<0xC3>"].map(|text| Some(text.to_owned())));
    }

    #[test]
    fn files_that_are_no_tokenizers_are_refused() {
        let messages = [
            changed(|file| *file = json!({}), None),
            changed(|file| file["model"]["merges"][0] = json!(["Ġ", "漢"]), None),
            changed(|file| file["model"]["continuing_subword_prefix"] = json!("######"), None),
            changed(|file| file["model"]["vocab"]["Ġ"] = json!(4_000_000_000_u32), None),
            changed(|_| (), Some(json!({"bos_token": 1}))),
        ]
        .map(|tokenizer| tokenizer.unwrap_err());
        insta::assert_snapshot!(messages.join("\n"), @r"
        tokenizer.json is not a tokenizer: Model missing. at line 1 column 2
        tokenizer.json is not a tokenizer: Token `漢` out of vocabulary at line 1 column 4492
        tokenizer.json is not a tokenizer: its parts do not go together
        tokenizer.json is not a tokenizer: its highest token id is 4000000000
        tokenizer_config.json is not a tokenizer's configuration: expected a token, or an object with a token as its `content` at line 1 column 15
        ");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        for end in (0..FILE.len()).step_by(97) {
            fs::write(&path, &FILE[..FILE.floor_char_boundary(end)]).unwrap();
            Tokenizer::from_file(&path).unwrap_err();
        }
    }
}
