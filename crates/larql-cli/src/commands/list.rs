use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use miette::IntoDiagnostic;

use crate::arguments::ReportFormat;
use crate::{library, sizes};

/// List the vindexes in a folder
#[derive(Args)]
#[command(after_help = "Example:\n  larql list ~/models")]
pub(crate) struct Arguments {
    /// The folder [default: the models in the cache]
    folder: Option<PathBuf>,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let Some(folder) = arguments.folder.or_else(library::folder) else {
        return Err(miette::miette!("this system has no cache folder; name the folder to list"));
    };
    // The cache folder does not exist before something is put there.
    let summaries = match folder.is_dir() {
        true => larql_vindex::list(&folder).map_err(super::report)?,
        false => Vec::new(),
    };
    if arguments.format.is_json() {
        println!("{}", serde_json::to_string(&summaries).into_diagnostic()?);
        return Ok(ExitCode::SUCCESS);
    }
    if summaries.is_empty() {
        eprintln!("no vindex in {}", folder.display());
    }
    for summary in summaries {
        let name = summary.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let size = sizes::human(summary.bytes());
        println!(
            "{name:<32} {:<10} {:<8} {size:>10}  {}",
            summary.level.name(),
            summary.quant.name(),
            summary.model
        );
    }
    Ok(ExitCode::SUCCESS)
}
