//! MERGE: the edges of another vindex, or of a patch, into this one.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use larql_lql::ast::{Merge, MergeConflict, Spanned};
use larql_lql::output::{Change, Changed, Output};
use larql_vindex::{AppliedPatch, FeatureEdit, Operation, Patch, PatchStack};

use crate::common::change::change;
use crate::common::entries::{EntryKey, entry_key};
use crate::diff::{Comparison, entry_changes, entry_operations};
use crate::{ExecuteError, PatchError, Session, patch};

/// Takes over what differs between the source and the base that both share.
pub(crate) fn run(session: &mut Session, statement: &Merge) -> Result<Output, ExecuteError> {
    let rule = statement.on_conflict.unwrap_or(MergeConflict::HighestConfidence);
    let incoming = operations(session, &statement.source)?;
    if let Some(into) = &statement.into {
        return into_patch(session, into, incoming, rule);
    }
    let view = session.viewed("MERGE")?;
    let remembered: HashMap<EntryKey, f64> =
        view.overlay().knn().iter().map(|entry| (entry_key(entry), entry.confidence)).collect();
    let there = |new: &Operation| match (new, new.feature()) {
        (_, Some((layer, feature))) => match view.overlay().edits().get(layer, feature)? {
            FeatureEdit::Deleted => Some(1.0),
            FeatureEdit::Changed(edited) => Some(edited.edge.confidence.unwrap_or(1.0)),
        },
        (Operation::InsertKnn(entry), None) => remembered.get(&entry_key(entry)).copied(),
        _ => None,
    };
    let kept: Vec<Operation> = incoming.into_iter().filter(|new| prevails(new, there, rule)).collect();
    let (count, features) = counted(&kept);
    let changed = change(session, Change::Merged, count, kept)?;
    Ok(Output::Changed(Changed { features, ..changed }))
}

/// Number of edges that operations state; of the operations, and true, where some change features that state no edge.
fn counted(operations: &[Operation]) -> (usize, bool) {
    let mut edges = BTreeSet::new();
    for operation in operations {
        let edge = match operation {
            Operation::Insert(feature) | Operation::Update(feature) => {
                let edge = &feature.edited.edge;
                edge.entity.as_deref().zip(edge.relation.as_deref())
            }
            Operation::InsertKnn(entry) => Some((&*entry.triple.entity, &*entry.triple.relation)),
            Operation::DeleteKnn { entity } => Some((&**entity, "")),
            Operation::Delete { .. } => None,
        };
        let Some(edge) = edge else { return (operations.len(), true) };
        edges.insert(edge);
    }
    (edges.len(), false)
}

/// Returns true if an operation prevails over what is there in the same place, by the confidence of that.
fn prevails(operation: &Operation, there: impl Fn(&Operation) -> Option<f64>, rule: MergeConflict) -> bool {
    there(operation).is_none_or(|there| match rule {
        MergeConflict::KeepSource => true,
        MergeConflict::KeepTarget => false,
        MergeConflict::HighestConfidence => operation.confidence().unwrap_or(1.0) > there,
    })
}

/// Returns the operations that make the source out of the base: those of a patch file, or the differences of a vindex.
fn operations(session: &Session, source: &Spanned<String>) -> Result<Vec<Operation>, ExecuteError> {
    let view = session.viewed("MERGE")?;
    if is_patch(source) {
        let patch = patch::read(source)?;
        // On a stack of its own, which says whether it fits.
        let mut stack = PatchStack::new(Arc::clone(view.patches().base()))?;
        stack.apply(&**source, patch)?;
        let applied: &[AppliedPatch] = stack.patches();
        return Ok(applied.iter().flat_map(|applied| applied.patch.operations()).cloned().collect());
    }
    let (base, other) = (view.database().view()?, session.database(source)?.view()?);
    let comparison = Comparison::of(base.overlay(), other.overlay(), source)?;
    let tokenizer = view.base().text().tokenizer()?;
    let mut operations = Vec::new();
    for layer in 0..view.layers() {
        session.check_cancelled()?;
        operations
            .extend(comparison.layer(layer)?.iter().map(|change| change.operation(tokenizer.as_deref())));
    }
    let (before, after) = (base.overlay().knn(), other.overlay().knn());
    operations.extend(entry_operations(&entry_changes(before, after), after));
    Ok(operations)
}

/// Writes the operations to a patch file, after those that it has. Vindexes are never written.
fn into_patch(
    session: &Session,
    into: &Spanned<String>,
    incoming: Vec<Operation>,
    rule: MergeConflict,
) -> Result<Output, ExecuteError> {
    if !is_patch(into) {
        return Err(PatchError::NotAPatch { path: into.value.clone(), at: into.span }.into());
    }
    let path = Path::new(&**into);
    let mut patch = match path.exists() {
        true => Patch::read(path)?,
        false => Patch::new(session.viewed("MERGE")?.base()),
    };
    let place = |operation: &Operation| match operation {
        Operation::InsertKnn(entry) => Some((None, Some(entry_key(entry)))),
        other => other.feature().map(|feature| (Some(feature), None)),
    };
    let placed = patch.operations().filter_map(|operation| Some((place(operation)?, operation)));
    let confidences: HashMap<_, f64> =
        placed.map(|(place, operation)| (place, operation.confidence().unwrap_or(1.0))).collect();
    let there = |new: &Operation| confidences.get(&place(new)?).copied();
    let kept: Vec<Operation> = incoming.into_iter().filter(|new| prevails(new, there, rule)).collect();
    let (count, features) = counted(&kept);
    patch.extend(kept);
    patch.save(path)?;
    let patch = Some(into.value.clone());
    Ok(Output::Changed(Changed { change: Change::Merged, count, features, patch, ..Changed::default() }))
}

/// Patches and vindexes are distinguished by the ending of their name.
fn is_patch(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("vlp"))
}
