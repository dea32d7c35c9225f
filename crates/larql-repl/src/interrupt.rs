//! Stopping a statement without stopping the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larql_core::progress::CancelToken;

/// The link between a handler of Ctrl-C and the statement that runs.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    running: Arc<AtomicBool>,
    token: CancelToken,
}

impl Interrupt {
    /// Asks the running statement to stop. False if there is none, or if it has been asked before and still runs:
    /// then the program should end.
    #[must_use]
    pub fn request(&self) -> bool {
        self.running.load(Ordering::Acquire) && self.token.cancel()
    }

    /// Returns the token that is cancelled while the running statement is to stop.
    pub fn token(&self) -> CancelToken {
        self.token.clone()
    }

    pub(crate) fn start(&self) -> Running<'_> {
        self.token.reset();
        self.running.store(true, Ordering::Release);
        Running(self)
    }
}

/// A statement that runs, until this goes away.
pub(crate) struct Running<'a>(&'a Interrupt);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_once_and_only_what_runs() {
        let interrupt = Interrupt::default();
        let handler = interrupt.clone();
        assert!(!handler.request(), "nothing runs");
        let running = interrupt.start();
        assert!(!interrupt.token().is_cancelled());
        assert!(handler.request());
        assert!(interrupt.token().is_cancelled());
        assert!(!handler.request(), "asked before");
        drop(running);
        assert!(!handler.request(), "nothing runs");
        let _next = interrupt.start();
        assert!(!interrupt.token().is_cancelled(), "the next statement begins afresh");
    }
}
