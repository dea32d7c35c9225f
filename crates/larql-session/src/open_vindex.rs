//! The vindex of one session: what it sees, and where its edits go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_lql::UnsavedPatch;
use larql_lql::output::PatchRow;
use larql_vindex::{AppliedPatch, Operation, Patch, PatchStack};

use crate::{ExecuteError, PatchError, View};

/// Name of a patch that an edit began.
const AUTOMATIC: &str = "automatic";

/// An open vindex with the session's own patches. Each change takes another view in place of the one before.
pub(crate) struct OpenVindex {
    view: Arc<View>,
    /// The path as this session wrote it.
    path: PathBuf,
    open_patch: Option<OpenPatch>,
}

/// The patch that edits go into.
#[derive(Clone)]
struct OpenPatch {
    /// Its place among the patches of the view.
    index: usize,
    /// True if an edit began it, so that it has no file.
    automatic: bool,
    /// The number of its operations that its file has.
    saved: Option<usize>,
    /// The number of its operations before each edit that can be undone, first edit first.
    edits: Vec<usize>,
}

/// The patch that edits went into.
pub(crate) struct Destination {
    pub(crate) patch: String,
    /// True if the patch has no file yet.
    pub(crate) automatic: bool,
}

impl OpenVindex {
    /// Returns a vindex that this session has not edited.
    pub(crate) fn new(view: Arc<View>, path: PathBuf) -> OpenVindex {
        OpenVindex { view, path, open_patch: None }
    }

    /// Returns the vindex as statements see it.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Returns the path as this session wrote it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts operations into the open patch, or, if none is open, into an automatic one. The next statement sees them.
    ///
    /// # Errors
    /// If one does not fit the model; nothing is changed then.
    pub(crate) fn apply_operations(
        &mut self,
        operations: Vec<Operation>,
    ) -> Result<Destination, ExecuteError> {
        let mut patches = self.view.patches().clone();
        let mut open = match &self.open_patch {
            Some(open) => open.clone(),
            None => begin(&mut patches, AUTOMATIC, true)?,
        };
        open.edits.push(patches.patches()[open.index].patch.operations().len());
        patches.extend(open.index, operations)?;
        let patch = patches.patches()[open.index].name.clone();
        self.show(patches);
        let automatic = open.automatic;
        self.open_patch = Some(open);
        Ok(Destination { patch, automatic })
    }

    /// Takes the last edit of the open patch back. Returns the patch's name and the number of operations taken back; none if
    /// there is no edit to take back. A patch that an edit began ends with that edit.
    pub(crate) fn undo(&mut self) -> Result<Option<(String, usize)>, ExecuteError> {
        let Some(open) = &mut self.open_patch else { return Ok(None) };
        let Some(before) = open.edits.last().copied() else { return Ok(None) };
        let mut patches = self.view.patches().clone();
        let AppliedPatch { name, patch } = &patches.patches()[open.index];
        let (name, undone) = (name.clone(), patch.operations().len() - before);
        if open.automatic && before == 0 {
            patches.remove(open.index)?;
            self.open_patch = None;
            self.show(patches);
            return Ok(Some((name, undone)));
        }
        patches.truncate(open.index, before)?;
        open.edits.pop();
        // The file has what the patch has no longer.
        open.saved = open.saved.filter(|saved| *saved <= before);
        self.show(patches);
        Ok(Some((name, undone)))
    }

    /// Begins a patch for the next edit, whatever patch is open.
    pub(crate) fn begin(&mut self, name: &str) -> Result<(), ExecuteError> {
        let mut patches = self.view.patches().clone();
        self.open_patch = Some(begin(&mut patches, name, false)?);
        // An empty patch changes nothing that was computed.
        self.view = Arc::new(self.view.with_same_edits(patches));
        Ok(())
    }

    /// Ends the patch that the last edit went into; the patch stays on top.
    pub(crate) fn end(&mut self) -> Option<&Patch> {
        let OpenPatch { index, .. } = self.open_patch.take()?;
        Some(&self.view.patches().patches()[index].patch)
    }

