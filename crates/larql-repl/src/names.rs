//! Names for completion: the entities that results have shown, and the relations of the model in use.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More names than this are not remembered.
const MOST: usize = 10_000;

/// Sets of names, shared between the prompt and its completer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    entities: BTreeSet<String>,
    relations: BTreeSet<String>,
}

impl Names {
    pub(crate) fn add<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let entities = &mut self.known().entities;
        for name in names {
            let name = name.trim();
            if entities.len() < MOST && !name.is_empty() {
                entities.insert(name.to_owned());
            }
        }
    }

    /// Replaces the relations.
    pub(crate) fn set_relations(&self, relations: Vec<String>) {
        self.known().relations = relations.into_iter().collect();
    }

    /// Entities that begin with `prefix` in any case, in order, at most `most`.
    pub(crate) fn beginning_with(&self, prefix: &str, most: usize) -> Vec<String> {
        beginning_with(&self.known().entities, prefix, most)
    }

    /// Relations that begin with `prefix` in any case, in order, at most `most`.
    pub(crate) fn relations_beginning_with(&self, prefix: &str, most: usize) -> Vec<String> {
        beginning_with(&self.known().relations, prefix, most)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves a set of strings as good as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beginning_with(names: &BTreeSet<String>, prefix: &str, most: usize) -> Vec<String> {
    let prefix = prefix.to_lowercase();
    names.iter().filter(|name| name.to_lowercase().starts_with(&prefix)).take(most).cloned().collect()
}
