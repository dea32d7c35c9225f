use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use larql_hub::{Card, HubError, Publication, PublishError, PublishOptions, PublishedRepo, RepoId, RepoKind};
use larql_vindex::{SlicePreset, Vindex, VindexError};

use super::pull::{PUBLISHED, SIBLINGS};
use crate::arguments::ReportFormat;
use crate::output::outln;
use crate::progress::Bars;
use crate::{hub, interrupt, library, output, sizes};

/// Publish a vindex and its slices on the hub
///
/// Makes a repository of the whole and one of each slice, with model cards, and collections that list them: of the model,
/// of its family, and of everything. Only files that differ are uploaded. A repository stays private until every file in it
/// has the digest that it should have. The token comes from HF_TOKEN.
#[derive(Args)]
#[command(after_help = "Examples:
  larql publish gemma.vindex --repo owner/gemma-3-4b-it-vindex --dry-run
  larql publish gemma.vindex --repo owner/gemma-3-4b-it-vindex
  larql publish gemma.vindex --repo owner/gemma-3-4b-it-vindex --slices client,server --private")]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    /// Repository of the whole, as OWNER/NAME
    #[arg(long, value_name = "OWNER/NAME", value_parser = repo_id)]
    repo: RepoId,
    /// Slices to publish, or none [default: client,attn,embed,server,browse]
    #[arg(long, value_name = "PRESETS", value_delimiter = ',')]
    slices: Vec<String>,
    /// Publish the whole
    #[arg(long, value_name = "YES", default_value_t = true, action = clap::ArgAction::Set)]
    full: bool,
    /// Publish slices alone
    #[arg(long, conflicts_with = "full")]
    no_full: bool,
    /// Name of a slice's repository
    #[arg(long, value_name = "TEMPLATE", default_value = SIBLINGS)]
    slice_repo_template: String,
    /// Title of the collection of everything
    #[arg(long, value_name = "TITLE")]
    library_title: Option<String>,
    /// Make no collections
    #[arg(long)]
    no_collections: bool,
    /// Keep repositories and collections private
    #[arg(long)]
    private: bool,
    /// Kind of the repositories: model or dataset
    #[arg(long, value_name = "KIND", default_value = "model", value_parser = repo_kind)]
    repo_type: RepoKind,
    /// Licence of the weights, as the hub abbreviates it, such as apache-2.0
    #[arg(long, value_name = "LICENCE")]
    license: Option<String>,
    /// A model card to use instead of the one that is made
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
    /// Subject of the commits
    #[arg(long, value_name = "TEXT", default_value = "Publish a vindex")]
    message: String,
    /// Leave files on the hub that the vindex does not have
    #[arg(long)]
    no_prune: bool,
    /// Upload files that the hub has already
    #[arg(long)]
    force_upload: bool,
    /// Folder in which slices are cut [default: that of the vindex, where they take no space]
    #[arg(long, value_name = "DIRECTORY")]
    tmp_dir: Option<PathBuf>,
    /// Print what would be published, and publish nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: ReportFormat,
}

/// A repository's name on the command line.
pub(super) fn repo_id(text: &str) -> Result<RepoId, String> {
    RepoId::new(text.trim_start_matches("hf://")).map_err(|error| error.to_string())
}

/// A repository's kind on the command line.
pub(super) fn repo_kind(text: &str) -> Result<RepoKind, String> {
    text.parse()
}

impl Arguments {
    fn publication(&self) -> miette::Result<Publication> {
        let presets = match &self.slices[..] {
            [] => PUBLISHED.to_vec(),
            [none] if none == "none" => Vec::new(),
            names => {
                let presets = names.iter().map(|name| name.parse::<SlicePreset>());
                presets.collect::<Result<Vec<_>, _>>().map_err(|error| miette::miette!("{error}"))?
            }
        };
        let card = self.card.as_ref().map(|path| {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
            let card = text.and_then(|text| Card::check(&text));
            card.map_err(|problem| miette::miette!("the model card {}: {problem}", path.display()))
        });
        Ok(Publication {
            repo: self.repo.clone(),
            full: self.full && !self.no_full,
            presets,
            template: self.slice_repo_template.clone(),
            options: PublishOptions {
                kind: self.repo_type,
                private: self.private,
                prune: !self.no_prune,
                force: self.force_upload,
                message: self.message.clone(),
            },
            library_title: self.library_title.clone(),
            collections: !self.no_collections,
            license: self.license.clone(),
            card: card.transpose()?,
            staging: self.tmp_dir.clone(),
        })
    }
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let publication = arguments.publication()?;
    let path = library::find(&arguments.vindex)?;
    let whole = Arc::new(Vindex::open(&path).map_err(super::report)?);
    if arguments.dry_run {
        let plan = publication.plan(&whole)?;
        if arguments.format.is_json() {
            output::json(&plan)?;
            return Ok(ExitCode::SUCCESS);
        }
        for repo in &plan.repos {
            let bytes = repo.files.iter().map(|(_, bytes)| bytes).sum();
            outln!("{} ({}): {} files, {}", repo.repo, repo.preset, repo.files.len(), sizes::human(bytes))?;
            for (name, bytes) in &repo.files {
                outln!("    {name:<36} {:>10}", sizes::human(*bytes))?;
            }
        }
        for title in &plan.collections {
            outln!("collection: {title}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let hub = hub::open()?;
    let bars = Bars::new(interrupt::token()?);
    let quiet = arguments.format.is_json();
    let mut announce = |published: &PublishedRepo| {
        bars.finish();
        if !quiet {
            tell(published);
        }
    };
    let result = hub.publish(&whole, &publication, &bars, &mut announce);
    bars.finish();
    let published = match result {
        Err(PublishError::Hub(HubError::Cancelled) | PublishError::Vindex(VindexError::Cancelled)) => {
            eprintln!("{}", HubError::Cancelled);
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
        result => result?,
    };
    if arguments.format.is_json() {
        output::json(&published)?;
        return Ok(ExitCode::SUCCESS);
    }
    published.repos.iter().try_for_each(|repo| outln!("{}", repo.url))?;
    for (title, url) in &published.collections {
        outln!("{url}  {title}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what came of a repository.
pub(super) fn tell(published: &PublishedRepo) {
    let PublishedRepo { repo, changed, unchanged, deleted, moved, private, .. } = published;
    let seen = if *private { "private" } else { "public" };
    let deleted = match deleted.len() {
        0 => String::new(),
        number => format!(", {number} deleted"),
    };
    match changed {
        0 if deleted.is_empty() => eprintln!("{repo}: unchanged, {seen}"),
        _ => eprintln!(
            "{repo}: {changed} files new or different, {unchanged} unchanged{deleted}; {} of large files uploaded; {seen}",
            sizes::human(*moved)
        ),
    }
}
