//! The answer in a text that a model generates after a prompt: its first phrase.

/// Words that stand between an answer and something else, or between the words of a name.
const SMALL_WORDS: [&str; 30] = [
    "a", "also", "an", "and", "are", "as", "at", "but", "by", "for", "from", "has", "in", "is", "it", "its",
    "of", "on", "or", "so", "that", "the", "to", "was", "which", "who", "with", "where", "while", "because",
];
/// Words that an answer has at most.
const WORDS: usize = 5;
/// Small words in a row that a name can go on after ("Democratic Republic of the Congo").
const SMALL_WORDS_IN_A_NAME: usize = 2;

/// The first phrase of a text: up to a punctuation mark, the end of a line, or a small word. A name goes on after small
/// words if another capital follows ("Bosnia and Herzegovina"), and ends before a word that has none. An article before
/// the phrase is left out. None if the text does not begin with a word.
pub fn phrase(text: &str) -> Option<&str> {
    Phrase::of(text).map(|phrase| phrase.text)
}

/// Reports that an answer is an object of the facts, or begins with it, whatever the case: "Paris" is the object of "Paris
/// and London".
pub fn phrase_matches(answer: &str, object: &str) -> bool {
    let (answer, object) = (answer.to_lowercase(), object.to_lowercase());
    answer.strip_prefix(&object).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// Reports that the phrase of a text is whole, so that nothing that may follow can be part of it.
pub(crate) fn is_whole(text: &str) -> bool {
    match Phrase::of(text) {
        Some(phrase) => phrase.is_whole,
        // What begins with something else will never be a phrase.
        None => !matches!(text.trim_matches(' '), "" | "the" | "a" | "an"),
    }
}

/// Returns the byte index at which the first phrase of a text ends, once nothing that may follow can be part of it.
/// `None` as long as the text has to go on.
pub fn phrase_end(text: &str) -> Option<usize> {
    let end = |phrase: &str| text.find(phrase).map_or(0, |start| start + phrase.len());
    is_whole(text).then(|| phrase(text).map_or(0, end))
}

struct Phrase<'a> {
    text: &'a str,
    is_whole: bool,
}

impl<'a> Phrase<'a> {
    fn of(text: &'a str) -> Option<Phrase<'a>> {
        let text = text.trim_start_matches(' ');
        let clause = &text[..clause_end(text)];
        let clause_ended = clause.len() < text.len();
        let clause = without_article(clause);
        let words: Vec<&str> = clause.split(' ').collect();
        // The last word of a clause that has not ended may still grow.
        let settled = if clause_ended { words.len() } else { words.len() - 1 };
        let is_name = |word: &str| word.starts_with(char::is_uppercase);
        let begins_as_name = words.first().is_some_and(|word| is_name(word));
        let (mut taken, mut small) = (0, 0);
        let mut is_whole = clause_ended;
        for (index, word) in words.iter().enumerate() {
            let ends = if index == 0 {
                word.is_empty()
            } else if SMALL_WORDS.contains(word) {
                small += 1;
                index < settled && (!begins_as_name || small > SMALL_WORDS_IN_A_NAME)
            } else {
                begins_as_name != is_name(word) || taken == WORDS
            };
            if ends {
                is_whole = true;
                break;
            }
            if !SMALL_WORDS.contains(word) || index == 0 {
                (taken, small) = (index + 1, 0);
            }
        }
        let length = words[..taken].iter().map(|word| word.len() + 1).sum::<usize>().checked_sub(1)?;
        (length > 0).then(|| Phrase { text: &clause[..length], is_whole })
    }
}

fn is_article(word: &str) -> bool {
    matches!(word, "the" | "a" | "an")
}

fn without_article(clause: &str) -> &str {
    match clause.split_once(' ') {
        Some((first, rest)) if is_article(first) => rest,
        _ => clause,
    }
}

/// End of the clause that a text begins with, as a byte index. Points of abbreviations ("St. George's"), and apostrophes and hyphens
/// within words, do not end it.
fn clause_end(text: &str) -> usize {
    let ends = |(at, character): &(usize, char)| {
        let after = text[at + character.len_utf8()..].chars().next();
        match character {
            ' ' => false,
            '\'' | '’' | '-' | '‑' => after.is_some_and(|after| !after.is_alphanumeric()),
            '.' => !["St", "Mt"].iter().any(|short| text[..*at].ends_with(short)),
            other => !other.is_alphanumeric(),
        }
    };
    text.char_indices().find(ends).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_first_phrase() {
        for (text, answer) in [
            (" Paris. It is", "Paris"),
            (" Paris and the largest city", "Paris"),
            (" New Delhi, the", "New Delhi"),
            (" Bosnia and Herzegovina.\n", "Bosnia and Herzegovina"),
            (" Democratic Republic of the Congo", "Democratic Republic of the Congo"),
            (" St. George's, on the island", "St. George's"),
            (" convertible mark which", "convertible mark"),
            (" the Gambia.", "Gambia"),
            (" went.", "went"),
            (" twenty-two\n", "twenty-two"),
            ("Portuguese (Brazil)", "Portuguese"),
            (" Vatican City is", "Vatican City"),
            (" 44.", "44"),
        ] {
            assert_eq!(phrase(text), Some(answer), "{text:?}");
        }
        for none in ["", " ", "\n\nThe", " \"big\""] {
            assert_eq!(phrase(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_phrase_is_whole_when_nothing_can_be_added() {
        for text in
            [" Paris.", " Paris and the largest city", " went to the", " New Delhi,", "\n\n", " \"big"]
        {
            assert!(is_whole(text), "{text:?}");
        }
        for text in [
            "",
            " ",
            " the",
            " Par",
            " Paris",
            " New Delhi",
            " Bosnia and",
            " Bosnia and Herz",
            " St. George",
            " went to",
        ] {
            assert!(!is_whole(text), "{text:?}");
        }
    }
}
