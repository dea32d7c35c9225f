//! Publishing a vindex: the whole and its slices as sibling repositories, and the collections that list them.

mod card;
mod collection;
mod folder;
mod lfs;
mod titles;

pub use card::Card;
pub use collection::{Collection, CollectionItem};
pub use folder::{PublishOptions, PublishedRepo};
pub use titles::CollectionTitles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use larql_core::progress::{CancelToken, Progress};
use larql_vindex::{Component, SlicePreset, Summary, Vindex, VindexError, plan_slice, slice};
use larql_vindex_spec::Manifest;
use serde::Serialize;
use sha2::Digest;

use folder::files_of;
pub(crate) use folder::{Content, LocalFile};
use titles::ModelTitle;

use super::choice::MANIFEST;
use super::repo::MAIN;
use super::{Hub, HubError, RepoId, RepoKind, RepoName};
use crate::hub::digest::blob_of;

/// The model card.
const CARD: &str = "README.md";

/// A vindex and the repositories that it is published as.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Repository of the whole; the names of the others are made of it.
    pub repo: RepoId,
    /// True if the whole is published.
    pub full: bool,
    /// The slices that are published.
    pub presets: Vec<SlicePreset>,
    /// Name of a slice's repository, in which `{repo}` and `{preset}` stand for the others.
    pub template: String,
    /// Options of every repository; the message is completed by the name of the slice.
    pub options: PublishOptions,
    /// Title of the collection of everything; that of LARQL if absent.
    pub library_title: Option<String>,
    /// True if collections are made.
    pub collections: bool,
    /// Licence of the weights, as the hub abbreviates it.
    pub license: Option<String>,
    /// A card to be used instead of the one that is made.
    pub card: Option<Card>,
    /// Folder in which slices are cut; that of the vindex if absent, where their files can be links.
    pub staging: Option<PathBuf>,
}

/// A repository that would be published.
#[derive(Clone, Debug, Serialize)]
pub struct RepoPlan {
    /// The repository.
    pub repo: RepoId,
    /// The slice in it.
    pub preset: String,
    /// Files with their sizes in bytes.
    pub files: Vec<(String, u64)>,
}

/// Everything that would be published.
#[derive(Clone, Debug, Serialize)]
pub struct PublicationPlan {
    /// The repositories in the order in which they are published.
    pub repos: Vec<RepoPlan>,
    /// Titles of the collections.
    pub collections: Vec<String>,
}

/// Result of a publication.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    /// The repositories.
    pub repos: Vec<PublishedRepo>,
    /// The collections: title and address.
    pub collections: Vec<(String, String)>,
}

/// Failure of a publication.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum PublishError {
    /// The hub.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Hub(#[from] HubError),
    /// The vindex.
    #[error(transparent)]
    Vindex(#[from] VindexError),
}

impl Publication {
    /// The slices with their repositories, the whole first.
    pub fn repos(&self) -> Result<Vec<(SlicePreset, RepoId)>, HubError> {
        let mut repos = Vec::new();
        if self.full {
            repos.push((SlicePreset::Full, self.repo.clone()));
        }
        for preset in self.presets.iter().filter(|preset| **preset != SlicePreset::Full) {
            repos.push((*preset, sibling(&self.repo, *preset, &self.template)?));
        }
        Ok(repos)
    }

    fn title(&self, whole: &Vindex) -> ModelTitle {
        ModelTitle::of(&whole.manifest().model)
    }

    fn titles(&self, whole: &Vindex) -> CollectionTitles {
        CollectionTitles::new(&self.title(whole), self.library_title.as_deref())
    }

