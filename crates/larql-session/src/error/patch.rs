//! Errors of statements about patches.

use larql_lql::ast::Span;

use super::Hint;

/// Failure of a statement about a patch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// No patch is open.
    #[error("no patch is open, so there is nothing to save")]
    NoneOpen,
    /// No edit of the open patch can be undone.
    #[error("the open patch has no edit of this session to undo")]
    NothingToUndo,
    /// The open patch was begun by an edit.
    #[error("the open patch has no file yet")]
    NoFile,
    /// A patch begins while another has edits that no file has.
    #[error("patch {patch} has edits that are in no file")]
    NotSaved {
        /// The open patch.
        patch: String,
        /// True if an edit began it, so that it has no file.
        automatic: bool,
        /// Place of the new patch's name.
        at: Span,
    },
    /// A patch file does not exist.
    #[error("there is no patch file {path}")]
    Missing {
        /// The file.
        path: String,
        /// Its place in the statement.
        at: Span,
    },
    /// A new patch would take the place of a file.
    #[error("{path} exists, and a new patch would replace it")]
    FileExists {
        /// The file.
        path: String,
        /// Its place in the statement.
        at: Span,
    },
    /// A patch of this name lies over the vindex.
    #[error("patch {path} lies over the vindex already")]
    Applied {
        /// Its name.
        path: String,
        /// Place of the name.
        at: Span,
    },
    /// No such patch lies over the vindex.
    #[error("no patch {path} lies over the vindex")]
    NotApplied {
        /// Its name.
        path: String,
        /// Place of the name.
        at: Span,
    },
    /// MERGE names a vindex to merge into, and vindexes are never written.
    #[error("{path} is no patch file, and vindexes are never written")]
    NotAPatch {
        /// The name.
        path: String,
        /// Place of the name.
        at: Span,
    },
}

impl PatchError {
    /// Next step.
    pub fn hint(&self) -> Hint {
        match self {
            PatchError::NoneOpen => Hint::BeginPatch,
            PatchError::NothingToUndo => Hint::UndoOtherwise,
            PatchError::NoFile => Hint::NamePatchFile,
            PatchError::NotSaved { patch, automatic, .. } => {
                Hint::FinishPatch { patch: patch.clone(), automatic: *automatic }
            }
            PatchError::Missing { .. } => Hint::FindPatchFile,
            PatchError::FileExists { path, .. } => Hint::UseOtherPatchFile { path: path.clone() },
            PatchError::Applied { path, .. } => Hint::RemovePatch { path: path.clone() },
            PatchError::NotApplied { .. } => Hint::ListPatches,
            PatchError::NotAPatch { .. } => Hint::MergeIntoPatch,
        }
    }

    pub(super) fn label(&self) -> Option<(Span, &'static str)> {
        match self {
            PatchError::NoneOpen | PatchError::NothingToUndo | PatchError::NoFile => None,
            PatchError::NotSaved { at, .. } => Some((*at, "would leave them behind")),
            PatchError::Missing { at, .. } => Some((*at, "does not exist")),
            PatchError::FileExists { at, .. } => Some((*at, "exists")),
            PatchError::Applied { at, .. } => Some((*at, "applied already")),
            PatchError::NotApplied { at, .. } => Some((*at, "not applied")),
            PatchError::NotAPatch { at, .. } => Some((*at, "not a .vlp file")),
        }
    }
}
