use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::library;

/// Give a model a name
///
/// The name is a link in LARQL's model folder, so that the model is opened by it in every command.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  larql link /data/gemma.vindex\n  larql link /data/gemma.vindex --as gemma --force"
)]
pub(crate) struct Arguments {
    /// The vindex, GGUF file or checkpoint directory
    path: PathBuf,
    /// The name [default: that of the file without its ending]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Replace a link of the same name
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let path = library::find(&arguments.path)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let default = file.trim_end_matches(".vindex").trim_end_matches(".gguf").to_owned();
    let name = arguments.name.unwrap_or(default);
    let link = library::open()?.link(&path, &name, arguments.force)?;
    eprintln!("{name} is {} ({})", path.display(), link.display());
    Ok(ExitCode::SUCCESS)
}
