//! Options that several commands share.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use larql_compute::attention::KeyValueFormat;
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

/// Storage of keys and values.
#[derive(Args, Clone, Copy)]
pub(crate) struct KeyValues {
    /// Storage of keys and values
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "float")]
    key_values: KeyValuesArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum KeyValuesArgument {
    /// 16 bits; 32 where products are exact
    Float,
    /// 8 bits with a scale for each 32 numbers: about half the memory of 16; can change an answer
    #[value(name = "q8_0")]
    Q8_0,
}

impl KeyValues {
    /// The name of the storage, as the option takes it.
    pub(crate) fn name(self) -> Option<String> {
        Some(self.key_values.to_possible_value()?.get_name().to_owned())
    }

    /// The storage that was asked for.
    pub(crate) fn format(self) -> KeyValueFormat {
        match self.key_values {
            KeyValuesArgument::Float => KeyValueFormat::Float,
            KeyValuesArgument::Q8_0 => KeyValueFormat::Q8_0,
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
