//! Suggestions for mistyped words.

use super::{Item, Parser};
use crate::ast::{Field, Statement};
use crate::keyword::Keyword;
use crate::token::{Quote, Token};

impl Parser<'_> {
    /// A correction for `written`, this token, where something else was expected.
    pub(super) fn suggestion(&self, written: &str) -> Option<String> {
        match self.token {
            Token::Word(_) => {
                let meant = nearest(written, self.expected.keywords().map(Keyword::text));
                if self.expected.allows(Item::Field) {
                    return Some(match meant {
                        Some(field) => format!("did you mean {}?", field.to_lowercase()),
                        None => format!("the fields are {}", Field::names().join(", ")),
                    });
                }
                if let Some(keyword) = meant {
                    return Some(format!("did you mean {keyword}?"));
                }
                let begins =
                    self.keyword().is_some_and(|keyword| Statement::verbs().any(|verb| verb == keyword));
                if begins && self.expected.allows(Item::End) {
                    return Some("end the statement before it with ;".into());
                }
                let written = self.unquoted();
                let quotable = self.expected.allows(Item::Text) && written.len() < 80;
                quotable.then(|| format!("put it in quotes: {}", Quote(written)))
            }
            Token::Unknown if written.starts_with(['“', '”', '„', '‘', '’', '«', '»', '`']) => {
                Some("strings take straight quotes: \"…\" or '…'".into())
            }
            Token::Unknown if written.starts_with('|') => Some("statements are joined by |>".into()),
            Token::Unknown | Token::Malformed
                if self.expected.allows(Item::Text) && written.starts_with(['/', '.', '~']) =>
            {
                Some(format!("put it in quotes: {}", Quote(self.unquoted())))
            }
            Token::Equal if self.expected.allows(Item::Value) => Some("equality is a single =".into()),
            Token::Greater if self.expected.allows(Item::Value) => Some("inequality is !=".into()),
            _ => None,
        }
    }
}

impl Parser<'_> {
    /// The text from this token to the next blank or `;`: a path or a name that was meant to be one string.
    fn unquoted(&self) -> &str {
        let rest = &self.text[self.span.start..];
        let end = rest.find(|character: char| character.is_whitespace() || character == ';');
        &rest[..end.unwrap_or(rest.len())]
    }
}

/// Returns the candidate that takes the fewest typing errors to become `word`, unless it takes too many to be likely.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(LONGEST + 1).map(|c| c.to_ascii_uppercase()).collect();
    if word.len() > LONGEST {
        return None;
    }
    let allowed = word.len().div_ceil(3).min(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(errors, _)| *errors <= allowed && *errors < word.len())
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, candidate)| candidate)
}

/// Longer words are no keyword however one reads them.
const LONGEST: usize = 24;

/// Optimal string alignment: letters added, dropped, replaced, or swapped with their neighbour.
fn distance(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().map(|c| c.to_ascii_uppercase()).collect();
    let mut before = Vec::new();
    let mut above: Vec<usize> = (0..=candidate.len()).collect();
    for (i, a) in word.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in candidate.iter().enumerate() {
            let mut least = (above[j] + usize::from(a != b)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && word[i - 1] == *b && *a == candidate[j - 1] {
                let swapped: &[usize] = &before;
                least = least.min(swapped[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[candidate.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let words = ["DESCRIBE", "SELECT", "TOP", "LAYERS", "LAYER", "WALK"];
        for (typed, meant) in
            [("describ", "DESCRIBE"), ("SLECT", "SELECT"), ("tpo", "TOP"), ("LAYRES", "LAYERS")]
        {
            assert_eq!(nearest(typed, words), Some(meant));
        }
        for other in ["", "x", "zebra", "interpretation", &"A".repeat(1 << 20)] {
            assert_eq!(nearest(other, words), None, "{other:.20}");
        }
    }
}
