//! Tokenizers: from text to token ids and back.

mod alphabet;
mod byte_level;
mod export;
mod gguf;
mod hub;
mod merge;
mod older;
mod oniguruma;
mod piece_model;
mod sentence_piece;
mod split;
mod stream;
mod to_gguf;
mod trie;
mod vocabulary;

use std::path::{Path, PathBuf};

pub use stream::DecodeStream;
pub(crate) use to_gguf::GgufEntries;
pub use vocabulary::GgufVocabulary;

use gguf::GgufTokenizer;
use hub::HubTokenizer;
use piece_model::PieceModel;

/// Converts text to token ids and back, as in the model's training.
///
/// ```
/// # fn main() -> Result<(), larql_models::TokenizerError> {
/// use larql_models::{GgufVocabulary, Tokenizer};
///
/// let tokenizer = Tokenizer::from_gguf(&GgufVocabulary {
///     model: "gpt2",
///     tokens: vec!["h", "i", "Ġ", "hi", "Ġhi"],
///     merges: vec!["h i", "Ġ hi"],
///     ..GgufVocabulary::default()
/// })?;
/// assert_eq!(tokenizer.encode("hi hi", false)?, [3, 4]);
/// assert_eq!(tokenizer.decode(&[3, 4], false), "hi hi");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    kind: Kind,
    special: SpecialTokens,
}

#[derive(Debug)]
enum Kind {
    Hub(Box<HubTokenizer>),
    Gguf(Box<GgufTokenizer>),
}

/// Tokens that start and end a text.
#[derive(Debug, Default)]
struct SpecialTokens {
    bos: Option<u32>,
    /// The tokenizer's own first, then others that end a turn.
    eos: Vec<u32>,
}

