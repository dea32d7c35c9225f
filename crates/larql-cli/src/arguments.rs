//! Options that several commands share.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use larql_compute::{Pool, Precision};

/// Number of threads.
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

/// Precision of products.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PrecisionArgument {
    /// Keep activations as floats
    Exact,
    /// Round activations to 8 bits, which is faster and can change an answer
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

/// Format of a command's report.
#[derive(Args, Clone, Copy)]
pub(crate) struct ReportFormat {
    /// Format of the answer
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
