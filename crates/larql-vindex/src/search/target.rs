//! Tokens that are meaningful on their own.

use larql_models::Tokenizer;

/// The words that tokens stand for.
pub trait TokenTexts: Sync {
    /// The text of a token as a reader would see it, or none if the token is no word: a control token, an unused
    /// one, punctuation, a piece of a character.
    fn word(&self, token: u32) -> Option<String>;
}

impl TokenTexts for Tokenizer {
    fn word(&self, token: u32) -> Option<String> {
        if self.is_special(token) {
            return None;
        }
        let text = self.token_text(token)?;
        is_word(&text).then_some(text)
    }
}

/// True if a token's text has a letter, or is a number. Bytes that are no character are shown as `<0xE2>`, unused
/// tokens as `<unused7>` or `[UNK_BYTE]`: these are names of tokens, not words.
fn is_word(text: &str) -> bool {
    let trimmed = text.trim();
    let bracketed = (trimmed.starts_with('<') && trimmed.ends_with('>'))
        || (trimmed.starts_with('[') && trimmed.ends_with(']'))
        || trimmed.contains("<0x");
    let number = !trimmed.is_empty() && trimmed.chars().all(|c| c.is_ascii_digit());
    !bracketed && !trimmed.contains('\u{FFFD}') && (number || trimmed.chars().any(char::is_alphabetic))
}

/// Common form of the variants of one word: no surrounding white space, no upper case.
pub(crate) fn fold(word: &str) -> String {
    word.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_targets_and_fragments_are_not() {
        for word in [" Paris", "PARIS", "é", "東京", "12", " l'"] {
            assert!(is_word(word), "{word:?}");
        }
        for fragment in
            ["", "  ", "\n\n", "##", ".,", "<0xE2>", "<unused7>", "[UNK_BYTE]", "\u{FFFD}", "<eos>", "1)"]
        {
            assert!(!is_word(fragment), "{fragment:?}");
        }
    }

    #[test]
    fn variants_fold_together() {
        assert_eq!(fold(" Paris"), fold("PARIS"));
        assert_ne!(fold("Paris"), fold("Parisian"));
    }
}
