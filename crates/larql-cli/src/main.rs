//! The `larql` command: one file for each command, and nothing else here but the way to it.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout)]

mod arguments;
mod commands;
mod described;
mod generation;
mod hub;
mod interrupt;
mod library;
mod output;
mod precision;
mod progress;
mod sizes;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// A model you can query.
#[derive(Parser)]
#[command(name = "larql", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start with:
  larql demo
  larql run model.gguf \"Why is the sky blue?\"
  larql extract model.gguf -o model.vindex
  larql probe model.vindex
  larql repl model.vindex

Used to other programs?
  cp, ps             models are files: copy them; larql serve keeps them loaded
  create             larql build")]
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
    Serve(commands::serve::Arguments),
    Mcp(commands::mcp::Arguments),
    Pull(commands::pull::Arguments),
    Publish(commands::publish::Arguments),
    Slice(commands::slice::Arguments),
    Show(commands::show::Arguments),
    Link(commands::link::Arguments),
    Rm(commands::rm::Arguments),
    Model(commands::model::Arguments),
    Hf(commands::hf::Arguments),
    List(commands::list::Arguments),
    Tokenize(commands::tokenize::Arguments),
    Trace(commands::trace::Arguments),
    Label(commands::label::Arguments),
    Verify(commands::verify::Arguments),
    Diag(commands::diag::Arguments),
    Parity(commands::parity::Arguments),
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
    let result = match parsed().command {
        Command::Demo(arguments) => commands::demo::run(arguments),
        Command::Extract(arguments) => commands::extract::run(arguments),
        Command::Run(arguments) => commands::run::run(arguments),
        Command::Chat(arguments) => commands::chat::run(arguments),
        Command::Lql(arguments) => commands::lql::run(arguments),
        Command::Repl(arguments) => commands::repl::run(arguments),
        Command::Serve(arguments) => commands::serve::run(arguments),
        Command::Mcp(arguments) => commands::mcp::run(arguments),
        Command::Pull(arguments) => commands::pull::run(arguments),
        Command::Publish(arguments) => commands::publish::run(arguments),
        Command::Slice(arguments) => commands::slice::run(arguments),
        Command::Show(arguments) => commands::show::run(arguments),
        Command::Link(arguments) => commands::link::run(arguments),
        Command::Rm(arguments) => commands::rm::run(arguments),
        Command::Model(arguments) => commands::model::run(arguments),
        Command::Hf(arguments) => commands::hf::run(arguments),
        Command::List(arguments) => commands::list::run(arguments),
        Command::Tokenize(arguments) => commands::tokenize::run(arguments),
        Command::Trace(arguments) => commands::trace::run(arguments),
        Command::Label(arguments) => commands::label::run(arguments),
        Command::Verify(arguments) => commands::verify::run(arguments),
        Command::Diag(arguments) => commands::diag::run(arguments),
        Command::Parity(arguments) => commands::parity::run(arguments),
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
        Err(report) if report.is::<output::ReaderGone>() => output::ReaderGone::EXIT_CODE.into(),
        Err(report) => {
            let color = output::color(&std::io::stderr());
            eprint!("{}", larql_lql::render::report(&*report, color));
            ExitCode::FAILURE
        }
    }
}

/// The command line. Negative numbers are values, which the check of their range refuses.
fn parsed() -> Cli {
    let matches = with_negative_numbers(Cli::command()).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let takes_hyphens = |argument: clap::Arg| match argument.get_action().takes_values() {
        true if !argument.is_allow_hyphen_values_set() => argument.allow_negative_numbers(true),
        _ => argument,
    };
    command.mut_args(takes_hyphens).mut_subcommands(with_negative_numbers)
}
