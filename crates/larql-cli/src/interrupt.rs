//! Ctrl-C as a flag that long work looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larql_repl::Interrupt;
use miette::IntoDiagnostic;

/// Exit code of a command that was interrupted, as shells expect it (128 + SIGINT).
pub(crate) const EXIT_CODE: u8 = 130;

/// A flag that Ctrl-C sets. A second Ctrl-C ends the program at once.
pub(crate) fn flag() -> miette::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if shared.swap(true, Ordering::Relaxed) {
            std::process::exit(EXIT_CODE.into());
        }
    })
    .into_diagnostic()?;
    Ok(flag)
}

/// Has Ctrl-C stop the statement that runs; where none does, or one does not stop, it ends the program.
pub(crate) fn stop_statements(interrupt: Interrupt) -> miette::Result<()> {
    ctrlc::set_handler(move || {
        if !interrupt.request() {
            std::process::exit(EXIT_CODE.into());
        }
    })
    .into_diagnostic()
}
