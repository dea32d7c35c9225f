//! Options that several commands share.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use larql_compute::{Pool, Precision};
use larql_inference::{DecodeOptions, SamplingOptions};
use larql_knowledge::{GenerationOptions, LanguageModel};

/// How many threads to use.
#[derive(Args, Clone, Copy)]
pub(crate) struct Threads {
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Threads {
    /// The pool that was asked for.
    pub(crate) fn pool(self) -> Arc<Pool> {
        Arc::new(self.threads.map_or_else(Pool::for_this_machine, |threads| Pool::new(threads.into())))
    }
}

/// How exactly to compute.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PrecisionArgument {
    /// Float activations
    Exact,
    /// 8-bit activations against block weights
    Fast,
}

impl From<PrecisionArgument> for Precision {
    fn from(argument: PrecisionArgument) -> Self {
        match argument {
            PrecisionArgument::Exact => Precision::Exact,
            PrecisionArgument::Fast => Precision::Fast,
        }
    }
}

/// How to print what a command found out.
#[derive(Args, Clone, Copy)]
pub(crate) struct ReportFormat {
    /// How to print the answer
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormatArgument,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormatArgument {
    /// For people
    Table,
    /// For programs
    Json,
}

impl ReportFormat {
    pub(crate) fn is_json(self) -> bool {
        self.format == ReportFormatArgument::Json
    }
}

/// How to choose the next token.
#[derive(Args, Clone, Copy)]
pub(crate) struct Sampling {
    /// Randomness of the choice; 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Choose among the K likeliest tokens only; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Choose among the likeliest tokens that have this probability together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Choose among tokens at least this many times as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Make tokens that occurred before less likely; 1 changes nothing
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Seed of the random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl From<Sampling> for SamplingOptions {
    fn from(sampling: Sampling) -> Self {
        SamplingOptions {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            seed: sampling.seed,
            ..SamplingOptions::default()
        }
    }
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
