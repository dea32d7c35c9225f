use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use larql_lql::render::{self, RenderOptions};
use larql_repl::{Interrupt, Outcome, Repl, Streams};
use larql_session::Session;
use miette::IntoDiagnostic;

use crate::arguments::Threads;
use crate::progress::Bars;
use crate::{interrupt, library};

/// Run LQL statements
///
/// Statements come from the argument, from a file, or from standard input; a vindex or checkpoint can be opened
/// beforehand. The first statement that fails ends the run with exit code 1.
#[derive(Args)]
#[command(after_help = "Examples:
  larql lql 'USE \"smollm2.vindex\"; DESCRIBE \"France\";'
  larql lql --use smollm2.vindex --format json 'INFER \"The capital of France is\" TOP 3'
  larql lql --use smollm2.vindex --file questions.lql")]
pub(crate) struct Arguments {
    /// The statements; without them, --file or standard input
    statements: Option<String>,
    /// A file of statements
    #[arg(long, conflicts_with = "statements")]
    file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) session: SessionArguments,
}

/// How to set up a session.
#[derive(Args)]
pub(crate) struct SessionArguments {
    /// Open this vindex, GGUF file, checkpoint directory or model of this name first
    #[arg(long = "use", value_name = "MODEL")]
    pub(crate) open: Option<PathBuf>,
    /// How to print results
    #[arg(long, value_enum, default_value = "table")]
    format: FormatArgument,
    /// Let INFER walk only the K strongest features a layer
    #[arg(long, value_name = "K")]
    walk_k: Option<usize>,
    #[command(flatten)]
    threads: Threads,
}

/// How results are printed.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FormatArgument {
    /// For people
    Table,
    /// An object for each result
    Json,
    /// A header and rows for each result
    Csv,
}

impl From<FormatArgument> for render::Format {
    fn from(format: FormatArgument) -> Self {
        match format {
            FormatArgument::Table => render::Format::Table,
            FormatArgument::Json => render::Format::Json,
            FormatArgument::Csv => render::Format::Csv,
        }
    }
}

impl SessionArguments {
    /// A prompt over a new session, in which what was asked for is open.
    pub(crate) fn repl(&self) -> miette::Result<Repl<Session>> {
        let interrupt = Interrupt::default();
        let progress = Arc::new(Bars::fleeting(interrupt.token()));
        let mut session = library::session(self.threads.pool()).with_progress(progress);
        session.set_walk_k(self.walk_k);
        if let Some(model) = &self.open {
            session.open_path(&library::find(model)?)?;
        }
        prompt(session, self.format.into(), interrupt)
    }
}

/// A prompt over a session that looks at the flag of `interrupt`. It prints as standard output can take it.
pub(crate) fn prompt(
    session: Session,
    format: render::Format,
    interrupt: Interrupt,
) -> miette::Result<Repl<Session>> {
    let terminal = std::io::stdout().is_terminal();
    let width = console::Term::stdout().size_checked().map(|(_, columns)| columns.into());
    // Where results go to a file or another program, nothing is cut to a width.
    let options =
        RenderOptions { width: width.filter(|_| terminal), color: terminal, ..RenderOptions::default() };
    interrupt::stop_statements(interrupt.clone())?;
    Ok(Repl::new(session, format, options, interrupt))
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let (name, text) = match (&arguments.statements, &arguments.file) {
        (Some(statements), _) => ("argument".to_owned(), statements.clone()),
        (None, Some(file)) => (file.display().to_string(), read(file)?),
        (None, None) => ("standard input".to_owned(), read_input()?),
    };
    let mut repl = arguments.session.repl()?;
    let mut streams = Streams { out: &mut std::io::stdout(), err: &mut std::io::stderr() };
    let outcome = repl.run_script(&name, &text, &mut streams).into_diagnostic()?;
    Ok(if outcome == Outcome::Failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(file: &Path) -> miette::Result<String> {
    std::fs::read_to_string(file).map_err(|error| miette::miette!("{}: {error}", file.display()))
}

fn read_input() -> miette::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| miette::miette!("standard input: {error}"))?;
    Ok(text)
}
