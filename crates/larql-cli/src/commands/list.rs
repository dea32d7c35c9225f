use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use larql_hub::ModelResolver;
use serde::Serialize;

use crate::arguments::ReportFormat;
use crate::described::{self, Described};
use crate::output::outln;
use crate::{library, output, sizes};

/// List models that can be opened by name, or the models in a folder
///
/// A vindex, a GGUF file or a checkpoint directory in LARQL's model folder, which this command names, is opened by its
/// file name without the ending. Delete the file to remove it; nothing stays loaded in the background.
#[derive(Args)]
#[command(after_help = "Examples:\n  larql list\n  larql list ~/models")]
pub(crate) struct Arguments {
    /// The folder [default: LARQL's model folder, and the models that come with LARQL]
    folder: Option<PathBuf>,
    #[command(flatten)]
    format: ReportFormat,
}

/// A model in the list.
#[derive(Serialize)]
struct Entry {
    name: String,
    /// True if it comes with LARQL.
    bundled: bool,
    #[serde(flatten)]
    described: Option<Described>,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let by_name = library::folder();
    let folder = arguments.folder.as_deref();
    let mut entries = match folder.or(by_name.as_deref().filter(|folder| folder.is_dir())) {
        Some(folder) => in_folder(folder)?,
        None => Vec::new(),
    };
    if folder.is_none() {
        let bundled =
            library::open()?.list().map_err(super::report)?.into_iter().filter(|entry| entry.bundled);
        for entry in bundled {
            let described = entry.summary.map(|summary| Described::read(&summary.path)).transpose()?;
            entries.push(Entry { name: entry.name, bundled: true, described });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
    }
    if arguments.format.is_json() {
        output::json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    match (entries.is_empty(), folder) {
        (true, Some(folder)) => {
            eprintln!("no vindex, GGUF file or checkpoint directory lies in {}", folder.display());
        }
        _ => print(&entries)?,
    }
    if let (None, Some(by_name)) = (folder, by_name) {
        eprintln!("Models in {} have a name.", by_name.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn in_folder(folder: &Path) -> miette::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (path, described) in described::in_folder(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match described {
            Ok(described) => entries.push(Entry { name, bundled: false, described: Some(described) }),
            Err(error) => eprintln!("{name} cannot be read: {error}"),
        }
    }
    Ok(entries)
}

fn print(entries: &[Entry]) -> miette::Result<()> {
    let width = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0).max(4);
    outln!("{:<width$}  {:<11}  {:<9}  {:>9}  {:>10}", "name", "kind", "level", "size", "parameters")?;
    for Entry { name, described, .. } in entries {
        let (kind, level, bytes, facts) = match described {
            Some(Described::Vindex { summary, facts }) => {
                ("vindex", summary.level.name(), summary.bytes(), facts)
            }
            Some(Described::Model(model)) => (model.format, "", model.bytes, &model.facts),
            Some(Described::Patch(_)) => continue,
            None => {
                outln!("{name:<width$}  comes with LARQL")?;
                continue;
            }
        };
        let (size, parameters) = (sizes::human(bytes), sizes::count(facts.parameters));
        outln!("{name:<width$}  {kind:<11}  {level:<9}  {size:>9}  {parameters:>10}")?;
    }
    Ok(())
}
