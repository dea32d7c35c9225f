use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use larql_remote::Switching;
use larql_repl::{Outcome, Repl, Streams, run_lines, run_terminal};
use larql_session::Session;
use miette::IntoDiagnostic;

use super::lql::SessionArguments;
use crate::{library, output};

/// Ask in LQL, statement by statement
///
/// `.help` lists statements and commands, Tab completes, Ctrl-C stops a statement, Ctrl-D leaves. Without a terminal,
/// statements are read from standard input, each up to its `;`.
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
    if stdin.is_terminal() && !output::is_dumb() {
        eprintln!("{}", greeting(session.open.as_deref()));
        talk(&mut repl)?;
        return session.keep_edits(&mut repl, Outcome::Quit);
    }
    let mut streams = Streams { out: &mut std::io::stdout(), err: &mut std::io::stderr() };
    let all_done = run_lines(&mut repl, stdin.lock(), &mut streams).map_err(output::unwritable)?;
    session.keep_edits(&mut repl, if all_done { Outcome::Done } else { Outcome::Failed })
}

fn greeting(open: Option<&Path>) -> String {
    let begin = match open {
        Some(model) => format!("{} is open.", model.display()),
        None => r#"Nothing is open; USE "model.vindex"; opens a vindex."#.to_owned(),
    };
    format!(
        "LARQL {}. {begin}\n.help lists statements and commands, Ctrl-D leaves.",
        env!("CARGO_PKG_VERSION")
    )
}

/// Talks with the person at the terminal until they leave.
pub(crate) fn talk(repl: &mut Repl<Switching<Session>>) -> miette::Result<()> {
    run_terminal(repl, library::history_file("history.txt")?).into_diagnostic()
}
