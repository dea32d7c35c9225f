use std::process::ExitCode;

use clap::{Args, Subcommand};

mod edits;

/// Measure how well a model is edited
#[derive(Args)]
#[command(after_help = "Example:\n  larql eval edits atlas --n 20")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Edits(edits::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    match arguments.what {
        What::Edits(arguments) => edits::run(arguments),
    }
}
