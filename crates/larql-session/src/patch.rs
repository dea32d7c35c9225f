//! BEGIN, SAVE, APPLY, REMOVE and SHOW PATCH, and where the edits of other statements go.

use std::path::Path;

use larql_lql::ast::{ApplyPatch, BeginPatch, RemovePatch, SavePatch, Spanned};
use larql_lql::output::{Output, PatchAction, PatchChanged, PatchRow, Patches};
use larql_vindex::{Operation, Patch};

use crate::target::OpenVindex;
use crate::{ExecuteError, Session};

/// The name of a patch that nobody began.
const AUTOMATIC: &str = "automatic";

/// The patch that edits go into.
pub(crate) struct OpenPatch {
    /// Its place among the patches of the vindex.
    index: usize,
    /// Whether it was begun by an edit, and so has no file.
    automatic: bool,
    /// How many of its operations its file has.
    saved: Option<usize>,
}

/// Where edits went.
pub(crate) struct Destination {
    pub(crate) patch: String,
    /// Whether the patch has no file yet.
    pub(crate) automatic: bool,
}

impl OpenVindex {
    /// Puts operations into the open patch, or, if none is open, into an automatic one. Everything sees them at once.
    ///
    /// # Errors
    /// If one does not fit the model; nothing is changed then.
    pub(crate) fn apply_operations(
        &mut self,
        operations: Vec<Operation>,
    ) -> Result<Destination, ExecuteError> {
        let begun = self.open_patch.is_none();
        if begun {
            self.begin(AUTOMATIC, true)?;
        }
        let Some(OpenPatch { index, automatic, .. }) = self.open_patch else {
            return Err(ExecuteError::NoOpenPatch);
        };
        if let Err(error) = self.patches.extend(index, operations) {
            if begun {
                self.take_off(index)?;
            }
            return Err(error.into());
        }
        self.patches_changed();
        Ok(Destination { patch: self.patches.patches()[index].name.clone(), automatic })
    }

    fn begin(&mut self, name: &str, automatic: bool) -> Result<(), ExecuteError> {
        let patch = Patch::new(self.patches.base());
        self.patches.apply(name, patch)?;
        self.open_patch = Some(OpenPatch { index: self.patches.patches().len() - 1, automatic, saved: None });
        Ok(())
    }

    /// Begins a patch of its own for the next edit, whatever patch is open.
    pub(crate) fn begin_layer(&mut self, name: &str) -> Result<(), ExecuteError> {
        self.begin(name, false)
    }

    /// Ends the patch that the last edit went into; the patch stays on top.
    pub(crate) fn end_layer(&mut self) -> Option<&Patch> {
        let OpenPatch { index, .. } = self.open_patch.take()?;
        Some(&self.patches.patches()[index].patch)
    }

    fn take_off(&mut self, index: usize) -> Result<usize, ExecuteError> {
        let removed = self.patches.remove(index)?;
        self.open_patch = self.open_patch.take().filter(|open| open.index != index);
        if let Some(open) = &mut self.open_patch {
            open.index -= usize::from(open.index > index);
        }
        self.patches_changed();
        Ok(removed.patch.operations().len())
    }

    /// The place of a patch that is called so, or whose file is.
    fn place(&self, name: &str) -> Option<usize> {
        let file = |name: &str| Path::new(name).file_name().map(ToOwned::to_owned);
        let patches = self.patches.patches();
        let exact = patches.iter().position(|applied| applied.name == name);
        exact.or_else(|| patches.iter().position(|applied| file(&applied.name) == file(name)))
    }
}

pub(crate) fn begin(session: &mut Session, statement: &BeginPatch) -> Result<Output, ExecuteError> {
    let open = session.vindex_mut("BEGIN PATCH")?;
    let name = &statement.path;
    check_free(open, name)?;
    if Path::new(&**name).exists() {
        return Err(ExecuteError::PatchFileExists { path: name.value.clone(), at: name.span });
    }
    open.begin(name, false)?;
    Ok(answer(PatchAction::Begun, name, 0))
}

/// Fails if a patch of that name lies over the vindex already.
fn check_free(open: &OpenVindex, name: &Spanned<String>) -> Result<(), ExecuteError> {
    match open.patches.patches().iter().any(|applied| applied.name == name.value) {
        true => Err(ExecuteError::PatchIsApplied { path: name.value.clone(), at: name.span }),
        false => Ok(()),
    }
}

pub(crate) fn save(session: &mut Session, statement: &SavePatch) -> Result<Output, ExecuteError> {
    let open = session.vindex_mut("SAVE PATCH")?;
    let Some(OpenPatch { index, automatic, .. }) = open.open_patch else {
        return Err(ExecuteError::NoOpenPatch);
    };
    let name = match &statement.path {
        Some(path) => path.value.clone(),
        None if automatic => return Err(ExecuteError::PatchHasNoFile),
        None => open.patches.patches()[index].name.clone(),
    };
    let patch = &open.patches.patches()[index].patch;
    let operations = patch.operations().len();
    patch.save(Path::new(&name))?;
    open.patches.rename(index, &*name);
    open.open_patch = Some(OpenPatch { index, automatic: false, saved: Some(operations) });
    Ok(answer(PatchAction::Saved, &name, operations))
}

pub(crate) fn apply(session: &mut Session, statement: &ApplyPatch) -> Result<Output, ExecuteError> {
    let open = session.vindex_mut("APPLY PATCH")?;
    let name = &statement.path;
    check_free(open, name)?;
    let patch = Patch::read(Path::new(&**name))?;
    let operations = patch.operations().len();
    open.patches.apply(&**name, patch)?;
    open.patches_changed();
    Ok(answer(PatchAction::Applied, name, operations))
}

pub(crate) fn remove(session: &mut Session, statement: &RemovePatch) -> Result<Output, ExecuteError> {
    let open = session.vindex_mut("REMOVE PATCH")?;
    let name = &statement.path;
    let Some(index) = open.place(name) else {
        return Err(ExecuteError::NoSuchPatch { path: name.value.clone(), at: name.span });
    };
    let operations = open.take_off(index)?;
    Ok(answer(PatchAction::Removed, name, operations))
}

fn answer(action: PatchAction, patch: &str, operations: usize) -> Output {
    Output::Patch(PatchChanged { action, patch: patch.to_owned(), operations })
}

pub(crate) fn show(session: &Session) -> Result<Output, ExecuteError> {
    Ok(Output::Patches(Patches { rows: rows(session.vindex("SHOW PATCHES")?) }))
}

/// The patches that lie over a vindex.
pub(crate) fn rows(open: &OpenVindex) -> Vec<PatchRow> {
    let row = |(index, applied): (usize, &larql_vindex::AppliedPatch)| {
        let operations = applied.patch.operations().len();
        let own = open.open_patch.as_ref().filter(|open| open.index == index);
        PatchRow {
            patch: applied.name.clone(),
            operations,
            open: own.is_some(),
            saved: own.is_none_or(|own| own.saved == Some(operations)),
        }
    };
    open.patches.patches().iter().enumerate().map(row).collect()
}
