use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_vindex::{SlicePart, SliceParts, SlicePreset, Vindex, VindexError};

use crate::arguments::ReportFormat;
use crate::output::outln;
use crate::progress::Bars;
use crate::{interrupt, library, output, sizes};

/// Cut a vindex for one job out of a whole one
///
/// Files whose parts are all kept become links to the whole's, which take no space on disk. `larql show` lists what a slice
/// holds, and a slice says what it lacks when it is asked for more.
#[derive(Args)]
#[command(after_help = "Presets:
  client         embeddings, attention and output head: the residual stream
  attn           attention alone
  embed          embeddings and output head
  server         feed-forward weights: DESCRIBE, WALK, and steps for a client
  browse         gate rows and top tokens: DESCRIBE, WALK, SELECT
  router         routers of a mixture
  expert-server  experts of a mixture
  full           everything

Examples:
  larql slice gemma.vindex -o gemma-client.vindex --preset client
  larql slice gemma.vindex -o searched.vindex --parts embed,gate,down_meta,tokenizer --dry-run")]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    /// The slice
    #[arg(short, long, value_name = "DIRECTORY")]
    output: PathBuf,
    /// The job that the slice is for
    #[arg(long, value_name = "PRESET", required_unless_present = "parts")]
    preset: Option<SlicePreset>,
    /// The parts to keep, instead of a preset's
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    parts: Vec<SlicePart>,
    /// Replace a vindex of the same name
    #[arg(long)]
    force: bool,
    /// Print the files and their sizes, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let path = library::find(&arguments.vindex)?;
    let whole = Arc::new(Vindex::open(&path).map_err(super::report)?);
    let parts = match (&arguments.parts[..], arguments.preset) {
        ([], Some(preset)) => preset.parts_of(&whole).map_err(super::report)?,
        (parts, _) => parts.iter().copied().collect::<SliceParts>(),
    };
    if arguments.dry_run {
        let plan = larql_vindex::plan_slice(&whole, &parts).map_err(super::report)?;
        if arguments.format.is_json() {
            output::json(&plan)?;
            return Ok(ExitCode::SUCCESS);
        }
        for (name, bytes) in &plan.files {
            outln!("{name:<36} {:>10}", sizes::human(*bytes))?;
        }
        outln!("{:<36} {:>10}", format!("{} files", plan.files.len()), sizes::human(plan.bytes()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.force && Vindex::is_at(&arguments.output) {
        let output = &arguments.output;
        std::fs::remove_dir_all(output).map_err(|error| miette::miette!("{}: {error}", output.display()))?;
    }
    let bars = Bars::new(interrupt::token()?);
    let result = larql_vindex::slice(&whole, &arguments.output, &parts, &bars);
    bars.finish();
    let report = match result {
        Err(VindexError::Cancelled) => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
        result => result.map_err(super::report)?,
    };
    if arguments.format.is_json() {
        output::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = report.files.iter().map(|(_, bytes)| bytes).sum();
    eprintln!(
        "{}: {} files, {}; {} of them are links",
        arguments.output.display(),
        report.files.len(),
        sizes::human(bytes),
        report.kept
    );
    Ok(ExitCode::SUCCESS)
}
