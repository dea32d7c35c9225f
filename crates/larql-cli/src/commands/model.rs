use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::arguments::ReportFormat;
use crate::{hub, interrupt};

/// Download models as their makers publish them
#[derive(Args)]
#[command(after_help = "Example:\n  larql model pull owner/name")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Download the weights, the tokenizer and the configuration of a model
    Pull {
        /// The repository: OWNER/NAME, or hf://OWNER/NAME@REVISION
        model: String,
        /// A folder of its own [default: the cache]
        #[arg(short, long, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
        #[command(flatten)]
        format: ReportFormat,
    },
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let Action::Pull { model, output, format } = arguments.action;
    super::pull::pull(&*hub::open()?, &model.parse()?, output.as_deref(), &interrupt::token()?, format)
}
