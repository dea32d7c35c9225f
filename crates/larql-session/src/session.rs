//! A session: what is open in it, and how it computes.

use std::path::PathBuf;
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::SharedLazy;
use larql_core::progress::{CancelToken, NoProgress, Progress};
use larql_knowledge::LanguageModel;
use larql_lql::ast::Spanned;

use crate::catalog::Catalog;
use crate::open_vindex::OpenVindex;
use crate::unprobed::Unprobed;
use crate::{Database, ExecuteError, View};

/// A conversation in LQL with one vindex or checkpoint at a time. Sessions of one catalog share what they open; each sees
/// its own patches alone.
pub struct Session {
    catalog: Arc<Catalog>,
    opened: Option<Opened>,
    progress: Arc<dyn Progress>,
    walk_k: Option<usize>,
    most_rows: Option<usize>,
}

/// A vindex or a checkpoint.
pub(crate) enum Opened {
    Vindex(OpenVindex),
    Checkpoint { path: PathBuf, language: Arc<LanguageModel>, unprobed: Box<SharedLazy<Unprobed>> },
}

impl Session {
    /// Returns a session with nothing open.
    pub fn new(catalog: Arc<Catalog>) -> Session {
        Session { catalog, opened: None, progress: Arc::new(NoProgress), walk_k: None, most_rows: None }
    }

    /// Returns a session that reads what `view` shows. Its own edits lie over that view, and other holders of the view do not see
    /// them.
    pub fn of_view(catalog: Arc<Catalog>, view: Arc<View>) -> Session {
        let path = view.base().path().to_owned();
        let opened = Some(Opened::Vindex(OpenVindex::new(view, path)));
        Session { opened, ..Session::new(catalog) }
    }

    /// As [`with_progress`](Self::with_progress), from the next statement on.
    pub fn set_progress(&mut self, progress: Arc<dyn Progress>) {
        self.progress = progress;
    }

    /// Has long work report to `progress`, and statements end as soon as its token is cancelled.
    pub fn with_progress(mut self, progress: Arc<dyn Progress>) -> Session {
        self.progress = progress;
        self
    }

    /// Sets the number of features of each layer that INFER walks; all of them if `None`.
    pub fn set_walk_k(&mut self, k: Option<usize>) {
        self.walk_k = k;
    }

    /// Sets how many rows of a listing are wanted where its statement has no LIMIT; all if `None`. What a result leaves
    /// out, it counts. Statements before `|>` hand on all their rows.
    pub fn set_most_rows(&mut self, rows: Option<usize>) {
        self.most_rows = rows;
    }

    /// Returns the catalog that this session shares with others.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Returns what the session sees of its vindex; none if no vindex is open. Later edits make another view.
    pub fn view(&self) -> Option<&Arc<View>> {
        match &self.opened {
            Some(Opened::Vindex(open)) => Some(open.view()),
            Some(Opened::Checkpoint { .. }) | None => None,
        }
    }

    /// Returns the model in whatever is open, with its edits.
    ///
    /// # Errors
    /// If nothing is open, or the vindex has not all weights of a forward pass.
    pub fn language(&self) -> Result<&LanguageModel, ExecuteError> {
        match &self.opened {
            None => Err(ExecuteError::NothingOpen),
            Some(Opened::Checkpoint { language, .. }) => Ok(language),
            Some(Opened::Vindex(open)) => open.view().language(),
        }
    }
}

/// Access of statements to their session.
impl Session {
    /// Returns the threads that statements compute on.
    pub(crate) fn pool(&self) -> &Pool {
        self.catalog.pool()
    }

    /// Returns what is open.
    pub(crate) fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// Takes something else in place of what is open.
    pub(crate) fn set_opened(&mut self, opened: Opened) {
        self.opened = Some(opened);
    }

    /// Returns what long work reports to.
    pub(crate) fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    /// Returns the number of features of each layer that INFER walks; all of them if `None`.
    pub(crate) fn walk_k(&self) -> Option<usize> {
        self.walk_k
    }

    /// Returns how many rows of a listing are wanted where its statement has no LIMIT; all if `None`.
    pub(crate) fn most_rows(&self) -> Option<usize> {
        self.most_rows
    }

    /// Returns the token that is cancelled when a statement is to stop.
    pub(crate) fn cancel_token(&self) -> &CancelToken {
        self.progress.cancel_token()
    }

    /// Ends a statement that is to stop; called now and then by whatever takes long.
    pub(crate) fn check_cancelled(&self) -> Result<(), ExecuteError> {
        Ok(self.progress.check()?)
    }

    /// Returns the path of the model that a statement names.
    pub(crate) fn find(&self, name: &Spanned<String>) -> Result<PathBuf, ExecuteError> {
        self.catalog.models().find(name.value.as_ref()).map_err(ExecuteError::not_found(name.span))
    }

    /// Returns the path of the checkpoint that a statement names.
    pub(crate) fn find_checkpoint(&self, name: &Spanned<String>) -> Result<PathBuf, ExecuteError> {
        self.catalog.models().find_checkpoint(name.value.as_ref()).map_err(ExecuteError::not_found(name.span))
    }

    /// Returns the database of the vindex that a statement names.
    pub(crate) fn database(&self, name: &Spanned<String>) -> Result<Arc<Database>, ExecuteError> {
        self.catalog.database(&self.find(name)?)
    }

    /// Returns the open vindex; `statement` is what needs it.
    pub(crate) fn vindex(&self, statement: &'static str) -> Result<&OpenVindex, ExecuteError> {
        match &self.opened {
            None => Err(ExecuteError::NothingOpen),
            Some(Opened::Vindex(open)) => Ok(open),
            Some(Opened::Checkpoint { path, .. }) => {
                Err(ExecuteError::NeedsVindex { statement, path: path.display().to_string() })
            }
        }
    }

    /// Returns the open vindex, to be edited; `statement` is what needs it.
    pub(crate) fn vindex_mut(&mut self, statement: &'static str) -> Result<&mut OpenVindex, ExecuteError> {
        match &mut self.opened {
            None => Err(ExecuteError::NothingOpen),
            Some(Opened::Vindex(open)) => Ok(open),
            Some(Opened::Checkpoint { path, .. }) => {
                Err(ExecuteError::NeedsVindex { statement, path: path.display().to_string() })
            }
        }
    }

    /// Returns what the open vindex shows; `statement` is what needs it.
    pub(crate) fn viewed(&self, statement: &'static str) -> Result<&Arc<View>, ExecuteError> {
        self.vindex(statement).map(OpenVindex::view)
    }
}
