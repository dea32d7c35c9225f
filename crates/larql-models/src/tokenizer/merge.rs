//! Byte-pair merging: of all neighbours that make a token, the pair of the lowest rank is joined first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use rustc_hash::FxHashMap;

use super::TokenizerError;
use super::vocabulary::TokenTable;

/// The tokens of a text while it is encoded, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Output<'t> {
    pub(super) ids: Vec<u32>,
    word: Word,
    /// Positions in the cache of the tokens of pieces that were met before: most words of a long text repeat.
    seen: FxHashMap<&'t str, Range<usize>>,
}

impl<'t> Output<'t> {
    /// Appends the tokens of a piece, which are the same wherever it stands.
    pub(super) fn push_piece<E>(
        &mut self,
        piece: &'t str,
        encode: impl FnOnce(&mut Word, &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(tokens) = self.seen.get(piece) {
            self.ids.extend_from_within(tokens.clone());
            return Ok(());
        }
        let start = self.ids.len();
        encode(&mut self.word, &mut self.ids)?;
        self.seen.insert(piece, start..self.ids.len());
        Ok(())
    }
}

/// A stretch of a word that is, or may become, a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// The token, unless the vocabulary has none for it; such a symbol is never joined.
    pub(super) token: Option<u32>,
    /// First byte in the piece.
    pub(super) start: u32,
    /// End in the piece. A symbol that was joined to the one before it is empty.
    pub(super) end: u32,
    /// Number of characters.
    pub(super) chars: u32,
    previous: u32,
    next: u32,
}

/// Result of joining two neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merge {
    /// The lowest goes first.
    pub(super) rank: u64,
    /// The token that they make.
    pub(super) token: u32,
}

/// The merges of a list, by the two tokens that are joined. An entry is both texts with a space between them.
pub(super) fn of_list(
    tokens: &TokenTable,
    list: &[&str],
) -> Result<FxHashMap<(u32, u32), Merge>, TokenizerError> {
    let mut merges = FxHashMap::with_capacity_and_hasher(list.len(), Default::default());
    let mut joined = String::new();
    for (rank, text) in (0..).zip(list) {
        // The left side may itself start with a space in files that do not spell bytes out.
        let space = text.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(index, _)| index);
        let sides = space.map(|space| (&text[..space], &text[space + 1..]));
        let merge = sides.and_then(|(left, right)| {
            joined.clear();
            joined.extend([left, right]);
            Some(((tokens.id(left)?, tokens.id(right)?), Merge { rank, token: tokens.id(&joined)? }))
        });
        let (pair, merge) =
            merge.ok_or_else(|| TokenizerError::Merge { index: rank as usize, merge: (*text).to_owned() })?;
        merges.insert(pair, merge);
    }
    Ok(merges)
}

/// No neighbour on that side.
const NONE: u32 = u32::MAX;

/// A merge that was possible when it was found. As one number, since comparing them is most of the work: from the
/// highest bits down the rank, the token that is made, and the place of the left symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u128);

impl Candidate {
    fn new(merge: Merge, left: u32) -> Self {
        Self(u128::from(merge.rank) << 64 | u128::from(merge.token) << 32 | u128::from(left))
    }

    fn token(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn left(self) -> u32 {
        self.0 as u32
    }
}

/// A piece while it is merged; kept from one to the next to reuse its memory.
#[derive(Debug, Default)]
pub(super) struct Word {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Word {
    /// Starts an empty piece.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    /// Appends a symbol of one character, or of one byte of it. A piece has less than 2^32 bytes.
    pub(super) fn push(&mut self, token: Option<u32>, start: usize, end: usize) {
        let index = self.symbols.len() as u32;
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
        }
        let previous = index.checked_sub(1).unwrap_or(NONE);
        let (start, end) = (start as u32, end as u32);
        self.symbols.push(Symbol { token, start, end, chars: 1, previous, next: NONE });
    }

    /// Joins neighbours until `merge_of` finds nothing to join, in `O(n log n)`.
    pub(super) fn merge(&mut self, merge_of: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        let mut candidates = std::mem::take(&mut self.queue).into_vec();
        candidates.extend((0..).zip(self.symbols.windows(2)).filter_map(|(left, pair)| {
            merge_of(&pair[0], &pair[1]).map(|merge| Reverse(Candidate::new(merge, left)))
        }));
        self.queue = candidates.into();

        while let Some(Reverse(candidate)) = self.queue.pop() {
            let left = self.symbols[candidate.left() as usize];
            let Some(&right) = self.symbols.get(left.next as usize) else { continue };
            // If either side has changed since, it has grown, and they make another token or none.
            let current = merge_of(&left, &right);
            if left.is_empty() || current.is_none_or(|current| current.token != candidate.token()) {
                continue;
            }
            let joined = self.join(candidate.left(), &left, &right, candidate.token());
            if let Some(before) = self.symbols.get(joined.previous as usize)
                && let Some(merge) = merge_of(before, &joined)
            {
                self.queue.push(Reverse(Candidate::new(merge, joined.previous)));
            }
            if let Some(after) = self.symbols.get(joined.next as usize)
                && let Some(merge) = merge_of(&joined, after)
            {
                self.queue.push(Reverse(Candidate::new(merge, candidate.left())));
            }
        }
    }

    /// The remaining symbols, in order.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| !symbol.is_empty())
    }

    /// Joins the symbol after `at` to the one there, and returns the two as one.
    fn join(&mut self, at: u32, left: &Symbol, right: &Symbol, token: u32) -> Symbol {
        let chars = left.chars + right.chars;
        let joined = Symbol { token: Some(token), end: right.end, chars, next: right.next, ..*left };
        self.symbols[left.next as usize].end = right.start;
        self.symbols[at as usize] = joined;
        if let Some(after) = self.symbols.get_mut(right.next as usize) {
            after.previous = at;
        }
        joined
    }
}

impl Symbol {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }
}
