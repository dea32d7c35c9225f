use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use larql_inference::{Executor, HookedExecutor, StopReason};
use larql_knowledge::{GenerationOptions, LanguageModel};
use larql_models::Message;
use larql_trace::{Declaration, Intervention, Receipt};
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
  larql run smollm2.gguf \"Why is the sky blue?\"
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
    /// Run every pass with the interventions that this file declares
    #[arg(long, value_name = "FILE")]
    intervention: Option<PathBuf>,
    #[command(flatten)]
    generation: Generation,
    #[command(flatten)]
    format: ReportFormat,
}

/// The text with its figures.
#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    #[serde(flatten)]
    stats: Stats,
    #[serde(skip_serializing_if = "Option::is_none")]
    intervention: Option<Receipt>,
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
        if arguments.raw || arguments.format.is_json() || arguments.intervention.is_some() {
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
    let options = arguments.generation.options(&language, task)?;
    let token = interrupt::token()?;
    let mut stream = Stream::new(&token);
    let mut text = String::new();
    let is_json = arguments.format.is_json();
    let intervention = arguments.intervention.as_deref().map(|file| declared(&language, file)).transpose()?;
    let executor = executor(&language, &options, intervention.as_ref());
    let asked = Asked { language: &language, executor: &*executor, task, system: arguments.system, prompt };
    let generation = asked.generate(&options, |part| {
        text.push_str(part);
        match is_json {
            true if token.is_cancelled() => ControlFlow::Break(()),
            true => ControlFlow::Continue(()),
            false => stream.print(part),
        }
    })?;
    let stats = Stats::of(&generation);
    let intervention = intervention.map(|hook| hook.lock().unwrap_or_else(PoisonError::into_inner).receipt());
    if is_json {
        output::json(&Report { text: &text, stats, intervention })?;
    } else {
        stream.finish()?;
        if arguments.generation.stats {
            stats.tell();
        }
        if let Some(Receipt { digest, fired }) = intervention {
            eprintln!("intervention {digest}: rows changed by each part: {fired:?}");
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

/// Reads the interventions that a file declares, for a model.
fn declared(language: &LanguageModel, file: &Path) -> miette::Result<Arc<Mutex<Intervention>>> {
    let json = std::fs::read_to_string(file)
        .map_err(|error| miette::miette!("{} cannot be read: {error}", file.display()))?;
    let encode = |prompt: &str| language.encode(prompt, true).map_err(|error| error.to_string());
    let declaration = Declaration::from_json(&json);
    let resolved = declaration.and_then(|declaration| declaration.resolve(language.model(), &encode));
    let resolved = resolved.map_err(|error| miette::miette!("{}: {error}", file.display()))?;
    Ok(Arc::new(Mutex::new(resolved)))
}

/// Executor of the passes, with the intervention if there is one.
fn executor(
    language: &LanguageModel,
    options: &GenerationOptions,
    intervention: Option<&Arc<Mutex<Intervention>>>,
) -> Box<dyn Executor> {
    let executor = language.executor(options);
    match intervention {
        Some(intervention) => Box::new(HookedExecutor::new(executor, Arc::clone(intervention))),
        None => Box::new(executor),
    }
}

/// Prompt, with the model and the executor that answer it.
struct Asked<'a> {
    language: &'a LanguageModel,
    executor: &'a dyn Executor,
    task: Task,
    system: Option<String>,
    prompt: String,
}

impl Asked<'_> {
    fn generate(
        self,
        options: &GenerationOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> miette::Result<larql_knowledge::Generation> {
        let Asked { language, executor, task, system, prompt } = self;
        if task == Task::Complete {
            return language.complete_by(executor, &prompt, options, on_text).map_err(super::report);
        }
        let mut conversation = language.conversation().map_err(super::report)?;
        if let Some(system) = system {
            conversation.add(Message::new("system", system));
        }
        conversation.say_by(executor, &prompt, options, on_text).map_err(super::report)
    }
}

/// The argument, then the text on standard input.
fn prompt(argument: Option<&str>, piped: Option<String>) -> Option<String> {
    match (argument, piped) {
        (Some(argument), Some(piped)) => Some(format!("{argument}\n\n{piped}")),
        (argument, piped) => argument.map(str::to_owned).or(piped),
    }
}