/// Errors of making or using a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// `tokenizer.json` is not one.
    #[error("{} is not a tokenizer: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Error of the `tokenizers` library.
        message: String,
    },
    /// `tokenizer_config.json` is not one.
    #[error("{} is not a tokenizer's configuration: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Position of the error.
        source: serde_json::Error,
    },
    /// A `tokenizer.model` is not one that this crate knows.
    #[error(
        "expected SentencePiece's byte-pair encoding without changes of the text before, found {found}; \
         put the model's `tokenizer.json` beside it"
    )]
    PieceModel {
        /// Content found.
        found: String,
    },
    /// The kind of vocabulary is not one that this crate knows.
    #[error(
        "unknown `tokenizer.ggml.model` `{name}`: expected `gpt2`, `llama` or `gemma4`; \
         put the model's `tokenizer.json` beside the file instead"
    )]
    UnknownModel {
        /// Its name in the file.
        name: String,
    },
    /// The way of splitting text is not one that this crate knows.
    #[error(
        "unknown `tokenizer.ggml.pre` `{name}`: expected one of {known}; \
         put the model's `tokenizer.json` beside the file instead"
    )]
    UnknownSplit {
        /// Its name in the file.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// An array has another length than there are tokens.
    #[error("`tokenizer.ggml.{array}` has {found} entries, expected {expected}")]
    Length {
        /// Name of the array.
        array: &'static str,
        /// Expected number.
        expected: usize,
        /// Number found.
        found: usize,
    },
    /// A score is not a number.
    #[error("`tokenizer.ggml.scores` has no number for token {id} (`{token}`)")]
    Score {
        /// The token.
        id: u32,
        /// Its text.
        token: String,
    },
    /// A merge does not join two tokens to a third.
    #[error("`tokenizer.ggml.merges` entry {index} (`{merge}`) does not join two tokens to a third")]
    Merge {
        /// Its place in the list.
        index: usize,
        /// Value found.
        merge: String,
    },
    /// A split pattern does not compile or match; this is a fault in this crate.
    #[error("cannot split text: {0}")]
    Split(#[from] Box<fancy_regex::Error>),
    /// The vocabulary cannot write a text.
    #[error("the vocabulary has no token for byte {byte:#04x} and none for unknown text")]
    NoToken {
        /// The first byte without a token.
        byte: u8,
    },
    /// A text is longer than a gigabyte.
    #[error("a text of {bytes} bytes is too long to encode at once: split it")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A tokenizer that GGUF files cannot express.
    #[error("a GGUF file cannot hold this tokenizer: expected {expected}, found {found}")]
    NotInGguf {
        /// Kind that GGUF files can hold.
        expected: &'static str,
        /// Kind of this tokenizer.
        found: String,
    },
    /// The `tokenizers` library could not encode a text.
    #[error("cannot encode the text: {message}")]
    Encode {
        /// Error message.
        message: String,
    },
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, and the `tokenizer_config.json` beside it if there is one: that one may ask for
    /// begin-of-text and end-of-text tokens that the other does not add, and names them.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let (tokenizer, special) = HubTokenizer::read(path.as_ref())?;
        Ok(Self { kind: Kind::Hub(Box::new(tokenizer)), special }.with_turn_ends())
    }

    /// The file of a directory that a tokenizer is read from: `tokenizer.json`, else `tokenizer.model`, else `vocab.json` if
    /// there is a `merges.txt`.
    pub(crate) fn file_in(directory: &Path) -> Option<PathBuf> {
        let file = |name: &str| Some(directory.join(name)).filter(|path| path.is_file());
        let with_merges = || file("merges.txt").and_then(|_| file("vocab.json"));
        file("tokenizer.json").or_else(|| file("tokenizer.model")).or_else(with_merges)
    }

    /// Reads one of the files that [`Tokenizer::file_in`] names, with those beside it.
    pub(crate) fn from_any_file(path: &Path) -> Result<Self, TokenizerError> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("tokenizer.model") => older::of_pieces(path),
            Some("vocab.json") => older::of_merges(path),
            _ => Tokenizer::from_file(path),
        }
    }

    /// Makes the tokenizer of a model file of SentencePiece, without tokens that other files add. It must be one of
    /// byte-pair encoding, as Llama's and Gemma's are.
    ///
    /// # Errors
    /// [`TokenizerError::PieceModel`] if the file is damaged or of another kind.
    pub fn from_piece_model(bytes: &[u8]) -> Result<Self, TokenizerError> {
        Tokenizer::from_gguf(&PieceModel::parse(bytes)?.vocabulary())
    }

    /// Makes the tokenizer that a GGUF file describes.
    ///
    /// Where programs read such files differently, this follows the tokenizer that the file was converted from.
    /// Runs of more spaces than any token has are merged, as in `transformers`, not cut from the left. As in llama.cpp,
    /// `pre` decides on splits that `transformers` has no entry for, such as SmolLM's single digits.
    pub fn from_gguf(vocabulary: &GgufVocabulary<'_>) -> Result<Self, TokenizerError> {
        let (tokenizer, special) = GgufTokenizer::new(vocabulary)?;
        Ok(Self { kind: Kind::Gguf(Box::new(tokenizer)), special }.with_turn_ends())
    }

    /// The tokens of `text`. Special tokens that are spelled out in it are recognised. `add_special` adds what the
    /// model expects around a whole text, such as a begin-of-text token.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        match &self.kind {
            Kind::Hub(tokenizer) => tokenizer.encode(text, add_special),
            Kind::Gguf(tokenizer) => tokenizer.encode(text, add_special),
        }
    }

    /// The text that `ids` write. Bytes that are not UTF-8 become U+FFFD, ids that there are not write nothing.
    /// `skip_special` leaves out those for which [`is_special`](Self::is_special) holds.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        match &self.kind {
            Kind::Hub(tokenizer) => tokenizer.decode(ids, skip_special),
            Kind::Gguf(tokenizer) => tokenizer.decode(ids, skip_special),
        }
    }

    /// Decodes tokens as they arrive.
    pub fn decode_stream(&self, skip_special: bool) -> DecodeStream<&Self> {
        DecodeStream::new(self, skip_special)
    }

    /// The text that one token writes in the middle of others, such as `" Paris"`. Bytes that are not UTF-8 by
    /// themselves are shown as `<0xE2>`. None if there is no such token.
    pub fn token_text(&self, id: u32) -> Option<String> {
        let bytes = self.token_bytes(id)?;
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|byte| format!("<0x{byte:02X}>")));
        }
        Some(text)
    }

    /// The bytes that one token writes in the middle of others. None if there is no such token.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        match &self.kind {
            Kind::Hub(tokenizer) => tokenizer.token_bytes(id),
            Kind::Gguf(tokenizer) => tokenizer.token_bytes(id),
        }
    }

    /// The token that the vocabulary spells `text`: with `Ġ` (byte-level BPE) or `▁` (SentencePiece) for a space.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        match &self.kind {
            Kind::Hub(tokenizer) => tokenizer.token_id(text),
            Kind::Gguf(tokenizer) => tokenizer.vocabulary.tokens.id(text),
        }
    }

    /// True if a token is a control token: begin and end of text, turns, padding, unused ones.
    pub fn is_special(&self, id: u32) -> bool {
        match &self.kind {
            Kind::Hub(tokenizer) => tokenizer.is_special(id),
            Kind::Gguf(tokenizer) => tokenizer.is_special(id),
        }
    }

    /// One more than the highest id. A model may have more embedding rows, of which the last are padding, or fewer:
    /// then it cannot take the tokens beyond.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            Kind::Hub(tokenizer) => tokenizer.vocab_size(),
            Kind::Gguf(tokenizer) => tokenizer.vocabulary.tokens.len(),
        }
    }

    /// The begin-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// Tokens that end a text or a turn, the tokenizer's own end-of-text token first.
    pub fn eos(&self) -> &[u32] {
        &self.special.eos
    }

    /// The tokenizer as a `tokenizer.json` for other programs, which read the same ids from it.
    ///
    /// For a SentencePiece vocabulary of a GGUF file the list of merges is derived here, as `transformers` does:
    /// half a million for Gemma's, 14 MB of JSON.
    pub fn to_tokenizer_json(&self) -> Result<String, TokenizerError> {
        match &self.kind {
            Kind::Hub(tokenizer) => tokenizer.to_json(),
            Kind::Gguf(tokenizer) => serde_json::to_string(&tokenizer.to_json())
                .map_err(|error| TokenizerError::Encode { message: error.to_string() }),
        }
    }

    /// A `tokenizer_config.json` to go with [`to_tokenizer_json`](Self::to_tokenizer_json): it names the tokens
    /// that start and end a text, which that one does not, and holds the chat template, or a list of named ones.
    pub fn to_tokenizer_config_json(&self, chat_template: Option<serde_json::Value>) -> String {
        let text = |id: Option<u32>| id.and_then(|id| self.token_text(id));
        let mut config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": text(self.bos()),
            "eos_token": text(self.eos().first().copied()),
            "clean_up_tokenization_spaces": false,
        });
        if let Some(template) = chat_template {
            config["chat_template"] = template;
        }
        config.to_string()
    }

    /// The bytes that a token adds to a text that ends in `previous`, or is empty.
    fn bytes_after(&self, previous: Option<u32>, id: u32) -> Vec<u8> {
        match &self.kind {
            Kind::Hub(tokenizer) => tokenizer.bytes_after(previous, id),
            Kind::Gguf(tokenizer) => tokenizer.bytes_after(previous, id),
        }
    }

    /// Adds tokens that are known to end a turn: a chat model stops there whatever else its files say.
    fn with_turn_ends(mut self) -> Self {
        const TURN_ENDS: [&str; 11] = [
            "<|eot_id|>",
            "<|eom_id|>",
            "<|im_end|>",
            "<|end|>",
            "<end_of_turn>",
            "<turn|>",
            "<end_of_utterance>",
            "<|end_of_text|>",
            "<|endoftext|>",
            "<|return|>",
            "<|call|>",
        ];
        // With these two, `<|end|>` ends a message of several that make a turn.
        let has_messages = ["<|return|>", "<|call|>"].iter().all(|text| self.token_id(text).is_some());
        let ends = TURN_ENDS.iter().filter(|text| !has_messages || **text != "<|end|>");
        for id in ends.filter_map(|text| self.token_id(text)).collect::<Vec<_>>() {
            if self.is_special(id) && !self.special.eos.contains(&id) {
                self.special.eos.push(id);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
