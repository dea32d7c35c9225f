//! Labels by pattern, for features most of whose words are in one list, for instance of months.
//!
//! Such a label describes the words that a feature writes, not a relation to its input, so every other source of labels
//! has precedence.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use crate::component::FEATURE_PATTERNS_FILE;
use crate::extract::write_file;
use crate::search::{TokenTexts, fold};
use crate::{FeatureStore, VindexError};

/// Least number of different words of a list that a feature writes.
const WORDS: usize = 3;

/// The kinds of words that features write, by layer and number.
pub type Patterns = BTreeMap<(usize, usize), String>;

/// Finds the features that write words of one list more than any others: at least half of their words, and at least
/// three different ones. A list is a kind with its words; upper and lower case are the same.
pub fn find_patterns(
    store: &dyn FeatureStore,
    texts: &dyn TokenTexts,
    lists: &BTreeMap<String, Vec<String>>,
) -> Patterns {
    let lists: Vec<(&str, HashSet<String>)> =
        lists.iter().map(|(kind, words)| (&**kind, words.iter().map(|word| fold(word)).collect())).collect();
    let mut patterns = Patterns::new();
    for layer in 0..store.layers() {
        for feature in 0..store.features(layer) {
            let tokens = store.top_tokens(layer, feature);
            let words: BTreeSet<String> =
                tokens.filter_map(|token| texts.word(token.token)).map(|word| fold(&word)).collect();
            let kind = lists.iter().find(|(_, list)| {
                let matching = words.iter().filter(|word| list.contains(*word)).count();
                matching >= WORDS && 2 * matching >= words.len()
            });
            if let Some((kind, _)) = kind {
                patterns.insert((layer, feature), (*kind).to_owned());
            }
        }
    }
    patterns
}

/// Writes patterns into the vindex at `path`, in place of those that were there.
///
/// # Errors
/// If the file cannot be written.
pub fn write_patterns(patterns: &Patterns, path: &Path) -> Result<(), VindexError> {
    let kinds: BTreeMap<String, &str> =
        patterns.iter().map(|((layer, feature), kind)| (format!("{layer}:{feature}"), &**kind)).collect();
    let json = serde_json::to_vec_pretty(&kinds).expect("texts are JSON");
    write_file(path, FEATURE_PATTERNS_FILE, &json).map(drop)
}
