//! The tokenizer's metadata in a GGUF file, and the table of its tokens.

use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::TokenizerError;

/// The `tokenizer.ggml.*` entries of a GGUF file, as they stand there.
///
/// An array that the file lacks is left empty, a missing scalar is `None`. The borrowed text is copied when a
/// [`Tokenizer`](super::Tokenizer) is made of it.
#[derive(Clone, Debug, Default)]
pub struct GgufVocabulary<'a> {
    /// `model`: `gpt2` (byte-level BPE), `llama` (SentencePiece BPE by scores) or `gemma4` (the same by merges).
    pub model: &'a str,
    /// `pre`: name of the way text is split before merging. Only byte-level BPE asks for it.
    pub pre: Option<&'a str>,
    /// `tokens`: the text of every token, by id.
    pub tokens: Vec<&'a str>,
    /// `scores`: one for each token; the higher, the earlier it is merged. Only SentencePiece asks for them.
    pub scores: Vec<f32>,
    /// `token_type`: one for each token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. If
    /// empty, all are normal.
    pub token_types: Vec<i32>,
    /// `merges`: pairs of token texts with a space between them, first to last. SentencePiece by scores asks for none.
    pub merges: Vec<&'a str>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`
    pub eos: Option<u32>,
    /// `unknown_token_id`
    pub unknown: Option<u32>,
    /// `padding_token_id`
    pub padding: Option<u32>,
    /// `add_bos_token`; a file that does not say means yes for SentencePiece and for the Llama 3 splits.
    pub add_bos: Option<bool>,
    /// `add_eos_token`; a file that does not say means no.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`; a file that does not say means yes for SentencePiece. Byte-level BPE ignores it.
    pub add_space_prefix: Option<bool>,
    /// True if special tokens take the blanks after them, as those of Phi 3 do. No entry says so; it is told by
    /// `general.architecture` and `general.name`.
    pub strips_after_special: bool,
}

/// Kind of a token, numbered as in `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenType {
    /// Made by merging (1).
    Normal,
    /// Stands for text that the vocabulary cannot write (2).
    Unknown,
    /// Has a meaning of its own and writes nothing (3).
    Control,
    /// Matched whole before anything is merged (4).
    UserDefined,
    /// Never made by the tokenizer (5).
    Unused,
    /// One byte, for characters that have no token (6).
    Byte,
}

impl TokenType {
    pub(super) fn from_gguf(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    pub(super) fn to_gguf(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }
}

/// The tokens of a file, with what they are for.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) tokens: TokenTable,
    kinds: Vec<TokenType>,
    /// The token for text that no other can write.
    pub(super) unknown: Option<u32>,
}

impl Vocabulary {
    /// The tokens of `file`, as they are spelled in `tokens`. Those that the file names as its begin, end, padding
    /// and the like are control tokens, whatever type it gives them.
    pub(super) fn new(tokens: TokenTable, file: &GgufVocabulary<'_>) -> Result<Self, TokenizerError> {
        let count = tokens.len();
        let mut kinds: Vec<_> = file.token_types.iter().map(|&kind| TokenType::from_gguf(kind)).collect();
        if kinds.is_empty() {
            kinds.resize(count, TokenType::Normal);
        }
        if kinds.len() != count {
            let found = kinds.len();
            return Err(TokenizerError::Length { array: "token_type", expected: count, found });
        }
        for id in [file.bos, file.eos, file.unknown, file.padding].into_iter().flatten() {
            // Nothing is lost with an id that is no token.
            if let Some(kind) = kinds.get_mut(id as usize)
                && *kind != TokenType::Unknown
            {
                *kind = TokenType::Control;
            }
        }
        Ok(Self { unknown: file.unknown.filter(|id| (*id as usize) < count), tokens, kinds })
    }

    /// The kind of a token; none if there is no such token.
    pub(super) fn kind(&self, id: u32) -> Option<TokenType> {
        self.kinds.get(id as usize).copied()
    }

    /// The token for unknown text that starts with `byte`.
    pub(super) fn unknown_for(&self, byte: u8) -> Result<u32, TokenizerError> {
        self.unknown.ok_or(TokenizerError::NoToken { byte })
    }
}

/// Token texts by id and ids by text.
///
/// All texts stand in one string and the hash table holds ids only: 262,144 tokens are in place in
/// milliseconds, where a map of owned strings would spend most of its time on allocation.
#[derive(Debug)]
pub(super) struct TokenTable {
    text: String,
    ends: Vec<usize>,
    /// For each slot of the hash table (open addressing) 0 if it is free, else some bits of the hash. Most look-ups
    /// are for text that is no token, and end here: a byte for each slot stays in the processor's cache.
    tags: Vec<u8>,
    /// For each slot the token. There are at least twice as many slots as tokens, and a power of two.
    ids: Vec<u32>,
}

impl TokenTable {
    /// A later token of the same text takes its place in the search by text, as it does in a dictionary.
    pub(super) fn new<S: AsRef<str>>(
        tokens: impl ExactSizeIterator<Item = S>,
    ) -> Result<Self, TokenizerError> {
        let count = tokens.len();
        if count > u32::MAX as usize {
            let expected = u32::MAX as usize;
            return Err(TokenizerError::Length { array: "tokens", expected, found: count });
        }
        let slots = (2 * count.max(1)).next_power_of_two();
        let mut table = Self {
            text: String::new(),
            ends: Vec::with_capacity(count),
            tags: vec![0; slots],
            ids: vec![0; slots],
        };
        for (id, token) in (0..).zip(tokens) {
            table.text.push_str(token.as_ref());
            table.ends.push(table.text.len());
            let (tag, slot) = table.find(token.as_ref());
            table.tags[slot] = tag;
            table.ids[slot] = id;
        }
        Ok(table)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        let end = *self.ends.get(id as usize)?;
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] };
        Some(&self.text[start..end])
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        let (_, slot) = self.find(text);
        (self.tags[slot] != 0).then(|| self.ids[slot])
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &str)> {
        (0..self.len() as u32).map(|id| (id, self.text(id).unwrap_or_default()))
    }

    /// The tag of `text`, and the slot that holds it or the free one where it would go.
    fn find(&self, text: &str) -> (u8, usize) {
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        let hash = hasher.finish();
        // The lower bits choose the slot.
        let tag = (hash >> 48) as u8 | 1;
        let mut slot = hash as usize & (self.tags.len() - 1);
        while self.tags[slot] != 0 {
            if self.tags[slot] == tag && self.text(self.ids[slot]) == Some(text) {
                break;
            }
            slot = (slot + 1) & (self.tags.len() - 1);
        }
        (tag, slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_tokens_both_ways() {
        let table = TokenTable::new(["a", "", "bc", "a"].iter()).unwrap();
        assert_eq!(table.text(2), Some("bc"));
        assert_eq!(table.text(4), None);
        assert_eq!(table.id("bc"), Some(2));
        assert_eq!(table.id("a"), Some(3), "the last of two equal tokens");
        assert_eq!(table.id("b"), None);
        assert_eq!(table.iter().map(|(_, text)| text).collect::<Vec<_>>(), ["a", "", "bc", "a"]);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let table = TokenTable::new(std::iter::empty::<&str>()).unwrap();
        assert_eq!((table.id(""), table.id("a"), table.text(0)), (None, None, None));
    }
}
