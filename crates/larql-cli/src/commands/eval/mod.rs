use std::process::ExitCode;

use clap::{Args, Subcommand};

mod attribution;
mod edits;
mod knowledge;
mod learn;
mod recall;

/// Measure how well a model is read and edited
#[derive(Args)]
#[command(after_help = "Examples:
  larql eval knowledge smollm2.vindex
  larql eval edits atlas --n 20
  larql eval recall atlas --n 1000
  larql eval attribution smollm2.gguf --n 100")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Knowledge(knowledge::Arguments),
    Edits(edits::Arguments),
    Recall(recall::Arguments),
    Learn(learn::Arguments),
    Attribution(attribution::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    match arguments.what {
        What::Knowledge(arguments) => knowledge::run(arguments),
        What::Edits(arguments) => edits::run(arguments),
        What::Recall(arguments) => recall::run(arguments),
        What::Learn(arguments) => learn::run(arguments),
        What::Attribution(arguments) => attribution::run(arguments),
    }
}
