//! The `larql` command: one file for each command, and nothing else here but the way to it.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod interrupt;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A model you can query.
#[derive(Parser)]
#[command(name = "larql", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start with:
  larql extract model.gguf -o model.vindex
  larql repl model.vindex
  larql run model.vindex \"The capital of France is\"")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(commands::run::Arguments),
    Chat(commands::chat::Arguments),
    Completions(commands::completions::Arguments),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => commands::run::run(arguments),
        Command::Chat(arguments) => commands::chat::run(arguments),
        Command::Completions(arguments) => commands::completions::run(arguments),
    };
    match result {
        Ok(code) => code,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::FAILURE
        }
    }
}
