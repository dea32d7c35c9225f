//! Texts that end a generated text, found while it comes in pieces.

/// Filter that holds back what may be the beginning of a stop text, and lets nothing pass from the first stop text on.
#[derive(Clone, Debug)]
pub struct StopTexts {
    texts: Vec<String>,
    held: String,
    found: bool,
}

impl StopTexts {
    /// Returns a filter for `texts`, of which empty ones are ignored.
    pub fn new(texts: &[String]) -> StopTexts {
        let texts = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
        StopTexts { texts, held: String::new(), found: false }
    }

    /// Takes the next piece, and returns the text that is certain to stand before every stop text.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held += piece;
        if let Some(at) = self.texts.iter().filter_map(|text| self.held.find(text.as_str())).min() {
            self.found = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let begun = |at: &usize| self.texts.iter().any(|text| text.starts_with(&self.held[*at..]));
        let certain = self.held.char_indices().map(|(at, _)| at).find(begun);
        let rest = self.held.split_off(certain.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    /// Ends the text, and returns what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Reports that a stop text came.
    pub fn found(&self) -> bool {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces that pass, with those at the end, and the report.
    fn passed(stop: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stop: Vec<String> = stop.iter().map(|text| (*text).to_owned()).collect();
        let mut texts = StopTexts::new(&stop);
        let mut passed: Vec<String> = pieces.iter().map(|piece| texts.push(piece)).collect();
        passed.push(texts.finish());
        (passed, texts.found())
    }

    #[test]
    fn a_beginning_of_a_stop_text_waits_for_the_pieces_that_decide() {
        let told = |passed: &[&str], found| (passed.iter().map(|text| (*text).to_owned()).collect(), found);
        assert_eq!(passed(&["END"], &["a E", "N", "D b", "c"]), told(&["a ", "", "", "", ""], true));
        assert_eq!(passed(&["END"], &["a E", "N", "d", "c"]), told(&["a ", "", "ENd", "c", ""], false));
        assert_eq!(passed(&["END"], &["EEN", "D"]), told(&["E", "", ""], true));
        assert_eq!(passed(&["END"], &["EN"]), told(&["", "EN"], false));
        assert_eq!(passed(&[], &["EN", ""]), told(&["EN", "", ""], false));
    }

    #[test]
    fn the_first_of_several_stop_texts_counts_and_empty_ones_do_not() {
        assert_eq!(passed(&["d", "bc", ""], &["abcd"]), (vec!["a".to_owned(), String::new()], true));
        assert_eq!(passed(&["ü!"], &["aü", "ü!"]).0.concat(), "aü");
    }
}