    /// Saves the open patch, as `name` if there is one. Returns the name and the number of operations.
    pub(crate) fn save(&mut self, name: Option<&str>) -> Result<(String, usize), ExecuteError> {
        let Some(OpenPatch { index, automatic, edits, .. }) = self.open_patch.clone() else {
            return Err(PatchError::NoneOpen.into());
        };
        let AppliedPatch { name: old_name, patch } = &self.view.patches().patches()[index];
        let name = match name {
            Some(name) => name.to_owned(),
            None if automatic => return Err(PatchError::NoFile.into()),
            None => old_name.clone(),
        };
        let operations = patch.operations().len();
        patch.save(Path::new(&name))?;
        let mut patches = self.view.patches().clone();
        patches.rename(index, &*name);
        self.view = Arc::new(self.view.with_same_edits(patches));
        self.open_patch = Some(OpenPatch { index, automatic: false, saved: Some(operations), edits });
        Ok((name, operations))
    }

    /// Lays a patch on top.
    pub(crate) fn apply(&mut self, name: &str, patch: Patch) -> Result<(), ExecuteError> {
        let mut patches = self.view.patches().clone();
        patches.apply(name, patch)?;
        self.show(patches);
        Ok(())
    }

    /// Takes off the patch that is called `name`, or else the one whose file is. Returns the number of its operations;
    /// none if there is no such patch.
    pub(crate) fn remove(&mut self, name: &str) -> Result<Option<usize>, ExecuteError> {
        let Some(index) = self.place(name) else { return Ok(None) };
        let mut patches = self.view.patches().clone();
        let removed = patches.remove(index)?;
        self.show(patches);
        self.open_patch = self.open_patch.take().filter(|open| open.index != index);
        if let Some(open) = &mut self.open_patch {
            open.index -= usize::from(open.index > index);
        }
        Ok(Some(removed.patch.operations().len()))
    }

    /// Returns true if a patch is called `name`.
    pub(crate) fn has_patch(&self, name: &str) -> bool {
        self.view.patches().patches().iter().any(|applied| applied.name == name)
    }

    /// Returns the patches, first applied first.
    pub(crate) fn rows(&self) -> Vec<PatchRow> {
        let row = |(index, applied): (usize, &AppliedPatch)| {
            let operations = applied.patch.operations().len();
            let own = self.open_patch.as_ref().filter(|open| open.index == index);
            PatchRow {
                patch: applied.name.clone(),
                operations,
                open: own.is_some(),
                saved: own.is_none_or(|own| own.saved == Some(operations)),
            }
        };
        self.view.patches().patches().iter().enumerate().map(row).collect()
    }

    /// Returns the patches with edits that no file has.
    pub(crate) fn unsaved(&self) -> Vec<UnsavedPatch> {
        let Some(open) = &self.open_patch else { return Vec::new() };
        let AppliedPatch { name, patch } = &self.view.patches().patches()[open.index];
        let edits = patch.operations().len();
        match edits == open.saved.unwrap_or(0) {
            true => Vec::new(),
            false => vec![UnsavedPatch { name: name.clone(), edits, automatic: open.automatic }],
        }
    }

    fn show(&mut self, patches: PatchStack) {
        self.view = Arc::new(self.view.with_patches(patches));
    }

    fn place(&self, name: &str) -> Option<usize> {
        let file = |name: &str| Path::new(name).file_name().map(ToOwned::to_owned);
        let patches = self.view.patches().patches();
        let exact = patches.iter().position(|applied| applied.name == name);
        exact.or_else(|| patches.iter().position(|applied| file(&applied.name) == file(name)))
    }
}

/// Lays an empty patch on top, to be open.
fn begin(patches: &mut PatchStack, name: &str, automatic: bool) -> Result<OpenPatch, ExecuteError> {
    let patch = Patch::new(patches.base());
    patches.apply(name, patch)?;
    Ok(OpenPatch { index: patches.patches().len() - 1, automatic, saved: None, edits: Vec::new() })
}
