//! Speculative decoding: drafts of the tokens that come next, which one pass checks all at once.
//!
//! A draft never changes what is generated. The pass computes for each of its tokens the logits that decoding one by one
//! would (see [`Sequence::is_draft`](crate::Sequence)), the decoder chooses from these as always, and what follows the first
//! wrong token is forgotten (Leviathan et al., arXiv 2211.17192, with the choice in place of a ratio of probabilities).

use std::collections::HashMap;
use std::time::Duration;

use larql_core::progress::CancelToken;

use crate::{Executor, PassError, Sequence, SequenceState, StateError, greedy};

/// Source of drafts.
pub trait Drafter: Send {
    /// Receives tokens of the sequence, in order: the prompt, then each token as it is chosen.
    fn observe(&mut self, tokens: &[u32]);

    /// Returns at most `most` tokens that may come next; none if there is no good guess.
    ///
    /// # Errors
    /// If a pass fails.
    fn draft(&mut self, most: usize, cancel: &CancelToken) -> Result<Vec<u32>, DraftError>;
}

/// Failure to make a draft.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// A pass of the draft model failed.
    #[error("the draft model: {0}")]
    Pass(#[from] PassError),
    /// The state of the draft model cannot go back.
    #[error("the draft model cannot take tokens back: {0}")]
    State(#[source] StateError),
}

/// Tokens that have to come again for [`PromptLookUp`] to expect what followed them.
const MATCH: usize = 3;

/// Drafts what followed the last tokens where they came before, in the prompt or the text: prompt look-up.
#[derive(Debug, Default)]
pub struct PromptLookUp {
    tokens: Vec<u32>,
    /// For each run of tokens the position after its last occurrence but the one that ends the sequence.
    after: HashMap<[u32; MATCH], usize>,
}

impl PromptLookUp {
    /// Returns at most `most` tokens: what followed the last ones the last time.
    pub fn look_up(&self, most: usize) -> impl Iterator<Item = u32> {
        let start = self.tokens.last_chunk::<MATCH>().and_then(|run| self.after.get(run));
        self.tokens[start.map_or(self.tokens.len(), |start| *start)..].iter().take(most).copied()
    }
}

impl Drafter for PromptLookUp {
    fn observe(&mut self, tokens: &[u32]) {
        for token in tokens {
            if let Some(run) = self.tokens.last_chunk::<MATCH>() {
                self.after.insert(*run, self.tokens.len());
            }
            self.tokens.push(*token);
        }
    }

    fn draft(&mut self, most: usize, _: &CancelToken) -> Result<Vec<u32>, DraftError> {
        Ok(self.look_up(most).collect())
    }
}

/// Drafts the likeliest tokens of a smaller model with the same vocabulary.
pub struct DraftModel<'a> {
    executor: &'a dyn Executor,
    vocab_size: usize,
    state: Box<dyn SequenceState>,
    tokens: Vec<u32>,
}

impl<'a> DraftModel<'a> {
    /// A draft model that `executor` runs, for a model with logits for `vocab_size` tokens.
    pub fn new(executor: &'a dyn Executor, vocab_size: usize) -> DraftModel<'a> {
        DraftModel { executor, vocab_size, state: executor.new_state(), tokens: Vec::new() }
    }
}

impl Drafter for DraftModel<'_> {
    fn observe(&mut self, tokens: &[u32]) {
        self.tokens.extend(tokens);
    }

    fn draft(&mut self, most: usize, cancel: &CancelToken) -> Result<Vec<u32>, DraftError> {
        let mut draft = Vec::new();
        let mut new = self.tokens[self.state.len()..].to_vec();
        while draft.len() < most && !new.is_empty() {
            let logits = self.executor.forward(&mut [Sequence::new(&mut *self.state, &new)], None, cancel)?;
            let token = greedy(&logits.into_values());
            // Logits may be padded, by more in one model than in the other.
            if token as usize >= self.vocab_size {
                break;
            }
            draft.push(token);
            new = vec![token];
        }
        // What was drafted may not come.
        let known = self.tokens.len().min(self.state.len());
        self.state.truncate(known).map_err(DraftError::State)?;
        Ok(draft)
    }
}

/// Lengths of drafts: with the token before them they fill whole batches of the kernels.
const SHORTEST: usize = 3;
const LONGEST: usize = 15;

/// Length of the drafts that pay: longer while they turn out right, none for a while where they cost more than they save.
#[derive(Debug)]
pub struct DraftLength {
    length: usize,
    /// Seconds that a token takes without a draft, on average; none before the first.
    plain: Option<f64>,
    /// Seconds that drafts saved of late.
    saved: f64,
    /// Drafts to leave out, and how many the next time.
    pause: usize,
    next_pause: usize,
}

impl Default for DraftLength {
    fn default() -> DraftLength {
        DraftLength { length: SHORTEST, plain: None, saved: 0.0, pause: 0, next_pause: 4 }
    }
}

impl DraftLength {
    /// Greatest length of the next draft; 0 for none.
    pub fn next_length(&mut self) -> usize {
        if self.plain.is_none() {
            return 0;
        }
        self.pause = self.pause.saturating_sub(1);
        if self.pause > 0 { 0 } else { self.length }
    }

    /// Notes a pass of one token.
    pub fn note_plain(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.plain = Some(self.plain.map_or(seconds, |plain| 0.9 * plain + 0.1 * seconds));
    }

    /// Notes a draft, the number of its tokens that came, and the time of making and running it.
    pub fn note_draft(&mut self, drafted: usize, accepted: usize, time: Duration) {
        self.length = match accepted {
            all if all == drafted => (2 * self.length + 1).min(LONGEST),
            some if 2 * some < drafted => (self.length / 2).max(SHORTEST),
            _ => self.length,
        };
        let plain = self.plain.unwrap_or(0.0) * (accepted + 1) as f64;
        self.saved = 0.8 * self.saved + plain - time.as_secs_f64();
        if self.saved < 0.0 {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(64);
            self.saved = 0.0;
        } else if accepted == drafted {
            self.next_pause = 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafted(tokens: &[u32], most: usize) -> Vec<u32> {
        let mut look_up = PromptLookUp::default();
        look_up.observe(tokens);
        look_up.draft(most, &CancelToken::never()).unwrap()
    }

    #[test]
    fn look_up_drafts_what_followed_the_last_tokens_the_last_time() {
        assert_eq!(drafted(&[1, 2, 3, 4, 5, 1, 2, 3], 2), [4, 5]);
        assert_eq!(drafted(&[1, 2, 3, 4, 1, 2, 3, 9, 1, 2, 3], 3), [9, 1, 2]);
        assert_eq!(drafted(&[7, 7, 7, 7], 5), [7]);
        assert!(drafted(&[1, 2, 3, 4, 2, 3], 5).is_empty());
        assert!(drafted(&[1, 2], 5).is_empty());
    }

    #[test]
    fn drafts_grow_while_they_pay_and_pause_where_they_do_not() {
        let millis = Duration::from_millis;
        let mut length = DraftLength::default();
        assert_eq!(length.next_length(), 0);
        length.note_plain(millis(10));
        assert_eq!(length.next_length(), 3);
        length.note_draft(3, 3, millis(15));
        assert_eq!(length.next_length(), 7);
        length.note_draft(7, 1, millis(20));
        assert_eq!(length.next_length(), 3);
        length.note_draft(3, 0, millis(60));
        assert_eq!([(); 5].map(|()| length.next_length()), [0, 0, 0, 3, 3]);
    }
}
