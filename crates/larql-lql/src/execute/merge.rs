//! MERGE: the edges of another vindex, or of a patch, into this one.

use std::path::Path;
use std::sync::Arc;

use larql_vindex::{AppliedPatch, FeatureEdit, Operation, Patch, PatchStack, Vindex};

use super::diff::Comparison;
use super::{ExecuteError, Session, edit};
use crate::ast::{Merge, MergeConflict, Spanned};
use crate::output::{Change, Changed, Output};

/// Takes over what the source has otherwise than the base that both share.
pub(super) fn run(session: &mut Session, statement: &Merge) -> Result<Output, ExecuteError> {
    let rule = statement.on_conflict.unwrap_or(MergeConflict::HighestConfidence);
    let incoming = operations(session, &statement.source)?;
    if let Some(into) = &statement.into {
        return into_patch(session, into, incoming, rule);
    }
    let open = session.vindex("MERGE")?;
    let edited = |layer, feature| match open.vindex.edits().get(layer, feature)? {
        FeatureEdit::Deleted => Some(1.0),
        FeatureEdit::Changed(edited) => Some(edited.edge.confidence.unwrap_or(1.0)),
    };
    let kept: Vec<Operation> = incoming.into_iter().filter(|new| prevails(new, edited, rule)).collect();
    let count = kept.len();
    edit::change(session, Change::Merged, count, kept).map(Output::Changed)
}

/// Whether an operation stands against what is there of the same feature, by its confidence.
fn prevails(operation: &Operation, there: impl Fn(usize, usize) -> Option<f64>, rule: MergeConflict) -> bool {
    let there = operation.feature().and_then(|(layer, feature)| there(layer, feature));
    there.is_none_or(|there| match rule {
        MergeConflict::KeepSource => true,
        MergeConflict::KeepTarget => false,
        MergeConflict::HighestConfidence => operation.confidence().unwrap_or(1.0) > there,
    })
}

/// What makes the source out of the base: the operations of a patch file, or the differences of a vindex.
fn operations(session: &Session, source: &Spanned<String>) -> Result<Vec<Operation>, ExecuteError> {
    let open = session.vindex("MERGE")?;
    if is_patch(source) {
        let patch = Patch::read(Path::new(&**source))?;
        // On a stack of its own, which says whether it fits.
        let mut stack = PatchStack::new(Arc::clone(open.patches.base()))?;
        stack.apply(&**source, patch)?;
        let applied: &[AppliedPatch] = stack.patches();
        return Ok(applied.iter().flat_map(|applied| applied.patch.operations()).cloned().collect());
    }
    let vindex = Arc::new(Vindex::open(&session.find(source)?)?);
    let (base, other) = (PatchStack::new(Arc::clone(open.patches.base()))?, PatchStack::new(vindex)?);
    let comparison = Comparison::of(base.overlay(), other.overlay(), source)?;
    let tokenizer = open.vindex.text().tokenizer()?;
    let mut operations = Vec::new();
    for layer in 0..open.layers() {
        session.go_on()?;
        operations
            .extend(comparison.layer(layer)?.iter().map(|change| change.operation(tokenizer.as_deref())));
    }
    operations.extend(other.overlay().knn().iter().cloned().map(Operation::InsertKnn));
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
        return Err(ExecuteError::NotAPatch { path: into.value.clone(), at: into.span });
    }
    let path = Path::new(&**into);
    let mut patch = match path.exists() {
        true => Patch::read(path)?,
        false => Patch::new(session.vindex("MERGE")?.patches.base()),
    };
    let there = |layer, feature| {
        let last =
            patch.operations().filter(|operation| operation.feature() == Some((layer, feature))).last()?;
        Some(last.confidence().unwrap_or(1.0))
    };
    let kept: Vec<Operation> = incoming.into_iter().filter(|new| prevails(new, there, rule)).collect();
    let count = kept.len();
    patch.extend(kept);
    patch.save(path)?;
    let patch = Some(into.value.clone());
    Ok(Output::Changed(Changed {
        change: Change::Merged,
        count,
        patch,
        automatic: false,
        inserted: Vec::new(),
    }))
}

/// Patches are told from vindexes by their ending.
fn is_patch(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("vlp"))
}
