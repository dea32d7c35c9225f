use std::io::Write;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::output;

/// Print a completion script for a shell
#[derive(Args)]
#[command(
    after_help = "Example:\n  larql completions bash > ~/.local/share/bash-completion/completions/larql"
)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::Cli::command(), "larql", &mut script);
    std::io::stdout().write_all(&script).map_err(output::unwritable)?;
    Ok(ExitCode::SUCCESS)
}
