use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_compute::Precision;
use larql_core::progress::CancelToken;
use larql_inference::{DecodeOptions, StopReason};
use larql_knowledge::{GenerationOptions, LanguageModel, MemoryAnswer};
use larql_vindex::KnnEntry;

use crate::arguments::{PrecisionArgument, Sampling, Threads};
use crate::interrupt;

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

/// How to generate text.
#[derive(Args)]
pub(crate) struct Generation {
    /// Generate at most this many tokens
    #[arg(short = 'n', long, default_value_t = 256, value_name = "N")]
    max_tokens: usize,
    #[command(flatten)]
    sampling: Sampling,
    /// How products treat activations
    #[arg(long, value_enum, default_value = "fast")]
    precision: PrecisionArgument,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

impl Generation {
    /// The options for a model.
    pub(crate) fn options(&self, language: &LanguageModel) -> GenerationOptions {
        let decode = DecodeOptions {
            max_tokens: self.max_tokens,
            stop_tokens: language.stop_tokens().to_vec(),
            sampling: self.sampling.into(),
            alternatives: None,
        };
        GenerationOptions { decode, precision: Precision::from(self.precision) }
    }
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

/// Says which remembered edges answered in the model's place.
pub(crate) fn tell_recalled(generation: &larql_knowledge::Generation) {
    for MemoryAnswer { entry, cosine, threshold, .. } in &generation.recalled {
        let KnnEntry { entity, relation, target, layer, .. } = entry;
        eprintln!(
            "inserted edge: {relation} of {entity} → {target} (L{layer}, cosine {cosine:.2}, answers from {threshold:.2})"
        );
    }
}

/// Prints a piece of text at once, and ends the generation once `token` is cancelled.
pub(crate) fn print_unless(token: &CancelToken, text: &str) -> ControlFlow<()> {
    print!("{text}");
    // A closed pipe shows at the next print; there is nobody to tell.
    let _ = std::io::stdout().flush();
    if token.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
