//! Wordings: sentences with a place for the entity, which end right before the target.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Placeholder of the entity in a wording.
pub(super) const SUBJECT: &str = "{subject}";

/// Rules by which names are put into wordings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Names that take "the".
    pub definite: BTreeSet<String>,
}

impl Names {
    /// Returns `wording` with `name` in place of `{subject}`. The sentence that is filled may follow others, each in a line of
    /// its own.
    pub fn fill(&self, wording: &str, name: &str) -> String {
        if !self.definite.contains(name) {
            return wording.replace(SUBJECT, name);
        }
        let (before, sentence) = wording.split_at(wording.rfind('\n').map_or(0, |end| end + 1));
        let sentence = match sentence.strip_prefix(SUBJECT) {
            Some(rest) => format!("The {name}{rest}"),
            None => sentence.to_owned(),
        };
        format!("{before}{}", sentence.replace(SUBJECT, &format!("the {name}")))
    }
}

/// Returns the text of a wording before its entity, as far as it is the same for every entity.
pub fn shared_prefix(wording: &str) -> &str {
    // Names may take an article, and tokens hold the space before them.
    wording.split(SUBJECT).next().unwrap_or("").trim_end()
}
