//! Options of generating text, and how a text ended.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use larql_compute::Precision;
use larql_inference::{DecodeOptions, SamplingOptions, StopReason};
use larql_knowledge::{Drafts, GenerationOptions, LanguageModel};
use larql_lql::render::duration;
use serde::Serialize;

use crate::arguments::{KeyValues, PrecisionArgument, Threads};
use crate::commands;

/// Tokens of a text without `-n`.
const MAX_TOKENS: usize = 256;

/// Choice of the next token.
#[derive(Args, Clone)]
pub(crate) struct Sampling {
    /// Randomness of the choice; 0 always takes the likeliest token [default: 0 to complete, 0.2 to answer]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Choose among the K likeliest tokens only; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Choose among the likeliest tokens that have this probability together [default: 1 to complete, 0.9 to answer]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Choose among tokens at least this many times as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Divide the logits of tokens that occurred before; 1 changes nothing [default: 1 to complete, 1.1 to answer]
    #[arg(long, value_name = "X", alias = "repetition-penalty")]
    repeat_penalty: Option<f32>,
    /// Lower the logits of tokens that the answer has, by this amount
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    presence_penalty: f32,
    /// Lower the logits of tokens that the answer has, by this amount each time
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    frequency_penalty: f32,
    /// Add a number to the logit of a token id, as in 42=-5; may be given several times
    #[arg(long, value_name = "ID=X", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Seed of the random choice
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..))]
    seed: u64,
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let parsed = text.split_once('=').and_then(|(id, amount)| Some((id.parse().ok()?, amount.parse().ok()?)));
    parsed.ok_or_else(|| "expected a token id, =, and an amount, as in 42=-5".to_owned())
}

/// Kind of text that is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// A text goes on. The likeliest tokens are taken, so that the same prompt gives the same text.
    Complete,
    /// A message is answered. Small models repeat themselves where the likeliest tokens are taken.
    Answer,
}

impl Sampling {
    fn options(&self, task: Task) -> SamplingOptions {
        let default = |complete: f32, answer: f32| if task == Task::Complete { complete } else { answer };
        SamplingOptions {
            temperature: self.temperature.unwrap_or(default(0.0, 0.2)),
            top_k: self.top_k as usize,
            top_p: self.top_p.unwrap_or(default(1.0, 0.9)),
            min_p: self.min_p,
            repetition_penalty: self.repeat_penalty.unwrap_or(default(1.0, 1.1)),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.clone(),
            seed: self.seed,
        }
    }
}

/// Options of generating text.
#[derive(Args, Clone)]
pub(crate) struct Generation {
    /// Generate at most this many tokens [default: 256]
    #[arg(short = 'n', long, value_name = "N")]
    max_tokens: Option<u32>,
    /// End the text before this text; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Tokens that prompt and text may have together [default: the model's context length]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    #[command(flatten)]
    sampling: Sampling,
    /// Arithmetic of products with quantized weights
    #[arg(long, value_enum, default_value = "fast")]
    precision: PrecisionArgument,
    #[command(flatten)]
    key_values: KeyValues,
    /// Let this smaller model of the same vocabulary draft tokens; the text stays the same [default: look up what
    /// followed in the prompt and the text, while that pays]
    #[arg(long, value_name = "MODEL", conflicts_with = "no_draft")]
    draft: Option<PathBuf>,
    /// Run one token after the other, without drafts
    #[arg(long)]
    no_draft: bool,
    /// Print how many tokens ran, and how fast
    #[arg(long)]
    pub(crate) stats: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

impl Generation {
    /// Options for a model.
    ///
    /// # Errors
    /// If the draft model cannot be opened or has another vocabulary.
    pub(crate) fn options(&self, language: &LanguageModel, task: Task) -> miette::Result<GenerationOptions> {
        let decode = DecodeOptions {
            max_tokens: self.max_tokens.map_or(MAX_TOKENS, |tokens| tokens as usize),
            stop_tokens: language.stop_tokens().to_vec(),
            sampling: self.sampling.options(task),
            alternatives: None,
        };
        let precision = Precision::from(self.precision);
        let mut options = GenerationOptions::new(decode, precision);
        options.key_values = self.key_values.format();
        options.stop_texts.clone_from(&self.stop);
        options.context = self.context.map(|tokens| tokens as usize);
        if self.no_draft {
            options.drafts = Drafts::Off;
        }
        if let Some(draft) = &self.draft {
            let draft = commands::open_edited_model(draft, &[], Arc::clone(language.model().pool()))?;
            options.drafts = language.drafts_by(&draft, precision).map_err(commands::report)?;
        }
        Ok(options)
    }

