use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use larql_lql::Session;
use larql_lql::render::{self, RenderOptions, diagnostic};
use miette::Diagnostic;

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
    /// Open this vindex, GGUF file or checkpoint directory first
    #[arg(long = "use", value_name = "MODEL")]
    open: Option<PathBuf>,
    /// How to print results
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: FormatArgument,
    /// Let INFER walk only the K strongest features a layer
    #[arg(long, value_name = "K")]
    pub(crate) walk_k: Option<usize>,
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
    /// The session, with what was asked for opened in it.
    pub(crate) fn session(&self, progress: Bars) -> miette::Result<Session> {
        let mut session = Session::new(self.threads.pool()).with_progress(std::sync::Arc::new(progress));
        if let Some(library) = library::folder() {
            session = session.with_library(library);
        }
        session.set_walk_k(self.walk_k);
        if let Some(model) = &self.open {
            session.open_path(&library::find(model)?).map_err(super::report)?;
        }
        Ok(session)
    }
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let (name, text) = match (&arguments.statements, &arguments.file) {
        (Some(statements), _) => ("argument".to_owned(), statements.clone()),
        (None, Some(file)) => (file.display().to_string(), read(file)?),
        (None, None) => ("standard input".to_owned(), read_input()?),
    };
    let script = match larql_lql::parse(&text) {
        Ok(script) => script,
        Err(error) => return Ok(fail(&error, &name, &text)),
    };
    let mut session = arguments.session.session(Bars::new(interrupt::flag()?))?;
    let options =
        RenderOptions { width: terminal_width(), color: std::io::stdout().is_terminal(), pretty: false };
    for pipe in &script {
        match session.execute_pipe(pipe) {
            Ok(output) => print!("{}", render::render(&output, arguments.session.format.into(), &options)),
            Err(error) => return Ok(fail(&error, &name, &text)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows an error with the place in the text that it is about.
fn fail(error: &dyn Diagnostic, name: &str, text: &str) -> ExitCode {
    eprint!("{}", diagnostic(error, name, text, std::io::stderr().is_terminal()));
    ExitCode::FAILURE
}

fn read(file: &std::path::Path) -> miette::Result<String> {
    std::fs::read_to_string(file).map_err(|error| miette::miette!("{}: {error}", file.display()))
}

fn read_input() -> miette::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| miette::miette!("standard input: {error}"))?;
    Ok(text)
}

/// Columns of the terminal; nothing where results go to a file or another program, so that nothing is cut there.
fn terminal_width() -> Option<usize> {
    let terminal = std::io::stdout().is_terminal();
    terminal.then(|| console_width()).flatten()
}

fn console_width() -> Option<usize> {
    let (_, columns) = console::Term::stdout().size_checked()?;
    Some(columns.into())
}
