//! Decoding tokens as they arrive.

use std::ops::Deref;

use super::Tokenizer;

/// Text from tokens that arrive one at a time: whole characters only, spaces as in the whole text.
///
/// Holds the tokenizer by reference or in an `Arc`.
///
/// ```
/// # fn main() -> Result<(), larql_models::TokenizerError> {
/// # use larql_models::{GgufVocabulary, Tokenizer};
/// # let vocabulary = GgufVocabulary { model: "gpt2", tokens: vec!["Ã", "©", "h"], ..Default::default() };
/// # let tokenizer = Tokenizer::from_gguf(&vocabulary)?;
/// let mut stream = tokenizer.decode_stream(true);
/// assert_eq!(stream.push(0), None); // the first byte of é
/// assert_eq!(stream.push(1).as_deref(), Some("é"));
/// assert_eq!(stream.finish(), None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DecodeStream<T> {
    tokenizer: T,
    skip_special: bool,
    /// The last token that has a text.
    previous: Option<u32>,
    /// The start of a character.
    pending: Vec<u8>,
}

impl<T: Deref<Target = Tokenizer>> DecodeStream<T> {
    /// A stream at its start. `skip_special` as in [`Tokenizer::decode`].
    pub fn new(tokenizer: T, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, previous: None, pending: Vec::new() }
    }

    /// The text that is complete with this token, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.skip_special && self.tokenizer.is_special(id) {
            return None;
        }
        let bytes = self.tokenizer.bytes_after(self.previous, id);
        // The space before a text is not written, and yet it was there.
        if !bytes.is_empty() || self.tokenizer.token_bytes(id).is_some_and(|bytes| !bytes.is_empty()) {
            self.previous = Some(id);
        }
        self.pending.extend(bytes);
        Some(self.take_characters()).filter(|text| !text.is_empty())
    }

    /// The rest at the end: U+FFFD for the start of a character.
    pub fn finish(self) -> Option<String> {
        Some(String::from_utf8_lossy(&self.pending).into_owned()).filter(|text| !text.is_empty())
    }

    /// Takes all but the start of a character that may yet be completed.
    fn take_characters(&mut self) -> String {
        let mut text = String::new();
        let mut rest = &self.pending[..];
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            rest = after;
            let Some(invalid) = error.error_len() else { break };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[invalid..];
        }
        if let Ok(valid) = std::str::from_utf8(rest) {
            text.push_str(valid);
            rest = &[];
        }
        self.pending = rest.to_vec();
        text
    }
}
