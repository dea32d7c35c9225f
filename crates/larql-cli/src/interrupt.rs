//! Ctrl-C as a token that cancels long work.

use std::sync::OnceLock;

use larql_core::progress::CancelToken;
use larql_repl::Interrupt;
use miette::IntoDiagnostic;

/// Exit code of a command that was interrupted, as shells expect it (128 + SIGINT).
pub(crate) const EXIT_CODE: u8 = 130;

/// Returns the token that Ctrl-C cancels, the same one each time. A second Ctrl-C ends the program at once.
pub(crate) fn token() -> miette::Result<CancelToken> {
    static TOKEN: OnceLock<CancelToken> = OnceLock::new();
    if let Some(token) = TOKEN.get() {
        return Ok(token.clone());
    }
    let token = TOKEN.get_or_init(CancelToken::new).clone();
    let shared = token.clone();
    ctrlc::set_handler(move || {
        if !shared.cancel() {
            std::process::exit(EXIT_CODE.into());
        }
    })
    .into_diagnostic()?;
    Ok(token)
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
