use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larql_vindex::Summary;
use miette::IntoDiagnostic;

use crate::arguments::ReportFormat;
use crate::{library, sizes};

/// Print what a vindex is: model, level, sizes by file
#[derive(Args)]
#[command(after_help = "Example:\n  larql show smollm2.vindex")]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let summary = Summary::read(&library::find(&arguments.vindex)?).map_err(super::report)?;
    if arguments.format.is_json() {
        println!("{}", serde_json::to_string(&summary).into_diagnostic()?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", summary.path.display());
    println!("  model       {} ({})", summary.model, summary.family);
    println!("  level       {}", summary.level.name());
    println!("  stored as   {}, floats {}", summary.quant.name(), summary.dtype.name());
    println!(
        "  size        {} layers, {} features, hidden {}, vocabulary {}",
        summary.layers, summary.features, summary.hidden_size, summary.vocab_size
    );
    println!("  on disk     {}", sizes::human(summary.bytes()));
    for file in &summary.files {
        let level = file.component.map_or("", |component| component.level().name());
        println!("    {:<32} {:>10}  {level}", file.name, sizes::human(file.bytes));
    }
    Ok(ExitCode::SUCCESS)
}
