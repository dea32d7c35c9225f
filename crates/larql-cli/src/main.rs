//! The `larql` command: one file for each command, and nothing else here but the way to it.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod interrupt;
mod library;
mod output;
mod progress;
mod sizes;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A model you can query.
#[derive(Parser)]
#[command(name = "larql", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start with:
  larql demo
  larql extract model.gguf -o model.vindex
  larql repl model.vindex
  larql run model.vindex \"The capital of France is\"")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::Arguments),
    #[command(alias = "extract-index")]
    Extract(commands::extract::Arguments),
    Run(commands::run::Arguments),
    Chat(commands::chat::Arguments),
    Lql(commands::lql::Arguments),
    Repl(commands::repl::Arguments),
    Show(commands::show::Arguments),
    List(commands::list::Arguments),
    Label(commands::label::Arguments),
    Verify(commands::verify::Arguments),
    Compile(commands::compile::Arguments),
    Build(commands::build::Arguments),
    History(commands::history::Arguments),
    Convert(commands::convert::Arguments),
    Probe(commands::probe::Arguments),
    Eval(commands::eval::Arguments),
    Bench(commands::bench::Arguments),
    Conformance(commands::conformance::Arguments),
    Completions(commands::completions::Arguments),
}

fn main() -> ExitCode {
    // `larql … | head` ends quietly when `head` has read enough, as other tools do.
    sigpipe::reset();
    // Paths are copied from messages, so they are not broken over lines.
    let hook =
        miette::set_hook(Box::new(|_| Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())));
    debug_assert!(hook.is_ok(), "the only hook");
    let result = match Cli::parse().command {
        Command::Demo(arguments) => commands::demo::run(arguments),
        Command::Extract(arguments) => commands::extract::run(arguments),
        Command::Run(arguments) => commands::run::run(arguments),
        Command::Chat(arguments) => commands::chat::run(arguments),
        Command::Lql(arguments) => commands::lql::run(arguments),
        Command::Repl(arguments) => commands::repl::run(arguments),
        Command::Show(arguments) => commands::show::run(arguments),
        Command::List(arguments) => commands::list::run(arguments),
        Command::Label(arguments) => commands::label::run(arguments),
        Command::Verify(arguments) => commands::verify::run(arguments),
        Command::Compile(arguments) => commands::compile::run(arguments),
        Command::Build(arguments) => commands::build::run(arguments),
        Command::History(arguments) => commands::history::run(arguments),
        Command::Convert(arguments) => commands::convert::run(arguments),
        Command::Probe(arguments) => commands::probe::run(arguments),
        Command::Eval(arguments) => commands::eval::run(arguments),
        Command::Bench(arguments) => commands::bench::run(arguments),
        Command::Conformance(arguments) => commands::conformance::run(arguments),
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
