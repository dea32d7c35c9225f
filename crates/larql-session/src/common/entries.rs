//! Entries of the edge memory: keys, look-up and replacement.

use std::collections::BTreeSet;

use larql_vindex::{KnnEntry, KnnStore, Operation};

/// The operations that replace entries of the edge memory, or remove them. An entity's
/// entries go together, so the others are put back.
pub(crate) fn replace_entries(
    entries: &KnnStore,
    replaced: &BTreeSet<EntryKey>,
    replacement: impl Fn(KnnEntry) -> Option<KnnEntry>,
) -> Vec<Operation> {
    let entities: BTreeSet<&str> = replaced.iter().map(|(_, entity, _)| &**entity).collect();
    let mut operations: Vec<Operation> =
        entities.iter().map(|entity| Operation::DeleteKnn { entity: (*entity).to_owned() }).collect();
    let of_entities = entries.iter().filter(|entry| entities.contains(&*entry.triple.entity)).cloned();
    let kept = of_entities.filter_map(|entry| match replaced.contains(&entry_key(&entry)) {
        true => replacement(entry),
        false => Some(entry),
    });
    operations.extend(kept.map(Operation::InsertKnn));
    operations
}

/// Layer, entity and relation of an entry of the edge memory.
pub(crate) type EntryKey = (usize, String, String);

pub(crate) fn entry_key(entry: &KnnEntry) -> EntryKey {
    (entry.layer, entry.triple.entity.clone(), entry.triple.relation.clone())
}

/// Returns the question that an edge answers, without regard to case.
pub(crate) fn question(entity: &str, relation: &str) -> (String, String) {
    (entity.to_lowercase(), relation.to_lowercase())
}

/// Returns true if two names are the same but for case and surrounding white space.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}
