use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_vindex::{FileReport, FileState, VindexError};

use crate::arguments::ReportFormat;
use crate::output;
use crate::output::outln;
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
        output::json(&report)?;
    } else {
        print(&report.files)?;
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(files: &[FileReport]) -> miette::Result<()> {
    let width = files.iter().map(|file| file.name.len()).max().unwrap_or(0);
    for file in files {
        let state = match &file.state {
            FileState::Sound => "matches",
            FileState::Changed { .. } => "CHANGED",
            FileState::Missing => "MISSING",
            FileState::Unchecked => "no checksum",
        };
        outln!("{:<width$}  {state}", file.name)?;
    }
    let count = |is: fn(&FileState) -> bool| files.iter().filter(|file| is(&file.state)).count();
    let matching = count(|state| matches!(state, FileState::Sound));
    let unchecked = count(|state| matches!(state, FileState::Unchecked));
    let wrong = files.len() - matching - unchecked;
    let verdict = match wrong {
        0 => format!("all {matching} files with a checksum match it"),
        wrong => format!("{wrong} of {} files with a checksum changed or are missing", matching + wrong),
    };
    let rest = match unchecked {
        0 => String::new(),
        unchecked => format!("; {unchecked} have none, as labels and probe results change after extraction"),
    };
    outln!("{verdict}{rest}")
}