    /// True if the greatest number of tokens was given.
    pub(crate) fn is_limited(&self) -> bool {
        self.max_tokens.is_some()
    }
}

/// Counts and times of a generated text.
#[derive(Serialize)]
pub(crate) struct Stats {
    prompt_tokens: usize,
    cached_tokens: usize,
    tokens: usize,
    /// Reason for which the text ended.
    reason: &'static str,
    prompt_seconds: f64,
    seconds: f64,
    /// Tokens that were drafted, and those of them that were accepted.
    drafted_tokens: usize,
    accepted_tokens: usize,
}

impl Stats {
    pub(crate) fn of(generation: &larql_knowledge::Generation) -> Stats {
        let larql_knowledge::Generation { tokens, prompt, cached, reason, prefill, decode, .. } = generation;
        let reason = match reason {
            StopReason::StopToken => "stop_token",
            StopReason::StopText => "stop_text",
            StopReason::MaxTokens => "max_tokens",
            StopReason::ContextFull => "context_full",
            StopReason::Interrupted => "interrupted",
            _ => "complete",
        };
        let (prompt_seconds, seconds) = (prefill.as_secs_f64(), decode.as_secs_f64());
        let (prompt_tokens, cached_tokens, tokens) = (*prompt, *cached, tokens.len());
        let (drafted_tokens, accepted_tokens) = (generation.drafted, generation.accepted);
        Stats {
            prompt_tokens,
            cached_tokens,
            tokens,
            reason,
            prompt_seconds,
            seconds,
            drafted_tokens,
            accepted_tokens,
        }
    }

    /// Prints the counts and rates to standard error.
    pub(crate) fn tell(&self) {
        let rate = |tokens: usize, seconds: f64| match seconds > 0.0 {
            true => format!("{:>8.1} tokens/s", tokens as f64 / seconds),
            false => String::new(),
        };
        let ran = self.prompt_tokens - self.cached_tokens;
        let cached = match self.cached_tokens {
            0 => String::new(),
            cached => format!(", {cached} more were cached"),
        };
        let line = |name, tokens, seconds| {
            format!("{name:<7} {tokens:>6} tokens {:>9} {}", duration(seconds), rate(tokens, seconds))
        };
        eprintln!("{}{cached}", line("prompt", ran, self.prompt_seconds));
        let drafts = match self.drafted_tokens {
            0 => String::new(),
            drafted => format!(", {} of {drafted} drafted tokens accepted", self.accepted_tokens),
        };
        eprintln!("{}{drafts}", line("text", self.tokens, self.seconds));
    }
}

/// Says on standard error if a text ended before its end.
pub(crate) fn tell_end(
    generation: &larql_knowledge::Generation,
    language: &LanguageModel,
    options: &GenerationOptions,
    limited: bool,
) {
    match generation.reason {
        StopReason::MaxTokens if !limited => {
            eprintln!("(stopped at {} tokens; -n N for more)", options.decode.max_tokens);
        }
        StopReason::ContextFull => {
            let context = language.context(options);
            let more = match language.model().spec().learned_positions {
                true => "",
                false => "; --context N for more",
            };
            eprintln!("(stopped: prompt and text fill the context of {context} tokens{more})");
        }
        _ => {}
    }
}
