//! Byte-pair merging: of all neighbours that make a token, the pair of the highest rank is joined first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A stretch of a word that is, or may become, a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// The token, unless the vocabulary has none for it; such a symbol is never joined.
    pub(super) token: Option<u32>,
    /// Where it starts in the word, in bytes.
    pub(super) start: usize,
    /// Where it ends. A symbol that was joined to the one before it is empty.
    pub(super) end: usize,
    /// How many characters it has.
    pub(super) chars: u32,
    previous: usize,
    next: usize,
}

/// What two neighbours become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merge {
    /// The lowest goes first.
    pub(super) rank: u64,
    /// The token that they make.
    pub(super) token: u32,
}

/// No neighbour on that side.
const NONE: usize = usize::MAX;

/// A word while it is merged; kept from word to word to reuse its memory.
#[derive(Debug, Default)]
pub(super) struct Word {
    symbols: Vec<Symbol>,
    /// Merges that were possible when they were found, with the place of the left symbol.
    queue: BinaryHeap<Reverse<(Merge, usize)>>,
}

impl Word {
    /// Starts an empty word.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    /// Appends a symbol of one character, or of one byte of it.
    pub(super) fn push(&mut self, token: Option<u32>, start: usize, end: usize) {
        let index = self.symbols.len();
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
        }
        let previous = index.checked_sub(1).unwrap_or(NONE);
        self.symbols.push(Symbol { token, start, end, chars: 1, previous, next: NONE });
    }

    /// Joins neighbours until `merge_of` finds nothing to join, in `O(n log n)`.
    pub(super) fn merge(&mut self, merge_of: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        for left in 1..self.symbols.len() {
            self.propose(left - 1, &merge_of);
        }
        while let Some(Reverse((merge, left))) = self.queue.pop() {
            let right = self.symbols[left].next;
            if self.symbols[left].is_empty() || right == NONE {
                continue;
            }
            // Either side may have changed since. What counts is that they still make the same token: the
            // `tokenizers` library asks no more, which shows in runs of one character.
            let current = merge_of(&self.symbols[left], &self.symbols[right]);
            if current.is_none_or(|current| current.token != merge.token) {
                continue;
            }
            self.join(left, right, merge.token);
            if self.symbols[left].previous != NONE {
                self.propose(self.symbols[left].previous, &merge_of);
            }
            self.propose(left, &merge_of);
        }
    }

    /// What is left, in order.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| !symbol.is_empty())
    }

    fn propose(&mut self, left: usize, merge_of: &impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        let Some(right) = self.symbols.get(self.symbols[left].next) else { return };
        if let Some(merge) = merge_of(&self.symbols[left], right) {
            self.queue.push(Reverse((merge, left)));
        }
    }

    fn join(&mut self, left: usize, right: usize, token: u32) {
        let Symbol { end, chars, next, .. } = self.symbols[right];
        self.symbols[right].end = self.symbols[right].start;
        let joined = &mut self.symbols[left];
        joined.token = Some(token);
        joined.end = end;
        joined.chars += chars;
        joined.next = next;
        if let Some(after) = self.symbols.get_mut(next) {
            after.previous = left;
        }
    }
}

impl Symbol {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }
}
