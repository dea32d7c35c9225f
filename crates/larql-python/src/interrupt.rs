//! Long work: without the interpreter's lock, and ended by Ctrl-C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use larql_core::progress::CancelToken;
use pyo3::prelude::*;

use crate::error::Problem;

/// Time after which an interruption is noticed.
const TICK: Duration = Duration::from_millis(20);

/// Runs `work` on another thread without the interpreter's lock. The calling thread sees to signals meanwhile: if their
/// handler raises, which Ctrl-C's does, `cancel` is cancelled and the handler's exception is raised once the work has ended.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    cancel: &CancelToken,
    work: impl FnOnce() -> Result<T, Problem> + Send,
) -> PyResult<T> {
    py.detach(|| {
        let mut raised = None;
        let result = Worker::run(work, || {
            if raised.is_none()
                && let Err(error) = Python::attach(|py| py.check_signals())
            {
                cancel.cancel();
                raised = Some(error);
            }
        });
        let result = result.unwrap_or_else(|panic| Err(fault(&*panic)));
        match raised {
            None => Ok(result?),
            Some(error) => {
                cancel.reset();
                Err(error)
            }
        }
    })
}

/// Thread that carries out one job after another. A new thread for each would cost a short statement half a millisecond, as
/// its memory is new too.
struct Worker {
    /// The process that the thread is of: a fork has none of its parent's.
    process: u32,
    jobs: Sender<Job<'static>>,
}

type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Workers without a job.
static IDLE: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

impl Worker {
    /// Runs `work` on a worker, and calls `tick` now and then on this thread until it is done. The error is the panic of
    /// `work`.
    fn run<T: Send>(work: impl FnOnce() -> T + Send, mut tick: impl FnMut()) -> thread::Result<T> {
        let worker = Worker::idle();
        let (mut result, (sender, receiver)) = (None, channel::<()>());
        {
            let result = &mut result;
            let job: Job<'_> = Box::new(move || {
                // Dropped last, when the result is there and nothing borrowed is used any more.
                let _sender = sender;
                *result = Some(catch_unwind(AssertUnwindSafe(work)));
            });
            // SAFETY: only the lifetime changes. Whatever happens below, `EndOfJob` waits until the job is done or was dropped,
            // so that it uses nothing after the end of what it borrows.
            let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
            let end = EndOfJob(&receiver);
            // A job that no thread takes is dropped, which ends the wait as well.
            let taken = worker.jobs.send(job).is_ok();
            while let Err(RecvTimeoutError::Timeout) = end.0.recv_timeout(TICK) {
                tick();
            }
            if taken {
                IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
            }
        }
        result.unwrap_or_else(|| Err(Box::new("the thread of a job has ended")))
    }

    /// Takes a worker of this process that has no job, or starts one.
    fn idle() -> Worker {
        let process = std::process::id();
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|worker| worker.process == process);
        idle.pop().unwrap_or_else(|| {
            let (jobs, receiver) = channel::<Job<'static>>();
            thread::spawn(move || receiver.iter().for_each(|job| job()));
            Worker { process, jobs }
        })
    }
}

/// Waits for the end of a job when it is dropped.
struct EndOfJob<'a>(&'a Receiver<()>);

impl Drop for EndOfJob<'_> {
    fn drop(&mut self) {
        // Ends when the job drops its sender.
        while self.0.recv().is_ok() {}
    }
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
