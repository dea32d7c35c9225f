//! Errors of statements on a server.

use miette::Diagnostic;

/// Failure to carry a statement out on a server.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum RemoteError {
    /// The text is no address of a server.
    #[error("{address} is no address of a server")]
    #[diagnostic(help(
        "write it as http://HOST:PORT, with /MODEL after it on a server of several, and KEY@ before HOST if it asks for one"
    ))]
    Address {
        /// The text.
        address: String,
    },
    /// The server does not answer.
    #[error("{address} does not answer: {reason}")]
    #[diagnostic(help("start one with `larql serve MODEL`, or check the address"))]
    Unreachable {
        /// The server.
        address: String,
        /// The problem.
        reason: String,
    },
    /// The server refuses the statement, in its own words.
    #[error("{message}")]
    Refused {
        /// The server's message.
        message: String,
    },
    /// The server's answer is not what this version reads.
    #[error("{address} gave an answer that cannot be read: {reason}")]
    #[diagnostic(help("use the same version of LARQL on both sides"))]
    Answer {
        /// The server.
        address: String,
        /// The problem.
        reason: String,
    },
    /// A patch file on this machine could not be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// The problem.
        reason: String,
    },
    /// No edit was made, so that there is no patch to save.
    #[error("no patch is open")]
    #[diagnostic(help("an edit opens one by itself"))]
    NoPatch,
    /// The statement is not for a server.
    #[error("{statement} works on files of this machine, and a server is in use")]
    #[diagnostic(help("USE a vindex of this machine first"))]
    Local {
        /// The statement.
        statement: &'static str,
    },
}
