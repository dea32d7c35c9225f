//! Long work: without the interpreter's lock, and ended by Ctrl-C.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use larql_core::progress::CancelToken;
use pyo3::prelude::*;

use crate::error::Problem;

/// Time after which an interruption is noticed.
const TICK: Duration = Duration::from_millis(20);

/// Runs `work` on a thread of its own without the interpreter's lock. The calling thread sees to signals meanwhile: if their
/// handler raises, which Ctrl-C's does, `cancel` is cancelled and the handler's exception is raised once the work has ended.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    cancel: &CancelToken,
    work: impl FnOnce() -> Result<T, Problem> + Send,
) -> PyResult<T> {
    py.detach(|| {
        thread::scope(|scope| {
            let (sender, receiver) = channel::<()>();
            let worker = scope.spawn(move || {
                // Dropped at the end of the work, also if it panics.
                let _sender = sender;
                work()
            });
            let mut raised = None;
            while let Err(RecvTimeoutError::Timeout) = receiver.recv_timeout(TICK) {
                if raised.is_none()
                    && let Err(error) = Python::attach(|py| py.check_signals())
                {
                    cancel.cancel();
                    raised = Some(error);
                }
            }
            let result = worker.join().unwrap_or_else(|panic| Err(fault(&*panic)));
            match raised {
                None => Ok(result?),
                Some(error) => {
                    cancel.reset();
                    Err(error)
                }
            }
        })
    })
}

/// As [`run`] for work that nothing can cancel, such as a request to a server: an interruption leaves it to itself.
pub(crate) fn run_or_leave<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> PyResult<T> {
    py.detach(|| {
        let (sender, receiver) = channel();
        // Nobody waits for the result any more after an interruption.
        let worker = thread::spawn(move || drop(sender.send(work())));
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(result) => return Ok(result?),
                Err(RecvTimeoutError::Timeout) => Python::attach(|py| py.check_signals())?,
                Err(RecvTimeoutError::Disconnected) => {
                    let panic = worker.join().err();
                    return Err(panic.map_or_else(|| fault(&"no result"), |panic| fault(&*panic)).into());
                }
            }
        }
    })
}

/// The error of work that panicked.
fn fault(panic: &(dyn std::any::Any + Send)) -> Problem {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Problem::new("InternalError", format!("a fault of LARQL: {text}; please report it with what led to it"))
}