    /// Lists what would be published. Nothing is written, and nothing is asked of the hub.
    ///
    /// # Errors
    /// If a slice is not possible.
    pub fn plan(&self, whole: &Arc<Vindex>) -> Result<PublicationPlan, PublishError> {
        let mut plans = Vec::new();
        for (preset, repo) in self.repos()? {
            let mut files = match preset {
                SlicePreset::Full => {
                    let summary = Summary::read(whole.path())?;
                    summary.files.into_iter().map(|file| (file.name, file.bytes)).collect()
                }
                preset => plan_slice(whole, &preset.parts_of(whole)?)?.files,
            };
            files.retain(|(name, _)| name != CARD && !name.starts_with('.'));
            let card = self.card_of(whole.manifest(), whole, preset, &repo)?;
            files.push((CARD.to_owned(), card.text().len() as u64));
            files.sort();
            plans.push(RepoPlan { repo, preset: preset.to_string(), files });
        }
        let titles = self.titles(whole);
        let collections = [titles.model, titles.family, titles.library];
        Ok(PublicationPlan {
            repos: plans,
            collections: collections.into_iter().filter(|_| self.collections).collect(),
        })
    }

    fn card_of(
        &self,
        manifest: &Manifest,
        whole: &Vindex,
        preset: SlicePreset,
        repo: &RepoId,
    ) -> Result<Card, HubError> {
        if let Some(card) = &self.card {
            return Ok(card.clone());
        }
        let mut siblings = self.repos()?;
        siblings.retain(|(_, sibling)| sibling != repo);
        Ok(Card::of(manifest, preset, repo, &self.title(whole), &siblings, self.license.as_deref()))
    }
}

/// The repository of a slice.
///
/// # Errors
/// If the template makes no name.
pub fn sibling(repo: &RepoId, preset: SlicePreset, template: &str) -> Result<RepoId, HubError> {
    let name = template.replace("{repo}", repo.as_str()).replace("{preset}", preset.name());
    RepoId::new(&name)
}

impl Hub {
    /// Publishes a vindex: the whole, then each slice, then the collections. `announce` is told of each repository when it
    /// is done.
    ///
    /// # Errors
    /// If the hub refuses, or a file is not as its manifest says. What is uploaded stays, and the next attempt goes on.
    pub fn publish(
        &self,
        whole: &Arc<Vindex>,
        publication: &Publication,
        progress: &dyn Progress,
        announce: &mut dyn FnMut(&PublishedRepo),
    ) -> Result<Published, PublishError> {
        let mut repos = Vec::new();
        for (preset, repo) in publication.repos()? {
            let published = match preset {
                SlicePreset::Full => {
                    self.publish_vindex(whole.path(), whole, publication, preset, &repo, progress)?
                }
                preset => {
                    let beside = whole.path().parent().filter(|path| !path.as_os_str().is_empty());
                    let folder = publication.staging.as_deref().or(beside).unwrap_or(Path::new("."));
                    let staging = tempfile::Builder::new()
                        .prefix(".larql-slice-")
                        .tempdir_in(folder)
                        .map_err(HubError::disk(folder))?;
                    let cut = staging.path().join(preset.name());
                    slice(whole, &cut, &preset.parts_of(whole)?, progress.cancel_token())?;
                    self.publish_vindex(&cut, whole, publication, preset, &repo, progress)?
                }
            };
            announce(&published);
            repos.push(published);
        }
        let collections = match publication.collections {
            true => self.fill_collections(whole, publication, progress.cancel_token())?,
            false => Vec::new(),
        };
        Ok(Published { repos, collections })
    }

    fn publish_vindex(
        &self,
        path: &Path,
        whole: &Vindex,
        publication: &Publication,
        preset: SlicePreset,
        repo: &RepoId,
        progress: &dyn Progress,
    ) -> Result<PublishedRepo, PublishError> {
        let manifest_path = path.join(MANIFEST);
        let json = std::fs::read(&manifest_path).map_err(HubError::disk(&manifest_path))?;
        let manifest =
            Manifest::parse(&json).map_err(|source| VindexError::Manifest { path: manifest_path, source })?;
        let card = publication.card_of(&manifest, whole, preset, repo)?;
        let checksums = manifest.checksums.clone().unwrap_or_default();
        let mut files = files_of(path, &checksums)?;
        let known = |file: &LocalFile| Component::of_file(&file.path).is_some() && file.path != CARD;
        files.retain(known);
        if let Some(missing) = checksums.keys().find(|name| files.iter().all(|file| file.path != **name)) {
            return Err(VindexError::MissingFile { path: path.join(missing) }.into());
        }
        let content = card.text().as_bytes().to_vec();
        let bytes = content.len() as u64;
        files.push(LocalFile {
            path: CARD.to_owned(),
            bytes,
            content: Content::Bytes(content),
            sha256: OnceLock::new(),
        });
        let options = PublishOptions {
            message: format!("{} ({preset})", publication.options.message),
            ..publication.options.clone()
        };
        Ok(self.publish_files(repo, &files, &options, progress)?)
    }

