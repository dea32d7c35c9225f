//! Repositories that are on this machine, in the cache.

use std::collections::BTreeSet;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::cache::{RepoCache, open_lock, repos};
use super::choice::{MANIFEST, choose};
use super::reading::RemoteFile;
use super::repo::MAIN;
use super::{Hub, HubError, RepoId, RepoKind, RepoName};

/// A repository in the cache.
#[derive(Clone, Debug, Serialize)]
pub struct CachedRepo {
    /// Its name.
    pub id: RepoId,
    /// Its kind.
    pub kind: RepoKind,
    /// The commit of the main branch, if that is here.
    pub commit: Option<String>,
    /// The vindex, checkpoint or GGUF file of the main branch, if all of it is here.
    pub path: Option<PathBuf>,
    /// Bytes on disk, of all revisions.
    pub bytes: u64,
    /// Time of the last download of something of it.
    #[serde(skip)]
    pub changed: Option<SystemTime>,
}

/// Result of removing a repository from the cache.
#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    /// The folder.
    pub path: PathBuf,
    /// Bytes that it had.
    pub bytes: u64,
}

impl Hub {
    /// Returns the vindex, checkpoint or file of a name in the cache, if all of it is there. Asks nothing of the hub.
    pub fn cached(&self, name: &RepoName) -> Option<PathBuf> {
        let kinds = name.kind.map_or(RepoKind::ALL.to_vec(), |kind| vec![kind]);
        kinds.into_iter().find_map(|kind| self.cached_as(kind, name))
    }

    fn cached_as(&self, kind: RepoKind, name: &RepoName) -> Option<PathBuf> {
        let cache = RepoCache::new(self.settings().cache.as_deref()?, kind, &name.id);
        let commit = cache.commit(name.revision())?;
        let snapshot = cache.snapshot(&commit);
        // The official client keeps no list after single files.
        let files = cache.tree(&commit).unwrap_or_else(|| listed(&snapshot));
        let choice = choose(name, &files, &self.settings().endpoint).ok()?;
        let is_whole = !choice.files.is_empty() && choice.files.iter().all(|file| cache.has(&commit, file));
        let path = choice.opens.map_or(snapshot.clone(), |file| snapshot.join(file));
        is_whole.then_some(path)
    }

    /// Lists the repositories in the cache.
    pub fn cached_repos(&self) -> Vec<CachedRepo> {
        let Some(root) = &self.settings().cache else { return Vec::new() };
        let repos = repos(root).into_iter();
        repos
            .map(|(kind, id)| {
                let cache = RepoCache::new(root, kind, &id);
                let (bytes, changed) = size_of(&cache.folder().join("blobs"));
                let name = RepoName { kind: Some(kind), ..RepoName::of(id.clone()) };
                CachedRepo { path: self.cached(&name), commit: cache.commit(MAIN), id, kind, bytes, changed }
            })
            .collect()
    }

    /// The names in the cache that end in `/name`, for those who leave the owner out.
    pub fn owners_of(&self, name: &str) -> Vec<RepoName> {
        let repos = self.settings().cache.iter().flat_map(|root| repos(root));
        let named = repos.filter(|(_, id)| id.name() == name && id.owner().is_some());
        named.map(|(kind, id)| RepoName { kind: Some(kind), ..RepoName::of(id) }).collect()
    }

    /// Removes a repository from the cache; none if it is not there. A process that has one of its files open goes on reading it.
    ///
    /// # Errors
    /// [`HubError::Busy`] if it is being downloaded; or something of it cannot be removed.
    pub fn remove_cached(&self, id: &RepoId, kind: RepoKind) -> Result<Option<Removed>, HubError> {
        let Some(root) = &self.settings().cache else { return Ok(None) };
        let cache = RepoCache::new(root, kind, id);
        let path = cache.folder().to_owned();
        if !path.is_dir() {
            return Ok(None);
        }
        let lock_path = cache.repo_lock();
        let lock = open_lock(&lock_path)?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(HubError::Busy { repo: id.to_string() }),
            locked => locked.map_err(|error| HubError::disk(&lock_path)(error.into()))?,
        }
        let (bytes, _) = size_of(&path.join("blobs"));
        match std::fs::remove_dir_all(&path) {
            // Another process removed it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            removed => removed.map_err(HubError::disk(&path))?,
        }
        let locks = root.join(".locks").join(id.folder(kind));
        if locks.is_dir() {
            std::fs::remove_dir_all(&locks).map_err(HubError::disk(&locks))?;
        }
        Ok(Some(Removed { path, bytes }))
    }

    /// Returns the repository and the commit that a path in the cache belongs to.
    pub fn origin(&self, path: &Path) -> Option<(RepoName, String)> {
        let inside = path.strip_prefix(self.settings().cache.as_ref()?).ok()?;
        let mut parts = inside.iter().map(|part| part.to_str());
        let (kind, id) = RepoId::of_folder(parts.next()??)?;
        let commit = parts.nth(1)??.to_owned();
        Some((RepoName { kind: Some(kind), ..RepoName::of(id) }, commit))
    }
}

/// The files of a snapshot, with their sizes and without digests. A vindex lists its files itself.
fn listed(snapshot: &Path) -> Vec<RemoteFile> {
    let mut files = Vec::new();
    let mut folders = vec![(snapshot.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match std::fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => folders.push((entry.path(), format!("{name}/"))),
                Ok(metadata) => {
                    let bytes = metadata.len();
                    files.push(without_digest(name, bytes));
                }
                Err(_) => {}
            }
        }
    }
    let manifest = std::fs::read(snapshot.join(MANIFEST)).ok();
    let manifest = manifest.and_then(|json| larql_vindex_spec::Manifest::parse(&json).ok());
    let named: BTreeSet<String> =
        manifest.and_then(|m| m.checksums).into_iter().flatten().map(|(name, _)| name).collect();
    let here: BTreeSet<&str> = files.iter().map(|file| &*file.path).collect();
    let absent = named.iter().filter(|name| !here.contains(name.as_str())).cloned();
    let absent: Vec<RemoteFile> = absent.map(|path| without_digest(path, 0)).collect();
    files.extend(absent);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn without_digest(path: String, bytes: u64) -> RemoteFile {
    RemoteFile { path, bytes, blob: String::new(), sha256: None, xet: None }
}

/// Bytes of the files in a folder, and the time of the latest.
fn size_of(folder: &Path) -> (u64, Option<SystemTime>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let files =
        entries.filter_map(|entry| std::fs::metadata(entry.path()).ok()).filter(|file| file.is_file());
    files.fold((0, None), |(bytes, latest), file| (bytes + file.len(), latest.max(file.modified().ok())))
}
