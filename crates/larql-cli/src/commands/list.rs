use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use larql_hub::ModelResolver;
use serde::Serialize;

use crate::arguments::ReportFormat;
use crate::described::{self, Described};
use crate::output::outln;
use crate::{hub, library, output, sizes};

/// List models that can be opened by name, or the models in a folder
///
/// A vindex, a GGUF file or a checkpoint directory in LARQL's model folder, which this command names, is opened by its
/// file name without the ending; one of the hub by OWNER/NAME once it is downloaded. `larql rm` deletes a model; nothing stays
/// loaded in the background.
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
    /// Its origin, if it was downloaded or linked.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Seconds since it was last used by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_seconds_ago: Option<u64>,
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
        let library = library::open_without_downloads()?;
        for entry in &mut entries {
            let stem = Path::new(&entry.name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            entry.used_seconds_ago = seconds_since(library.last_use(&stem));
        }
        let known = library.list().map_err(super::report)?;
        for entry in known.into_iter().filter(|entry| entry.bundled) {
            let described = entry.summary.map(|summary| Described::read(&summary.path)).transpose()?;
            let used_seconds_ago = seconds_since(entry.used);
            entries.push(Entry {
                name: entry.name,
                bundled: true,
                source: None,
                used_seconds_ago,
                described,
            });
        }
        for repo in hub::open()?.cached_repos() {
            let name = repo.id.to_string();
            let Some(path) = repo.path else {
                eprintln!("{name} is not downloaded whole, or is no model ({})", sizes::human(repo.bytes));
                continue;
            };
            match Described::read(&path) {
                Ok(described) => {
                    let used_seconds_ago = seconds_since(library.last_use(&name));
                    let source = Some(format!("hf://{name}"));
                    let described = Some(described);
                    entries.push(Entry { name, bundled: false, source, used_seconds_ago, described });
                }
                Err(error) => eprintln!("{name} cannot be read: {error}"),
            }
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
            Ok(described) => {
                let source = std::fs::read_link(&path).ok().map(|target| target.display().to_string());
                let described = Some(described);
                entries.push(Entry { name, bundled: false, source, used_seconds_ago: None, described });
            }
            Err(error) => eprintln!("{name} cannot be read: {error}"),
        }
    }
    Ok(entries)
}

/// Seconds since a time that is past.
fn seconds_since(time: Option<SystemTime>) -> Option<u64> {
    Some(SystemTime::now().duration_since(time?).ok()?.as_secs())
}

fn print(entries: &[Entry]) -> miette::Result<()> {
    let width = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0).max(4);
    let with_origin = entries.iter().any(|entry| entry.source.is_some() || entry.used_seconds_ago.is_some());
    let header =
        format!("{:<width$}  {:<11}  {:<9}  {:>9}  {:>10}", "name", "kind", "level", "size", "parameters");
    let header = if with_origin { format!("{header}  {:<9}  source", "last used") } else { header };
    outln!("{}", header.trim_end())?;
    for Entry { name, described, source, used_seconds_ago, .. } in entries {
        let (kind, level, bytes, facts) = match described {
            Some(Described::Vindex { summary, facts, .. }) => {
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
        let used = used_seconds_ago.map_or_else(String::new, |seconds| {
            format!("{} ago", larql_core::progress::rounded_time(std::time::Duration::from_secs(seconds)))
        });
        let source = source.as_deref().unwrap_or_default();
        let line = format!(
            "{name:<width$}  {kind:<11}  {level:<9}  {size:>9}  {parameters:>10}  {used:<9}  {source}"
        );
        outln!("{}", line.trim_end())?;
    }
    Ok(())
}
