use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;

use crate::{library, sizes};

/// Delete a model from this machine
///
/// Takes a name that `larql list` shows, never a path. Of a link only the link is deleted. Nothing is downloaded.
#[derive(Args)]
#[command(after_help = "Examples:\n  larql rm owner/gemma-3-4b-it-vindex\n  larql rm gemma --yes")]
pub(crate) struct Arguments {
    /// The model
    model: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let library = library::open_without_downloads()?;
    let name = arguments.model.trim_start_matches("hf://");
    let found = library.removable(name)?;
    let size = sizes::human(found.bytes);
    if !arguments.yes && !confirmed(&format!("Delete {name} ({size})?"))? {
        eprintln!("{name} stays");
        return Ok(ExitCode::FAILURE);
    }
    library.remove(name, &found)?;
    eprintln!("{name} is deleted ({size})");
    Ok(ExitCode::SUCCESS)
}

/// Asks a question on the terminal; the answer is no where there is none.
fn confirmed(question: &str) -> miette::Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(miette::miette!(
            help = "add --yes",
            "{question} Nobody can answer: standard input is no terminal"
        ));
    }
    eprint!("{question} [y/N] ");
    let failed = |error: std::io::Error| miette::miette!("standard input: {error}");
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
