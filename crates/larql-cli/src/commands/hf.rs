use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use larql_hub::{HubError, PublishOptions, RepoId, RepoKind, RepoName, Wanted};

use super::publish::{repo_id, repo_kind};
use crate::arguments::ReportFormat;
use crate::output::outln;
use crate::progress::Bars;
use crate::{hub, interrupt, output};

/// Move repositories of the hub as they are, and set who sees them
#[derive(Args)]
#[command(after_help = "Examples:
  larql hf download owner/name -o folder
  larql hf publish folder --repo owner/name --private
  larql hf visibility owner/name --public")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Download every file of a repository
    Download {
        /// The repository: OWNER/NAME
        repo: String,
        /// A folder of its own [default: the cache]
        #[arg(short, long, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
        /// Branch, tag or commit
        #[arg(long, value_name = "REVISION")]
        revision: Option<String>,
        #[command(flatten)]
        format: ReportFormat,
    },
    /// Publish a folder as it is
    Publish {
        /// The folder
        folder: PathBuf,
        /// The repository
        #[arg(long, value_name = "OWNER/NAME", value_parser = repo_id)]
        repo: RepoId,
        /// Keep the repository private
        #[arg(long)]
        private: bool,
        /// Kind of the repository: model or dataset
        #[arg(long, value_name = "KIND", default_value = "model", value_parser = repo_kind)]
        repo_type: RepoKind,
        /// Subject of the commit
        #[arg(long, value_name = "TEXT", default_value = "Publish a folder")]
        message: String,
        /// Delete files on the hub that the folder does not have
        #[arg(long)]
        prune: bool,
        #[command(flatten)]
        format: ReportFormat,
    },
    /// Show a repository to everybody, or to its owner alone
    ///
    /// Before a vindex becomes public, the digests of its files on the hub are compared with those in its manifest.
    Visibility {
        /// The repository
        #[arg(value_parser = repo_id)]
        repo: RepoId,
        /// Show it to everybody
        #[arg(long, required_unless_present = "private", conflicts_with = "private")]
        public: bool,
        /// Show it to its owner alone
        #[arg(long)]
        private: bool,
        /// Kind of the repository: model or dataset
        #[arg(long, value_name = "KIND", default_value = "model", value_parser = repo_kind)]
        repo_type: RepoKind,
    },
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let hub = hub::open()?;
    let token = interrupt::token()?;
    match arguments.action {
        Action::Download { repo, output, revision, format } => {
            let name: RepoName = repo.parse()?;
            let name = RepoName { revision: revision.or(name.revision.clone()), ..name };
            super::pull::pull_wanted(&hub, &name, Wanted::Everything, output.as_deref(), &token, format)
        }
        Action::Publish { folder, repo, private, repo_type, message, prune, format } => {
            let options = PublishOptions { kind: repo_type, private, prune, force: false, message };
            let bars = Bars::new(token);
            let result = hub.publish_folder(&folder, &repo, &options, &bars);
            bars.finish();
            let published = result?;
            if format.is_json() {
                output::json(&published)?;
            } else {
                super::publish::tell(&published);
                outln!("{}", published.url)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Visibility { repo, public, private: _, repo_type } => {
            if public {
                match hub.check_vindex(&repo, repo_type, &token) {
                    Ok(files) => eprintln!("{files} files have the digests of the manifest"),
                    Err(HubError::NotWhole { problem, .. }) if problem == "it has no index.json" => {}
                    Err(error) => return Err(error.into()),
                }
            }
            hub.set_visibility(&repo, repo_type, !public, &token)?;
            eprintln!("{repo} is {}", if public { "public" } else { "private" });
            Ok(ExitCode::SUCCESS)
        }
    }
}
