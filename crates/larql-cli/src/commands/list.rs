use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_hub::{LibraryEntry, ModelResolver};
use miette::IntoDiagnostic;

use crate::arguments::ReportFormat;
use crate::{library, sizes};

/// List the models that a name opens, or the vindexes in a folder
#[derive(Args)]
#[command(after_help = "Examples:\n  larql list\n  larql list ~/models")]
pub(crate) struct Arguments {
    /// The folder [default: the models in the cache]
    folder: Option<PathBuf>,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let entries = match &arguments.folder {
        Some(folder) => {
            larql_vindex::list(folder).map(|found| found.into_iter().map(LibraryEntry::of).collect())
        }
        None => library::open().list(),
    };
    let entries: Vec<LibraryEntry> = entries.map_err(super::report)?;
    if arguments.format.is_json() {
        println!("{}", serde_json::to_string(&entries).into_diagnostic()?);
        return Ok(ExitCode::SUCCESS);
    }
    if let (true, Some(folder)) = (entries.is_empty(), &arguments.folder) {
        eprintln!("no vindex in {}", folder.display());
    }
    for entry in entries {
        match entry.summary {
            Some(summary) => {
                let size = sizes::human(summary.bytes());
                let (level, quant) = (summary.level.name(), summary.quant.name());
                println!("{:<32} {level:<10} {quant:<8} {size:>10}  {}", entry.name, summary.model);
            }
            None => println!("{:<32} comes with LARQL", entry.name),
        }
    }
    Ok(ExitCode::SUCCESS)
}
