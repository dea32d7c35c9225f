//! Tokens that are matched whole, before the text around them is split and merged.

use rustc_hash::FxHashMap;

/// Finds tokens in a text: the leftmost first, and of those that start there the longest.
#[derive(Debug, Default)]
pub(super) struct Trie {
    /// From a node and a byte to the next node; node 0 is the root.
    edges: FxHashMap<(u32, u8), u32>,
    /// The token that ends at a node.
    tokens: Vec<Option<u32>>,
    /// Bytes that a token can start with.
    starts: Vec<u8>,
}

/// A stretch of text between matched tokens, or one of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment<'t> {
    /// Text without special tokens, not empty, with its offset in bytes.
    Text(usize, &'t str),
    /// A matched token.
    Token(u32),
}

impl Trie {
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (u32, &'a str)>) -> Self {
        let mut trie = Self { tokens: vec![None], ..Self::default() };
        for (id, text) in tokens.filter(|(_, text)| !text.is_empty()) {
            let mut node = 0;
            for &byte in text.as_bytes() {
                node = *trie.edges.entry((node, byte)).or_insert_with(|| {
                    trie.tokens.push(None);
                    trie.tokens.len() as u32 - 1
                });
            }
            trie.tokens[node as usize] = Some(id);
        }
        trie.starts = (0..=255).filter(|&byte| trie.edges.contains_key(&(0, byte))).collect();
        trie
    }

    /// Calls `visit` for each segment of `text` in turn.
    pub(super) fn split<'t, E>(
        &self,
        text: &'t str,
        mut visit: impl FnMut(Segment<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = text.as_bytes();
        let mut is_start = [false; 256];
        for &byte in &self.starts {
            is_start[usize::from(byte)] = true;
        }
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            let found = if is_start[usize::from(bytes[at])] { self.longest(&bytes[at..]) } else { None };
            let Some((token, length)) = found else {
                at += 1;
                continue;
            };
            if from < at {
                visit(Segment::Text(from, &text[from..at]))?;
            }
            visit(Segment::Token(token))?;
            at += length;
            from = at;
        }
        if from < at {
            visit(Segment::Text(from, &text[from..]))?;
        }
        Ok(())
    }

    /// The longest token that `bytes` starts with, and its length.
    fn longest(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let (mut node, mut found) = (0, None);
        for (index, &byte) in bytes.iter().enumerate() {
            let Some(&next) = self.edges.get(&(node, byte)) else { break };
            node = next;
            if let Some(token) = self.tokens[node as usize] {
                found = Some((token, index + 1));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leftmost_and_longest_wins() {
        let trie = Trie::new([(0, "<a>"), (1, "<a><b>"), (2, "é"), (3, "")].into_iter());
        let mut segments = Vec::new();
        trie.split("x<a><a><b>ée<a", |segment| {
            segments.push(segment);
            Ok::<_, ()>(())
        })
        .unwrap();
        use Segment::{Text, Token};
        assert_eq!(segments, [Text(0, "x"), Token(0), Token(1), Token(2), Text(12, "e<a")]);
    }
}
