//! Byte-level BPE: pieces of text become bytes, and pairs of tokens are joined in the order of a list.

use rustc_hash::FxHashMap;

use super::merge::{self, Merge, Output, Word};
use super::split::{Scheme, Splitter};
use super::vocabulary::Vocabulary;
use super::{TokenizerError, alphabet};

#[derive(Debug)]
pub(super) struct ByteLevel {
    pub(super) scheme: &'static Scheme,
    splitter: Splitter,
    /// The token of each byte.
    bytes: [Option<u32>; 256],
    /// By the two tokens that are joined.
    pub(super) merges: FxHashMap<(u32, u32), Merge>,
}

impl ByteLevel {
    pub(super) fn new(
        scheme: &'static Scheme,
        vocabulary: &Vocabulary,
        list: &[&str],
    ) -> Result<Self, TokenizerError> {
        let id = |text: &str| vocabulary.tokens.id(text);
        let merges = merge::of_list(&vocabulary.tokens, list)?;
        let bytes = std::array::from_fn(|byte| id(alphabet::char_of(byte as u8).encode_utf8(&mut [0; 4])));
        Ok(Self { scheme, splitter: Splitter::new(scheme)?, bytes, merges })
    }

    /// Appends the tokens of a text.
    pub(super) fn encode<'t>(
        &self,
        text: &'t str,
        vocabulary: &Vocabulary,
        out: &mut Output<'t>,
    ) -> Result<(), TokenizerError> {
        self.splitter.split(text, &mut |piece| {
            out.push_piece(piece, |word, ids| self.encode_piece(piece, vocabulary, word, ids))
        })
    }

    fn encode_piece(
        &self,
        piece: &str,
        vocabulary: &Vocabulary,
        word: &mut Word,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if self.scheme.whole_pieces {
            let spelled: String = piece.bytes().map(alphabet::char_of).collect();
            if let Some(id) = vocabulary.tokens.id(&spelled) {
                ids.push(id);
                return Ok(());
            }
        }
        word.clear();
        for (index, byte) in piece.bytes().enumerate() {
            word.push(self.bytes[usize::from(byte)], index, index + 1);
        }
        word.merge(|left, right| self.merges.get(&(left.token?, right.token?)).copied());
        for symbol in word.symbols() {
            ids.push(match symbol.token {
                Some(token) => token,
                None => vocabulary.unknown_for(piece.as_bytes()[symbol.start as usize])?,
            });
        }
        Ok(())
    }
}