    fn fill_collections(
        &self,
        whole: &Vindex,
        publication: &Publication,
        cancel: &CancelToken,
    ) -> Result<Vec<(String, String)>, HubError> {
        let titles = publication.titles(whole);
        let title = publication.title(whole);
        let owner = publication.repo.owner().unwrap_or_default();
        let private = publication.options.private;
        let about = [
            (&titles.model, format!("All deployment variants of {} as LARQL vindexes.", title.model)),
            (&titles.family, format!("Models of the {} family as LARQL vindexes.", title.family)),
            (&titles.library, "Models as LARQL vindexes.".to_owned()),
        ];
        let mut made: Vec<Collection> = Vec::new();
        for (collection_title, description) in about {
            let collection = self.collection_of(owner, collection_title, &description, private, cancel)?;
            match made.last() {
                None => {
                    for (preset, repo) in publication.repos()? {
                        let kind = publication.options.kind.name();
                        self.add_to_collection(&collection, repo.as_str(), kind, preset.purpose(), cancel)?;
                    }
                }
                // Each holds the one before.
                Some(inner) => {
                    self.add_to_collection(&collection, &inner.slug, "collection", &inner.title, cancel)?;
                }
            }
            made.push(collection);
        }
        let endpoint = &self.settings().endpoint;
        let address = |collection: Collection| {
            let url = format!("{endpoint}/collections/{}", collection.slug);
            (collection.title, url)
        };
        Ok(made.into_iter().map(address).collect())
    }

    /// Publishes a folder as it is.
    ///
    /// # Errors
    /// If the hub refuses.
    pub fn publish_folder(
        &self,
        folder: &Path,
        repo: &RepoId,
        options: &PublishOptions,
        progress: &dyn Progress,
    ) -> Result<PublishedRepo, HubError> {
        self.publish_files(repo, &files_of(folder, &BTreeMap::new())?, options, progress)
    }

    /// Compares a published vindex with the digests in its manifest. Only the manifest and the list of files are read.
    /// Returns the number of files that were compared.
    ///
    /// # Errors
    /// [`HubError::NotWhole`] names the first file that is missing or another one.
    pub fn check_vindex(
        &self,
        repo: &RepoId,
        kind: RepoKind,
        cancel: &CancelToken,
    ) -> Result<usize, HubError> {
        let info = self.client.info(kind, repo, MAIN, cancel)?;
        let files = self.client.tree(kind, repo, &info.commit, cancel)?;
        let not_whole = |problem: String| HubError::NotWhole { repo: repo.to_string(), problem };
        let manifest = files.iter().find(|file| file.path == MANIFEST);
        let manifest = manifest.ok_or_else(|| not_whole(format!("it has no {MANIFEST}")))?;
        let name = RepoName { kind: Some(kind), ..RepoName::of(repo.clone()) };
        let json = self.read_file(&name, &info, manifest, cancel)?;
        let parsed = Manifest::parse(&json).map_err(|error| not_whole(format!("{MANIFEST}: {error}")))?;
        let checksums = parsed.checksums.unwrap_or_default();
        for (path, sha256) in &checksums {
            let file = files.iter().find(|file| file.path == *path);
            let file = file.ok_or_else(|| not_whole(format!("{path} is missing")))?;
            let is_same = match &file.sha256 {
                Some(there) => there == sha256,
                None => {
                    let bytes = self.read_file(&name, &info, file, cancel)?;
                    let digest = sha2::Sha256::digest(&bytes);
                    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                    blob_of(&bytes) == file.blob && digest == *sha256
                }
            };
            if !is_same {
                return Err(not_whole(format!("{path} is another file")));
            }
        }
        Ok(checksums.len())
    }
}
