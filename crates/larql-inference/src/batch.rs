//! Sequences that run together in one pass, and the rows that their tokens take in it.

use std::ops::Range;

use larql_compute::Activations;

use crate::SequenceState;

/// New tokens of one sequence, and its state after the earlier ones.
pub struct Sequence<'a> {
    /// The state, which grows by the new tokens.
    pub state: &'a mut dyn SequenceState,
    /// The new tokens; at least one.
    pub tokens: &'a [u32],
    /// Number of tokens of the same prompt that later passes will run, where it is read in chunks. Some rotary scalings
    /// depend on the length of the whole prompt.
    pub coming: usize,
    /// The tokens whose logits the pass computes.
    pub logits: LogitsFor,
    /// True if the tokens after the first are a draft: each gets the bits that it gets as the only new token, so that those
    /// that turn out right are as if they had been decoded one by one. Needs [`Batching::Independent`].
    pub is_draft: bool,
    /// Number of consecutive new tokens, from the first on, for which kernels are chosen together: a prompt whose chunks are
    /// whole numbers of parts gets the same bits in chunks of any size. None: all new tokens. Needs [`Batching::Independent`]; of
    /// a draft each token is a part.
    pub part: Option<usize>,
}

impl<'a> Sequence<'a> {
    /// A sequence whose last token's logits are wanted.
    pub fn new(state: &'a mut dyn SequenceState, tokens: &'a [u32]) -> Sequence<'a> {
        Sequence { state, tokens, coming: 0, logits: LogitsFor::LastToken, is_draft: false, part: None }
    }

    /// A sequence whose first new token is followed by a draft, all of whose logits are wanted.
    pub fn draft(state: &'a mut dyn SequenceState, tokens: &'a [u32]) -> Sequence<'a> {
        Sequence { logits: LogitsFor::AllTokens, is_draft: true, ..Sequence::new(state, tokens) }
    }
}

/// New tokens of a sequence whose logits a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// No token: the pass only fills the state.
    None,
    /// The last token.
    LastToken,
    /// Every new token.
    AllTokens,
}

/// Choice of kernels for sequences that run together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// Kernels are chosen by the rows of all sequences together. This is fastest, but the last bits of what a sequence gets
    /// depend on what runs beside it.
    #[default]
    Shared,
    /// Kernels are chosen for each sequence by its own rows. A sequence gets the same bits alone and beside others.
    Independent,
}

/// The rows of a pass: row by row the tokens of the first sequence, then those of the second, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// New tokens of each sequence.
    tokens: Vec<usize>,
    /// For each sequence its first row.
    starts: Vec<usize>,
    /// For each sequence the position of its first new token.
    positions: Vec<usize>,
    /// For each sequence its length with all tokens that are known to come.
    lengths: Vec<usize>,
    /// For each sequence, whether each of its tokens counts as the last one.
    drafts: Vec<bool>,
    /// For each sequence the tokens of a part.
    parts: Vec<usize>,
    batching: Batching,
}

impl Rows {
    /// The rows of sequences that have `(tokens before, new tokens)`.
    pub fn new(sequences: impl IntoIterator<Item = (usize, usize)>, batching: Batching) -> Rows {
        let (positions, tokens): (Vec<usize>, Vec<usize>) = sequences.into_iter().unzip();
        let starts = tokens.iter().scan(0, |end, tokens| {
            let start = *end;
            *end += tokens;
            Some(start)
        });
        let lengths = positions.iter().zip(&tokens).map(|(before, new)| before + new).collect();
        let (drafts, parts) = (vec![false; tokens.len()], vec![usize::MAX; tokens.len()]);
        Rows { starts: starts.collect(), tokens, positions, lengths, drafts, parts, batching }
    }

    /// The same rows, of which those of [drafts](Sequence::is_draft) and [parts](Sequence::part) are as in these sequences.
    pub(crate) fn in_parts_of(self, sequences: &[Sequence<'_>]) -> Rows {
        let part = |sequence: &Sequence<'_>| match (sequence.is_draft, sequence.part) {
            (true, _) => 1,
            (false, part) => part.map_or(usize::MAX, |part| part.max(1)),
        };
        let drafts = sequences.iter().map(|sequence| sequence.is_draft).collect();
        Rows { drafts, parts: sequences.iter().map(part).collect(), ..self }
    }

    pub(crate) fn of_sequences(sequences: &[Sequence<'_>], batching: Batching) -> Rows {
        let tokens = sequences.iter().map(|sequence| (sequence.state.len(), sequence.tokens.len()));
        let mut rows = Rows::new(tokens, batching);
        rows.lengths.iter_mut().zip(sequences).for_each(|(length, sequence)| *length += sequence.coming);
        rows.in_parts_of(sequences)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.tokens.iter().sum()
    }

    /// Returns true if there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.tokens.len()
    }

    /// The rows of a sequence.
    ///
    /// # Panics
    /// If there is no such sequence, as in all methods that take one.
    pub fn of(&self, sequence: usize) -> Range<usize> {
        self.starts[sequence]..self.starts[sequence] + self.tokens[sequence]
    }

    /// The row of a sequence's last token.
    pub fn last(&self, sequence: usize) -> usize {
        self.of(sequence).end - 1
    }

