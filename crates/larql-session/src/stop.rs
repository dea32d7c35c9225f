//! Stopping a statement that takes long.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larql_vindex::{Progress, Step};

use crate::{ExecuteError, Session};

impl Session {
    /// Ends the statement that runs as soon as `stop` is true.
    pub fn with_stop(mut self, stop: Arc<AtomicBool>) -> Session {
        self.stop = stop;
        self
    }

    /// Ends work that somebody asked to stop; called now and then by whatever takes long.
    pub(crate) fn go_on(&self) -> Result<(), ExecuteError> {
        if self.stop.load(Ordering::Relaxed) { Err(ExecuteError::Interrupted) } else { Ok(()) }
    }

    /// The session's progress, which also breaks when the statement is to stop.
    pub(crate) fn stoppable(&self) -> Stoppable<'_> {
        Stoppable(self)
    }
}

/// Progress that can be stopped.
pub(crate) struct Stoppable<'a>(&'a Session);

impl Progress for Stoppable<'_> {
    fn step(&self, step: Step<'_>) -> ControlFlow<()> {
        match self.0.go_on() {
            Ok(()) => self.0.progress.step(step),
            Err(_) => ControlFlow::Break(()),
        }
    }
}
