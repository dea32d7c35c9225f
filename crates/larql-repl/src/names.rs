//! The entities that results have shown, for completion.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More names than this are not remembered.
const MOST: usize = 10_000;

/// A set of names, shared between the prompt and its completer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<BTreeSet<String>>>);

impl Names {
    pub(crate) fn add<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut known = self.known();
        for name in names {
            let name = name.trim();
            if known.len() < MOST && !name.is_empty() {
                known.insert(name.to_owned());
            }
        }
    }

    /// Names that begin with `prefix` in any case, in order, at most `most`.
    pub(crate) fn beginning_with(&self, prefix: &str, most: usize) -> Vec<String> {
        let prefix = prefix.to_lowercase();
        let known = self.known();
        known.iter().filter(|name| name.to_lowercase().starts_with(&prefix)).take(most).cloned().collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A panic elsewhere leaves a set of strings as good as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
