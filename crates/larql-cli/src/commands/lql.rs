use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use larql_lql::render::{self, RenderOptions};
use larql_remote::Switching;
use larql_repl::{Interrupt, Outcome, Repl, Streams};
use larql_session::Session;

use crate::arguments::Threads;
use crate::progress::Bars;
use crate::{interrupt, library, output};

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
    #[arg(allow_hyphen_values = true)]
    statements: Option<String>,
    /// A file of statements
    #[arg(long, conflicts_with = "statements")]
    file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) session: SessionArguments,
}

/// Arguments that set up a session.
#[derive(Args)]
pub(crate) struct SessionArguments {
    /// Open this vindex, GGUF file, checkpoint directory or model of this name first
    #[arg(long = "use", value_name = "MODEL")]
    pub(crate) open: Option<PathBuf>,
    /// Format of results
    #[arg(long, value_enum, default_value = "table")]
    format: FormatArgument,
    /// Let INFER walk only the K strongest features a layer
    #[arg(long, value_name = "K")]
    walk_k: Option<usize>,
    /// Save the edits of the open patch to this file at the end
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    threads: Threads,
}

/// Format of results.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FormatArgument {
    /// For people
    Table,
    /// Every column, in a box
    Box,
    /// A table of Markdown
    Markdown,
    /// A line for each value
    Line,
    /// An object for each result
    Json,
    /// A header and rows for each result
    Csv,
}

impl From<FormatArgument> for render::Format {
    fn from(format: FormatArgument) -> Self {
        match format {
            FormatArgument::Table => render::Format::Table,
            FormatArgument::Box => render::Format::Box,
            FormatArgument::Markdown => render::Format::Markdown,
            FormatArgument::Line => render::Format::Line,
            FormatArgument::Json => render::Format::Json,
            FormatArgument::Csv => render::Format::Csv,
        }
    }
}

impl SessionArguments {
    /// A prompt over a new session, in which what was asked for is open.
    pub(crate) fn repl(&self) -> miette::Result<Repl<Switching<Session>>> {
        let interrupt = Interrupt::default();
        let progress = Arc::new(Bars::fleeting(interrupt.token()));
        let mut session = library::session(self.threads.pool())?.with_progress(progress);
        session.set_walk_k(self.walk_k);
        if let Some(model) = &self.open {
            session.open_path(&library::find(model)?)?;
        }
        let options = RenderOptions { edits_are_saved: self.save.is_some(), ..output::render_options() };
        prompt(session, self.format.into(), options, interrupt)
    }

    /// Ends a session: saves its edits where that is asked for, and says which are in no file. Gives the exit code after
    /// statements that ended in `outcome`.
    pub(crate) fn keep_edits(
        &self,
        repl: &mut Repl<Switching<Session>>,
        outcome: Outcome,
    ) -> miette::Result<ExitCode> {
        let mut streams = Streams { out: &mut std::io::stdout(), err: &mut std::io::stderr() };
        let kept = match &self.save {
            Some(file) => repl.save(&file.display().to_string(), &mut streams),
            // A person who leaves a prompt has been warned.
            None if outcome == Outcome::Quit => Ok(Outcome::Done),
            None => repl.warn_of_loss(&mut streams).map(|_| Outcome::Done),
        };
        let failed = [outcome, kept.map_err(output::unwritable)?].contains(&Outcome::Failed);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// A prompt over a session that looks at the flag of `interrupt`.
pub(crate) fn prompt(
    session: Session,
    format: render::Format,
    options: RenderOptions,
    interrupt: Interrupt,
) -> miette::Result<Repl<Switching<Session>>> {
    interrupt::stop_statements(interrupt.clone())?;
    let repl = Repl::new(Switching::new(session), format, options, interrupt);
    Ok(repl.with_colored_errors(output::color(&std::io::stderr())))
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let (name, text) = match (&arguments.statements, &arguments.file) {
        (Some(statements), _) => ("argument".to_owned(), statements.clone()),
        (None, Some(file)) => (file.display().to_string(), read(file)?),
        (None, None) => ("standard input".to_owned(), read_input()?),
    };
    let mut repl = arguments.session.repl()?;
    let mut streams = Streams { out: &mut std::io::stdout(), err: &mut std::io::stderr() };
    let outcome = repl.run_script(&name, &text, &mut streams).map_err(output::unwritable)?;
    arguments.session.keep_edits(&mut repl, outcome)
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
