//! Stopping a statement that takes long.

use larql_core::progress::{CancelToken, Progress, Step};

use crate::{ExecuteError, Session};

impl Session {
    /// Has a statement end as soon as `token` is cancelled.
    pub fn with_cancel(mut self, token: CancelToken) -> Session {
        self.cancel = token;
        self
    }

    /// Ends a statement that is to stop; called now and then by whatever takes long.
    pub(crate) fn go_on(&self) -> Result<(), ExecuteError> {
        self.cancel.check().map_err(|_| ExecuteError::Interrupted)
    }

    /// Returns the session's progress, which the session's token cancels.
    pub(crate) fn stoppable(&self) -> Stoppable<'_> {
        Stoppable(self)
    }
}

/// The progress of a session under the session's token.
pub(crate) struct Stoppable<'a>(&'a Session);

impl Progress for Stoppable<'_> {
    fn report(&self, step: Step<'_>) {
        self.0.progress.report(step);
    }

    fn cancel_token(&self) -> &CancelToken {
        &self.0.cancel
    }
}
