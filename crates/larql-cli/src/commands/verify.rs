use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_vindex::{FileState, VindexError};
use miette::IntoDiagnostic;

use crate::arguments::ReportFormat;
use crate::progress::Bars;
use crate::{interrupt, library};

/// Compare every file of a vindex with its checksum
///
/// Names each file that is missing or differs, and exits with 1 if there is one.
#[derive(Args)]
#[command(after_help = "Example:\n  larql verify smollm2.vindex")]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let vindex = library::find(&arguments.vindex)?;
    let bars = Bars::new(interrupt::token()?);
    let result = larql_vindex::verify(&vindex, &bars);
    bars.finish();
    let report = match result {
        Err(VindexError::Cancelled) => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
        result => result.map_err(super::report)?,
    };
    if arguments.format.is_json() {
        println!("{}", serde_json::to_string(&report).into_diagnostic()?);
    } else {
        for file in &report.files {
            let state = match &file.state {
                FileState::Sound => "sound",
                FileState::Changed { .. } => "CHANGED",
                FileState::Missing => "MISSING",
                FileState::Unchecked => "no checksum",
            };
            println!("{:<36} {state}", file.name);
        }
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
