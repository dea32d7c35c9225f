use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_inference::StopReason;

use crate::arguments::Generation;
use crate::interrupt;
use crate::output::{print_unless, tell_recalled};

/// Complete a prompt; without one, chat
///
/// Text goes to standard output as it is generated.
#[derive(Args)]
#[command(after_help = "Examples:
  larql run smollm2.gguf \"The capital of France is\"
  larql run smollm2.vindex --temperature 0.8 --seed 7 \"Once upon a time\"")]
pub(crate) struct Arguments {
    /// A vindex, a GGUF file, a checkpoint directory or a model's name
    model: PathBuf,
    /// The text to go on with; without it, `run` is `chat`
    prompt: Option<String>,
    #[command(flatten)]
    pub(crate) generation: Generation,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let Some(prompt) = arguments.prompt else {
        return super::chat::chat(&arguments.model, &arguments.generation, None);
    };
    let language = super::open_language_model(&arguments.model, arguments.generation.threads.pool())?;
    let options = arguments.generation.options(&language);
    let token = interrupt::token()?;
    let generation =
        language.complete(&prompt, &options, |text| print_unless(&token, text)).map_err(super::report)?;
    println!();
    tell_recalled(&generation);
    Ok(match generation.reason {
        StopReason::Interrupted => ExitCode::from(interrupt::EXIT_CODE),
        _ => ExitCode::SUCCESS,
    })
}
