//! `larql chat`: its arguments, and where messages come from.

mod command;
mod settings;
mod talk;

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_models::Message;
use larql_repl::{Line, LineReader};
use miette::IntoDiagnostic;

use crate::generation::{Generation, Task};
use crate::{interrupt, library, output};
use talk::{Flow, Talk};

/// Marks around a message of several lines.
const BLOCK: &str = "\"\"\"";

/// Talk with a model, using its own chat template
///
/// Each line is a message; one of several lines stands between \"\"\" and \"\"\". `/help` lists the commands of the chat.
/// Ctrl-C stops an answer, Ctrl-D or `/bye` ends the chat. Where the context is full, the oldest turns are left out.
#[derive(Args)]
#[command(after_help = "Examples:
  larql chat smollm2.gguf
  echo \"Name three colours.\" | larql chat smollm2.gguf --system \"Answer in one line.\"")]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file, a checkpoint directory or a model's name
    pub(crate) model: PathBuf,
    /// The first message
    #[arg(allow_hyphen_values = true)]
    pub(crate) message: Option<String>,
    /// System message placed before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Lay this patch over the vindex first; may be given several times
    #[arg(long = "patch", value_name = "FILE")]
    pub(crate) patches: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) generation: Generation,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let Arguments { model, message, system, patches, generation } = arguments;
    let language = super::open_edited_model(&model, &patches, generation.threads.pool())?;
    let options = generation.options(&language, Task::Answer)?;
    let mut conversation = language.conversation().map_err(super::report)?;
    if let Some(system) = system {
        conversation.add(Message::new("system", system));
    }
    let token = interrupt::token()?;
    let mut talk = Talk::new(language, conversation, options, &generation, token);
    if let Some(message) = message {
        talk.say(&message)?;
    }
    let stdin = std::io::stdin();
    match stdin.is_terminal() && !output::is_dumb() {
        true => at_terminal(&mut talk, &model.display().to_string()),
        false => from_lines(&mut talk, stdin.lock()),
    }
}

/// True if `text` has no block that goes on.
fn is_whole(text: &str) -> bool {
    text.matches(BLOCK).count().is_multiple_of(2)
}

fn at_terminal(talk: &mut Talk, model: &str) -> miette::Result<ExitCode> {
    eprintln!("Chat with {model}. /help lists commands, Ctrl-D ends the chat.");
    let history = library::history_file("chat_history.txt")?;
    let color = output::color(&std::io::stdout());
    let mut reader = LineReader::plain(">>> ", is_whole, history, color);
    loop {
        match reader.read().into_diagnostic()? {
            Line::Text(text) => {
                if talk.submit(&text)? == Flow::End {
                    break;
                }
            }
            Line::Dropped => eprintln!("(/bye or Ctrl-D ends the chat)"),
            Line::End => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the messages and commands of a file or pipe; a wrong command makes the chat fail at its end.
fn from_lines(talk: &mut Talk, lines: impl BufRead) -> miette::Result<ExitCode> {
    let mut text = String::new();
    let mut failed = false;
    let mut submit = |text: String| {
        let flow = talk.submit(&text)?;
        failed |= flow == Flow::Failed;
        Ok::<_, miette::Report>(flow)
    };
    for line in lines.lines() {
        text.push_str(&line.into_diagnostic()?);
        if is_whole(&text) {
            if submit(std::mem::take(&mut text))? == Flow::End {
                break;
            }
        } else {
            text.push('\n');
        }
    }
    submit(text)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
