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
    /// Tokens whose text is out, kept so that the next ones are decoded in their context, and those after them.
    ids: Vec<u32>,
    /// How many of `ids` are out.
    written: usize,
}

/// A character has at most four bytes, so this many tokens that make none are bytes that never will.
const PENDING_TOKENS: usize = 4;

impl<T: Deref<Target = Tokenizer>> DecodeStream<T> {
    /// A stream at its start. `skip_special` as in [`Tokenizer::decode`].
    pub fn new(tokenizer: T, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, ids: Vec::new(), written: 0 }
    }

    /// The text that is complete with this token, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.skip_special && self.tokenizer.is_special(id) {
            return None;
        }
        self.ids.push(id);
        self.take(PENDING_TOKENS)
    }

    /// What is left at the end: U+FFFD for bytes of an incomplete character.
    pub fn finish(mut self) -> Option<String> {
        self.take(0)
    }

    /// Takes text that is complete, or any if more than `pending` tokens wait.
    fn take(&mut self, pending: usize) -> Option<String> {
        let before = self.tokenizer.decode(&self.ids[..self.written], self.skip_special);
        let text = self.tokenizer.decode(&self.ids, self.skip_special);
        let is_incomplete = text.ends_with(char::REPLACEMENT_CHARACTER);
        let new = text.get(before.len()..).filter(|new| !new.is_empty())?.to_owned();
        if is_incomplete && self.ids.len() - self.written <= pending {
            return None;
        }
        self.ids.drain(..self.written);
        self.written = self.ids.len();
        Some(new)
    }
}
