use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use larql_core::progress::{CancelToken, Progress};
use larql_hub::{Hub, HubError, Pulled, RepoName, Wanted, sibling};
use larql_vindex::SlicePreset;

use crate::arguments::ReportFormat;
use crate::output::outln;
use crate::progress::Bars;
use crate::{hub, interrupt, output, sizes};

/// Name of a slice's repository.
pub(crate) const SIBLINGS: &str = "{repo}-{preset}";
/// Slices that a model is published in unless others are named.
pub(crate) const PUBLISHED: [SlicePreset; 5] = [
    SlicePreset::Client,
    SlicePreset::Attention,
    SlicePreset::Embed,
    SlicePreset::Server,
    SlicePreset::Browse,
];

/// Download a vindex or a model from the hub
///
/// It goes to the cache that other programs for the hub share, and can then be named as OWNER/NAME in every command. What is
/// there is not downloaded again, and an interrupted download goes on. Prints the path.
#[derive(Args)]
#[command(after_help = "Examples:
  larql pull owner/gemma-3-4b-it-vindex
  larql pull owner/gemma-3-4b-it-vindex --preset client
  larql pull hf://owner/model@v1.0
  larql pull owner/models-gguf/model-q4_k_m.gguf
  larql pull owner/gemma-3-4b-it-vindex --output /models/gemma")]
pub(crate) struct Arguments {
    /// The repository: OWNER/NAME, or hf://OWNER/NAME@REVISION
    #[arg(required_unless_present = "collection")]
    model: Option<String>,
    /// The slice for a job, from the sibling repository of that name
    #[arg(long, value_name = "PRESET", conflicts_with_all = ["all_slices", "collection"])]
    preset: Option<SlicePreset>,
    /// The whole and every slice that is published
    #[arg(long, conflicts_with_all = ["collection", "output"])]
    all_slices: bool,
    /// Every model of a collection, by its address or the end of it
    #[arg(long, value_name = "COLLECTION", conflicts_with_all = ["model", "output"])]
    collection: Option<String>,
    /// Name of a slice's repository
    #[arg(long, value_name = "TEMPLATE", default_value = SIBLINGS)]
    sibling_template: String,
    /// A folder of its own to download to; nothing is done if a vindex is there
    #[arg(short, long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    #[command(flatten)]
    format: ReportFormat,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    if let Some(folder) = arguments.output.as_deref().filter(|folder| larql_vindex::Vindex::is_at(folder)) {
        eprintln!("{} is there already", folder.display());
        outln!("{}", folder.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    let hub = hub::open()?;
    let token = interrupt::token()?;
    let mut code = ExitCode::SUCCESS;
    if let Some(collection) = &arguments.collection {
        let collection = hub.collection(collection, &token)?;
        let repos = collection.repos();
        let others = collection.items.len() - repos.len();
        if others > 0 {
            eprintln!("{others} items of {} are no repositories, and are left out", collection.title);
        }
        for repo in repos {
            code = pull_or_warn(&hub, &repo, &token, arguments.format)?;
        }
        return Ok(code);
    }
    let name: RepoName = arguments.model.as_deref().unwrap_or_default().parse()?;
    if let Some(preset) = arguments.preset.filter(|preset| *preset != SlicePreset::Full) {
        let repo = RepoName { id: sibling(&name.id, preset, &arguments.sibling_template)?, ..name };
        return pull(&hub, &repo, arguments.output.as_deref(), &token, arguments.format);
    }
    code = pull(&hub, &name, arguments.output.as_deref(), &token, arguments.format)?;
    if arguments.all_slices && code == ExitCode::SUCCESS {
        for preset in SlicePreset::all().filter(|preset| *preset != SlicePreset::Full) {
            let repo =
                RepoName { id: sibling(&name.id, preset, &arguments.sibling_template)?, ..name.clone() };
            pull_or_warn(&hub, &repo, &token, arguments.format)?;
        }
    } else if code == ExitCode::SUCCESS && !arguments.format.is_json() && !hub.settings().offline {
        tell_siblings(&hub, &name, &arguments.sibling_template, &token)?;
    }
    Ok(code)
}

/// Downloads a model, and prints its path.
pub(super) fn pull(
    hub: &Hub,
    name: &RepoName,
    into: Option<&Path>,
    token: &CancelToken,
    format: ReportFormat,
) -> miette::Result<ExitCode> {
    pull_wanted(hub, name, Wanted::Model, into, token, format)
}

/// Downloads a repository, or its model alone, and prints the path.
pub(super) fn pull_wanted(
    hub: &Hub,
    name: &RepoName,
    wanted: Wanted,
    into: Option<&Path>,
    token: &CancelToken,
    format: ReportFormat,
) -> miette::Result<ExitCode> {
    let bars = Bars::new(token.clone());
    let result = hub.pull(name, wanted, into, &bars as &dyn Progress);
    bars.finish();
    match result {
        Err(HubError::Cancelled) => {
            eprintln!("{}", HubError::Cancelled);
            Ok(ExitCode::from(interrupt::EXIT_CODE))
        }
        result => tell(&result?, format),
    }
}

/// As [`pull`]; what cannot be had is said, and is no failure.
fn pull_or_warn(
    hub: &Hub,
    name: &RepoName,
    token: &CancelToken,
    format: ReportFormat,
) -> miette::Result<ExitCode> {
    match pull(hub, name, None, token, format) {
        Err(error) => {
            eprintln!("{name} is left out: {error}");
            Ok(ExitCode::SUCCESS)
        }
        code => code,
    }
}

fn tell(pulled: &Pulled, format: ReportFormat) -> miette::Result<ExitCode> {
    if format.is_json() {
        output::json(pulled)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Pulled { repo, commit, files, bytes, moved, .. } = pulled;
    let commit = commit.get(..12).unwrap_or(commit);
    match moved {
        0 => eprintln!("{repo} at {commit}: nothing to download"),
        moved => eprintln!(
            "{repo} at {commit}: {files} files, {}; {} downloaded",
            sizes::human(*bytes),
            sizes::human(*moved)
        ),
    }
    outln!("{}", pulled.path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Says which slices of a model are on the hub.
fn tell_siblings(hub: &Hub, name: &RepoName, template: &str, token: &CancelToken) -> miette::Result<()> {
    let mut lines = Vec::new();
    for preset in PUBLISHED {
        let Ok(repo) = sibling(&name.id, preset, template) else { continue };
        if hub.exists(&RepoName { id: repo.clone(), kind: None, revision: None, file: None }, token) {
            lines.push(format!("  --preset {:<8} hf://{repo}", preset.name()));
        }
    }
    if !lines.is_empty() {
        eprintln!("Also on the hub:\n{}", lines.join("\n"));
    }
    Ok(())
}
