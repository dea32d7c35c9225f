//! A tokenizer read from a `tokenizer.json`.

use std::path::Path;

use serde::Deserialize;
use tokenizers::{DecoderWrapper, Tokenizer as Backend};

use super::{SpecialTokens, TokenizerError, alphabet};

#[derive(Debug)]
pub(super) struct HubTokenizer {
    backend: Backend,
    spelling: Spelling,
    /// What `tokenizer_config.json` wants around a text, if it says; else `tokenizer.json` decides.
    around: Option<Around>,
    vocab_size: usize,
}

/// How the vocabulary spells the bytes of its tokens.
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
#[serde(untagged)]
enum TokenName {
    Text(String),
    Object { content: String },
}

impl TokenName {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

impl HubTokenizer {
    pub(super) fn read(path: &Path) -> Result<(Self, SpecialTokens), TokenizerError> {
        let bytes = read(path)?;
        let mut backend = Backend::from_bytes(&bytes)
            .map_err(|error| TokenizerError::File { path: path.into(), message: error.to_string() })?;
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
            Spelling::SentencePiece => match super::gguf::byte_of_token(&text) {
                Some(byte) => vec![byte],
                None => text.replace(super::gguf::SPACE, " ").into_bytes(),
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

fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    std::fs::read(path).map_err(|source| TokenizerError::Io { path: path.into(), source })
}

fn encode_error(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Encode { message: error.to_string() }
}
