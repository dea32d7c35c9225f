//! Words by number, so that the words of features are compared without their texts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::TokenTexts;
use super::target::fold;

/// The words that tokens stand for, with a number for each: tokens that differ only in case and white space have the same
/// number. Texts of tokens are read at the first use.
pub struct Words {
    texts: Arc<dyn TokenTexts + Send>,
    /// For each token [`UNREAD`], [`NO_WORD`] or the number of its word.
    of_tokens: Box<[AtomicU32]>,
    numbers: Mutex<HashMap<String, u32>>,
}

const UNREAD: u32 = 0;
const NO_WORD: u32 = 1;
const FIRST_NUMBER: u32 = 2;

impl Words {
    /// The words of a vocabulary of so many tokens. None of them is read yet.
    pub fn new(texts: Arc<dyn TokenTexts + Send>, vocab_size: usize) -> Words {
        let of_tokens = (0..vocab_size).map(|_| AtomicU32::new(UNREAD)).collect();
        Words { texts, of_tokens, numbers: Mutex::default() }
    }

    /// The number of a token's word, or none if it is no word. Numbers are given in the order in which words are asked for.
    pub(crate) fn number(&self, token: u32) -> Option<u32> {
        let kept = self.of_tokens.get(token as usize)?;
        // The number is all there is to see, so nothing has to be seen before it.
        let mut number = kept.load(Ordering::Relaxed);
        if number == UNREAD {
            number = self.texts.word(token).map_or(NO_WORD, |word| self.number_of(fold(&word)));
            kept.store(number, Ordering::Relaxed);
        }
        (number >= FIRST_NUMBER).then_some(number)
    }

    fn number_of(&self, word: String) -> u32 {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = FIRST_NUMBER + numbers.len() as u32;
        *numbers.entry(word).or_insert(next)
    }

    /// The text of a token that is a word, without white space around it.
    pub(crate) fn text(&self, token: u32) -> Option<String> {
        Some(self.texts.word(token)?.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Texts([&'static str; 4]);

    impl TokenTexts for Texts {
        fn word(&self, token: u32) -> Option<String> {
            let text = self.0[token as usize];
            text.chars().any(char::is_alphabetic).then(|| text.to_owned())
        }
    }

    #[test]
    fn spellings_of_a_word_share_its_number() {
        let words = Words::new(Arc::new(Texts([" Paris", "##", "PARIS", " London"])), 4);
        for _ in 0..2 {
            assert!(words.number(0).is_some());
            assert_eq!(words.number(0), words.number(2));
            assert_ne!(words.number(0), words.number(3));
            assert_eq!(words.number(1), None);
            assert_eq!(words.number(4), None);
        }
        assert_eq!(words.text(0).as_deref(), Some("Paris"));
    }
}
