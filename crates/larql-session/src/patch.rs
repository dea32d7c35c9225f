//! BEGIN, SAVE, APPLY, REMOVE and SHOW PATCH, and UNDO.

use std::path::Path;

use larql_lql::UnsavedPatch;
use larql_lql::ast::{ApplyPatch, BeginPatch, RemovePatch, SavePatch, Spanned};
use larql_lql::output::{Output, PatchAction, PatchChanged, Patches};
use larql_vindex::Patch;

use crate::open_vindex::OpenVindex;
use crate::{ExecuteError, PatchError, Session};

pub(crate) fn begin(session: &mut Session, statement: &BeginPatch) -> Result<Output, ExecuteError> {
    let open = session.vindex_mut("BEGIN PATCH")?;
    let name = &statement.path;
    check_free(open, name)?;
    if let Some(UnsavedPatch { name: patch, automatic, .. }) = open.unsaved().pop() {
        return Err(PatchError::NotSaved { patch, automatic, at: name.span }.into());
    }
    if Path::new(&**name).exists() {
        return Err(PatchError::FileExists { path: name.value.clone(), at: name.span }.into());
    }
    open.begin(name)?;
    Ok(answer(PatchAction::Begun, name, 0))
}

/// Fails if a patch of that name lies over the vindex already.
fn check_free(open: &OpenVindex, name: &Spanned<String>) -> Result<(), PatchError> {
    match open.has_patch(name) {
        true => Err(PatchError::Applied { path: name.value.clone(), at: name.span }),
        false => Ok(()),
    }
}

pub(crate) fn save(session: &mut Session, statement: &SavePatch) -> Result<Output, ExecuteError> {
    let open = session.vindex_mut("SAVE PATCH")?;
    let (name, operations) = open.save(statement.path.as_ref().map(|path| &*path.value))?;
    Ok(answer(PatchAction::Saved, &name, operations))
}

pub(crate) fn apply(session: &mut Session, statement: &ApplyPatch) -> Result<Output, ExecuteError> {
    let name = &statement.path;
    check_free(session.vindex("APPLY PATCH")?, name)?;
    session.apply_patch(name, read(name)?)
}

/// Reads a patch file that a statement names.
pub(crate) fn read(name: &Spanned<String>) -> Result<Patch, ExecuteError> {
    let path = Path::new(&**name);
    match path.exists() {
        true => Ok(Patch::read(path)?),
        false => Err(PatchError::Missing { path: name.value.clone(), at: name.span }.into()),
    }
}

impl Session {
    /// Lays a patch that was read elsewhere over the vindex, under a name that no other patch has.
    ///
    /// # Errors
    /// If the name is taken, or the patch does not fit the vindex.
    pub fn apply_patch(&mut self, name: &str, patch: Patch) -> Result<Output, ExecuteError> {
        let open = self.vindex_mut("APPLY PATCH")?;
        check_free(open, &name.to_owned().into())?;
        let operations = patch.operations().len();
        open.apply(name, patch)?;
        Ok(answer(PatchAction::Applied, name, operations))
    }
}

pub(crate) fn remove(session: &mut Session, statement: &RemovePatch) -> Result<Output, ExecuteError> {
    let name = &statement.path;
    match session.vindex_mut("REMOVE PATCH")?.remove(name)? {
        Some(operations) => Ok(answer(PatchAction::Removed, name, operations)),
        None => Err(PatchError::NotApplied { path: name.value.clone(), at: name.span }.into()),
    }
}

pub(crate) fn undo(session: &mut Session) -> Result<Output, ExecuteError> {
    let (patch, operations) = session.vindex_mut("UNDO")?.undo()?.ok_or(PatchError::NothingToUndo)?;
    Ok(answer(PatchAction::Undone, &patch, operations))
}

fn answer(action: PatchAction, patch: &str, operations: usize) -> Output {
    Output::Patch(PatchChanged { action, patch: patch.to_owned(), operations })
}

pub(crate) fn show(session: &Session) -> Result<Output, ExecuteError> {
    Ok(Output::Patches(Patches { rows: session.vindex("SHOW PATCHES")?.rows() }))
}