    /// The positions of a sequence's new tokens.
    pub fn positions(&self, sequence: usize) -> Range<usize> {
        self.positions[sequence]..self.positions[sequence] + self.tokens[sequence]
    }

    /// The length of a sequence with its new tokens and those that are known to come.
    pub fn length(&self, sequence: usize) -> usize {
        self.lengths[sequence]
    }

    /// Returns true if each new token of a sequence gets the bits that it gets as the only one.
    pub fn is_draft(&self, sequence: usize) -> bool {
        self.drafts[sequence]
    }

    /// The sequence and the position in it that a row belongs to; `None` beyond the last row.
    pub fn sequence_and_position(&self, row: usize) -> Option<(usize, usize)> {
        let sequence = (0..self.sequences()).find(|sequence| self.of(*sequence).contains(&row))?;
        Some((sequence, self.positions[sequence] + row - self.starts[sequence]))
    }

    /// Range of each sequence's part in the values of [`Stage::AttentionPattern`](crate::Stage::AttentionPattern) for so
    /// many heads: `[tokens, heads, positions]` with all positions of that sequence.
    pub fn patterns(&self, heads: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let lengths = (0..self.sequences())
            .map(move |sequence| self.tokens[sequence] * heads * self.positions(sequence).end);
        lengths.scan(0, |end, length| {
            let start = *end;
            *end += length;
            Some(start..*end)
        })
    }

    /// The part of `values`, `[rows, width]`, that belongs to each sequence.
    pub(crate) fn split<'a>(&'a self, values: &'a [f32], width: usize) -> impl Iterator<Item = &'a [f32]> {
        (0..self.sequences()).map(move |sequence| {
            let rows = self.of(sequence);
            &values[rows.start * width..rows.end * width]
        })
    }

    /// As [`Rows::split`], to be changed.
    pub(crate) fn split_mut<'a>(
        &'a self,
        mut values: &'a mut [f32],
        width: usize,
    ) -> impl Iterator<Item = &'a mut [f32]> {
        self.tokens.iter().map(move |tokens| {
            let (own, rest) = std::mem::take(&mut values).split_at_mut(tokens * width);
            values = rest;
            own
        })
    }

    /// `values`, `[rows, width]`, as the input of products.
    pub(crate) fn activations<'a>(&'a self, values: &'a [f32], width: usize) -> Activations<'a> {
        let activations = Activations::new(values, width);
        match self.batching {
            Batching::Shared => activations,
            Batching::Independent => {
                let parts = self.tokens.iter().zip(&self.parts).flat_map(|(tokens, part)| {
                    let rest = (!tokens.is_multiple_of(*part)).then_some(tokens % part);
                    std::iter::repeat_n(*part, tokens / part).chain(rest)
                });
                activations.in_parts(parts.collect::<Vec<_>>())
            }
        }
    }

    /// Choice of kernels for the sequences.
    pub fn batching(&self) -> Batching {
        self.batching
    }
}

/// Logits of a pass, for the tokens that each sequence asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// `[rows, vocab]`, sequence by sequence.
    values: Vec<f32>,
    vocab_size: usize,
    /// For each sequence its rows.
    rows: Vec<Range<usize>>,
}

impl Logits {
    pub(crate) fn new(values: Vec<f32>, vocab_size: usize, counts: impl Iterator<Item = usize>) -> Logits {
        let rows = counts.scan(0, |end, count| {
            let start = *end;
            *end += count;
            Some(start..*end)
        });
        Logits { rows: rows.collect(), values, vocab_size }
    }

    /// The logits of a sequence, `[tokens asked for, vocab]`.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn of(&self, sequence: usize) -> &[f32] {
        let rows = &self.rows[sequence];
        &self.values[rows.start * self.vocab_size..rows.end * self.vocab_size]
    }

    /// The logits of a sequence's last token, `[vocab]`; `None` if it asked for none.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn last(&self, sequence: usize) -> Option<&[f32]> {
        self.of(sequence).rchunks_exact(self.vocab_size).next()
    }

    /// All logits, `[tokens asked for, vocab]`, sequence by sequence.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Number of logits for one token.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_their_sequence_and_position() {
        let rows = Rows::new([(0, 3), (7, 1), (2, 2)], Batching::Shared);
        assert_eq!((rows.len(), rows.sequences()), (6, 3));
        assert_eq!((rows.of(1), rows.last(2), rows.positions(2)), (3..4, 5, 2..4));
        let places: Vec<_> = (0..7).map(|row| rows.sequence_and_position(row)).collect();
        let expected = [(0, 0), (0, 1), (0, 2), (1, 7), (2, 2), (2, 3)].map(Some);
        assert_eq!(places, [&expected[..], &[None]].concat());
        assert_eq!(rows.patterns(2).collect::<Vec<_>>(), [0..18, 18..34, 34..50]);
    }

    #[test]
    fn logits_are_found_by_sequence() {
        let logits = Logits::new((0..8).map(|v| v as f32).collect(), 2, [1, 0, 3].into_iter());
        assert_eq!(logits.of(0), [0.0, 1.0]);
        assert_eq!((logits.of(1), logits.last(1)), (&[][..], None));
        assert_eq!(logits.last(2), Some(&[6.0, 7.0][..]));
    }
}
