use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_repl::{Repl, Streams, run_lines, run_terminal};
use larql_session::Session;
use miette::IntoDiagnostic;

use super::lql::SessionArguments;
use crate::library;

/// Ask in LQL, statement by statement
///
/// `.help` lists statements and commands, Tab completes, Ctrl-C stops a statement, Ctrl-D leaves. Without a terminal,
/// statements are read line by line from standard input.
#[derive(Args)]
#[command(after_help = "Examples:
  larql repl smollm2.vindex
  larql repl --format json < questions.lql")]
pub(crate) struct Arguments {
    /// A vindex, GGUF file, checkpoint directory or model's name to open first
    model: Option<PathBuf>,
    #[command(flatten)]
    session: SessionArguments,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let mut session = arguments.session;
    session.open = arguments.model.or(session.open);
    let mut repl = session.repl()?;
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        talk(&mut repl)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut streams = Streams { out: &mut std::io::stdout(), err: &mut std::io::stderr() };
    let all_done = run_lines(&mut repl, stdin.lock(), &mut streams).into_diagnostic()?;
    Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Talks with the person at the terminal until they leave.
pub(crate) fn talk(repl: &mut Repl<Session>) -> miette::Result<()> {
    let history = library::history_file();
    if let Some(folder) = history.as_deref().and_then(std::path::Path::parent) {
        std::fs::create_dir_all(folder).into_diagnostic()?;
    }
    run_terminal(repl, history).into_diagnostic()
}
