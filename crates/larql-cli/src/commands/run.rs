use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_inference::StopReason;
use larql_knowledge::{GenerationOptions, LanguageModel};
use larql_models::Message;
use serde::Serialize;

use crate::arguments::ReportFormat;
use crate::generation::{Generation, Stats, Task, tell_end};
use crate::output::{self, Stream, tell_recalled};
use crate::{interrupt, library};

/// Answer a prompt, or complete it; without one, chat
///
/// A model with a chat template answers the prompt as a message; with --raw, and without a template, the text goes on.
/// Text on standard input becomes part of the prompt, after the argument. The text goes to standard output as it is
/// generated.
#[derive(Args)]
#[command(after_help = "Examples:
  larql run smollm2.gguf \"What is the capital of France?\"
  larql run smollm2.gguf --raw \"The capital of France is\"
  larql run smollm2.gguf \"Summarize this text.\" < article.txt
  larql run smollm2.vindex --patch edits.vlp --temperature 0.8 --seed 7 \"Once upon a time\"")]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file, a checkpoint directory or a model's name
    model: PathBuf,
    /// The question, or the text to go on with; without it and without standard input, `run` is `chat`
    #[arg(allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Complete the prompt as it stands, without the model's chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// System message placed before the prompt
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Lay this patch over the vindex first; may be given several times
    #[arg(long = "patch", value_name = "FILE")]
    patches: Vec<PathBuf>,
    #[command(flatten)]
    generation: Generation,
    #[command(flatten)]
    format: ReportFormat,
}

/// The text with how it came about.
#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    #[serde(flatten)]
    stats: Stats,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    // Says so if there is no such model, whatever else is missing.
    library::find(&arguments.model)?;
    let Some(prompt) = prompt(arguments.prompt.as_deref(), super::piped()?) else {
        if !std::io::stdin().is_terminal() {
            return Err(miette::miette!(
                "there is no prompt: neither an argument nor text on standard input"
            ));
        }
        if arguments.raw || arguments.format.is_json() {
            return Err(miette::miette!("there is no prompt; give one as an argument"));
        }
        let Arguments { model, system, patches, generation, .. } = arguments;
        return super::chat::run(super::chat::Arguments {
            model,
            message: None,
            system,
            patches,
            generation,
        });
    };
    let pool = arguments.generation.threads.pool();
    let language = super::open_edited_model(&arguments.model, &arguments.patches, pool)?;
    let answers = language.template().is_some() && !arguments.raw;
    let task = if answers { Task::Answer } else { Task::Complete };
    if let (Task::Complete, Some(_)) = (task, &arguments.system) {
        return Err(miette::miette!("the model has no chat template, so it takes no system message"));
    }
    let options = arguments.generation.options(&language, task);
    let token = interrupt::token()?;
    let mut stream = Stream::new(&token);
    let mut text = String::new();
    let is_json = arguments.format.is_json();
    let generation = generate(&language, task, arguments.system, &prompt, &options, |part| {
        text.push_str(part);
        match is_json {
            true if token.is_cancelled() => ControlFlow::Break(()),
            true => ControlFlow::Continue(()),
            false => stream.print(part),
        }
    })?;
    let stats = Stats::of(&generation);
    if is_json {
        output::json(&Report { text: &text, stats })?;
    } else {
        stream.finish()?;
        if arguments.generation.stats {
            stats.tell();
        }
    }
    tell_recalled(&generation);
    tell_end(&generation, &language, &options, arguments.generation.is_limited());
    if generation.tokens.is_empty() && generation.reason == StopReason::StopToken {
        eprintln!("(the model ended the text at once)");
    }
    Ok(match generation.reason {
        StopReason::Interrupted => ExitCode::from(interrupt::EXIT_CODE),
        _ => ExitCode::SUCCESS,
    })
}

fn generate(
    language: &LanguageModel,
    task: Task,
    system: Option<String>,
    prompt: &str,
    options: &GenerationOptions,
    on_text: impl FnMut(&str) -> ControlFlow<()>,
) -> miette::Result<larql_knowledge::Generation> {
    if task == Task::Complete {
        return language.complete(prompt, options, on_text).map_err(super::report);
    }
    let mut conversation = language.conversation().map_err(super::report)?;
    if let Some(system) = system {
        conversation.add(Message::new("system", system));
    }
    conversation.say(prompt, options, on_text).map_err(super::report)
}

/// The argument, then the text on standard input.
fn prompt(argument: Option<&str>, piped: Option<String>) -> Option<String> {
    match (argument, piped) {
        (Some(argument), Some(piped)) => Some(format!("{argument}\n\n{piped}")),
        (argument, piped) => argument.map(str::to_owned).or(piped),
    }
}
