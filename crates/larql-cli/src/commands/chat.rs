use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use larql_models::Message;
use miette::IntoDiagnostic;

use crate::arguments::Generation;
use crate::interrupt;
use crate::output::{print_unless, tell_recalled};

/// Talk with a model, using its own chat template
///
/// Each line is a message. Ctrl-C stops an answer, Ctrl-D or `/bye` ends the chat.
#[derive(Args)]
#[command(after_help = "Examples:
  larql chat smollm2.gguf
  echo \"Name three colours.\" | larql chat smollm2.gguf --system \"Answer in one line.\"")]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file, a checkpoint directory or a model's name
    model: PathBuf,
    /// What the model is told about itself first
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    generation: Generation,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    chat(&arguments.model, &arguments.generation, arguments.system.as_deref())
}

/// The chat loop.
pub(crate) fn chat(model: &Path, generation: &Generation, system: Option<&str>) -> miette::Result<ExitCode> {
    let language = super::open_language_model(model, generation.threads.pool())?;
    let options = generation.options(&language);
    let mut conversation = language.conversation().map_err(super::report)?;
    if let Some(system) = system {
        conversation.add(Message::new("system", system));
    }
    let token = interrupt::token()?;
    let stdin = std::io::stdin();
    let prompting = stdin.is_terminal();
    for line in prompted_lines(stdin.lock(), prompting) {
        let line = line.into_diagnostic()?;
        match line.trim() {
            "" => continue,
            "/bye" => break,
            text => {
                token.reset();
                let generation = conversation
                    .say(text, &options, |part| print_unless(&token, part))
                    .map_err(super::report)?;
                println!();
                tell_recalled(&generation);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lines of `input`, each after a prompt on the terminal.
fn prompted_lines(input: impl BufRead, prompting: bool) -> impl Iterator<Item = std::io::Result<String>> {
    let mut lines = input.lines();
    std::iter::from_fn(move || {
        if prompting {
            eprint!(">>> ");
            // Without a terminal there is nobody to prompt.
            let _ = std::io::stderr().flush();
        }
        lines.next()
    })
}
