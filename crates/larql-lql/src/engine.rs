//! The seam between a surface and what runs its statements: a session in this program, or one elsewhere.

use miette::Diagnostic;

use crate::ast::{ExampleModel, Pipe};
use crate::output::Output;

/// Executor of statements.
pub trait Engine {
    /// Runs the statements of a pipe and hands each result to `emit` as soon as it is there. Long work that is cancelled
    /// ends with an error that says so.
    ///
    /// # Errors
    /// Labels of the error are places in the text that `pipe` was parsed from.
    fn execute(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Failure>;

    /// Sets how many rows of a listing are wanted where its statement has no LIMIT; all if `None`. What is left out of
    /// a result is counted there.
    fn set_most_rows(&mut self, _rows: Option<usize>) {}

    /// Returns the model in use, for examples of the help.
    fn example_model(&self) -> ExampleModel {
        ExampleModel::default()
    }

    /// Returns the relations of the model in use, for completion.
    fn relations(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes INFER walk the `k` strongest features of each layer from now on; all when absent.
    fn set_walk_k(&mut self, k: Option<usize>);

    /// Opens a vindex or a model, by path or name, in place of what is open.
    ///
    /// # Errors
    /// If it cannot be opened; what was open stays open then.
    fn open(&mut self, model: &str) -> Result<Output, Failure>;

    /// Returns the patches with edits that no file has.
    fn unsaved(&self) -> Vec<UnsavedPatch> {
        Vec::new()
    }
}

/// Patch with edits that no file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsavedPatch {
    /// Name of the patch, which is its file's unless it is automatic.
    pub name: String,
    /// Number of its edits.
    pub edits: usize,
    /// True if an edit began it, so that it has no file.
    pub automatic: bool,
}

/// Error of a statement, for people to read.
pub type Failure = Box<dyn Diagnostic + Send + Sync>;
