//! The cache on disk, in the official client's layout, so that what either fetched is found by the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::create_folder_of;
use super::reading::{RemoteFile, is_digest};
use super::repo::check_path;
use super::{HubError, RepoId, RepoKind};

/// Version of the lists of files.
const TREE_VERSION: u32 = 1;

/// Folder of one repository in the cache.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    cache: PathBuf,
    folder: PathBuf,
    name: String,
}

/// List of the files at a commit, as the official client keeps it.
#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, TreeFile>,
}

#[derive(Serialize, Deserialize)]
struct TreeFile {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xet_hash: Option<String>,
}

impl RepoCache {
    pub(crate) fn new(cache: &Path, kind: RepoKind, id: &RepoId) -> RepoCache {
        let name = id.folder(kind);
        RepoCache { cache: cache.into(), folder: cache.join(&name), name }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The commit that a revision meant when it was last asked for.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_digest(revision, 40) {
            return Some(revision.to_owned());
        }
        check_path(revision).ok()?;
        let commit = std::fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        let commit = commit.trim();
        is_digest(commit, 40).then(|| commit.to_owned())
    }

    /// Records the commit of a revision.
    pub(crate) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_digest(revision, 40)
            || check_path(revision).is_err()
            || self.commit(revision).as_deref() == Some(commit)
        {
            return Ok(());
        }
        write_whole(&self.folder.join("refs").join(revision), commit.as_bytes())
    }

    /// Folder of the files at a commit.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The files at a commit, if they have been listed.
    pub(crate) fn tree(&self, commit: &str) -> Option<Vec<RemoteFile>> {
        let text = std::fs::read(self.tree_path(commit)).ok()?;
        let tree: Tree = serde_json::from_slice(&text).ok()?;
        let file = |(path, file): (String, TreeFile)| {
            let sound = check_path(&path).is_ok()
                && is_digest(&file.blob_id, 40)
                && file.lfs_sha256.as_ref().is_none_or(|digest| is_digest(digest, 64));
            let bytes = file.lfs_size.unwrap_or(file.size);
            let xet = file.xet_hash.filter(|digest| is_digest(digest, 64));
            sound.then_some(RemoteFile { path, bytes, blob: file.blob_id, sha256: file.lfs_sha256, xet })
        };
        (tree.format_version == TREE_VERSION).then(|| tree.files.into_iter().map(file).collect()).flatten()
    }

    /// Keeps the list of the files at a commit.
    pub(crate) fn set_tree(&self, commit: &str, files: &[RemoteFile]) -> Result<(), HubError> {
        let file = |file: &RemoteFile| {
            let lfs_size = file.sha256.is_some().then_some(file.bytes);
            let (blob_id, lfs_sha256) = (file.blob.clone(), file.sha256.clone());
            let xet_hash = file.xet.clone();
            (file.path.clone(), TreeFile { size: file.bytes, blob_id, lfs_sha256, lfs_size, xet_hash })
        };
        let tree = Tree { format_version: TREE_VERSION, files: files.iter().map(file).collect() };
        let path = self.tree_path(commit);
        let json = serde_json::to_vec(&tree).map_err(|error| HubError::disk(&path)(error.into()))?;
        write_whole(&path, &json)
    }

    fn tree_path(&self, commit: &str) -> PathBuf {
        self.folder.join("trees").join(format!("{commit}.json"))
    }

    /// The place of a file's bytes.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The place of the bytes that have come so far, in a name that no other program appends to.
    pub(crate) fn partial(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.larql.incomplete"))
    }

    /// The file that is locked while a blob is filled.
    pub(crate) fn lock(&self, etag: &str) -> PathBuf {
        self.cache.join(".locks").join(&self.name).join(format!("{etag}.lock"))
    }

    /// The file that is locked while the repository is downloaded, which several may do, or removed, which one may.
    pub(crate) fn repo_lock(&self) -> PathBuf {
        self.cache.join(".locks").join(format!("{}.larql.lock", self.name))
    }

    /// Returns true if a snapshot has a file of the right size.
    pub(crate) fn has(&self, commit: &str, file: &RemoteFile) -> bool {
        let path = self.snapshot(commit).join(&file.path);
        std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.bytes)
    }

    /// Puts a blob into a snapshot: as a link that stays right when the cache is moved, or as a copy.
    pub(crate) fn link(&self, commit: &str, file: &RemoteFile) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(&file.path);
        if self.has(commit, file) {
            return Ok(());
        }
        create_folder_of(&path)?;
        let temporary = temporary_beside(&path);
        let up = "../".repeat(file.path.split('/').count() + 1);
        link_or_copy(
            &PathBuf::from(format!("{up}blobs/{}", file.etag())),
            &self.blob(file.etag()),
            &temporary,
        )
        .and_then(|()| std::fs::rename(&temporary, &path))
        .map_err(HubError::disk(&path))
    }

    /// Marks the cache for programs that make backups.
    pub(crate) fn tag(&self) -> Result<(), HubError> {
        let tag = self.cache.join("CACHEDIR.TAG");
        if tag.exists() {
            return Ok(());
        }
        write_whole(&tag, b"Signature: 8a477f597d28d172789f06886806bc55\n")
    }
}

#[cfg(unix)]
fn link_or_copy(relative: &Path, target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, path).or_else(|_| std::fs::copy(target, path).map(|_| ()))
}

#[cfg(not(unix))]
fn link_or_copy(_: &Path, target: &Path, path: &Path) -> io::Result<()> {
    std::fs::hard_link(target, path).or_else(|_| std::fs::copy(target, path).map(|_| ()))
}

/// A name beside `path` that no other process uses.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{}.tmp", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    name.into()
}

/// Writes a small file so that readers see all of it or the old one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    create_folder_of(path)?;
    let temporary = temporary_beside(path);
    let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // What went wrong says more than what could not be cleared away.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(HubError::disk(path))
}

/// Opens a file to be locked.
pub(crate) fn open_lock(path: &Path) -> Result<File, HubError> {
    create_folder_of(path)?;
    File::options().create(true).append(true).open(path).map_err(HubError::disk(path))
}

/// The repositories in a cache, in order of folder.
pub(crate) fn repos(cache: &Path) -> Vec<(RepoKind, RepoId)> {
    let entries = std::fs::read_dir(cache).into_iter().flatten().filter_map(Result::ok);
    let mut folders: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    folders.sort();
    folders.iter().filter_map(|folder| RepoId::of_folder(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path) -> RepoCache {
        RepoCache::new(folder, RepoKind::Model, &RepoId::new("o/n").unwrap())
    }

    #[test]
    fn revisions_trees_and_links_are_in_the_official_places() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let (commit, sha) = ("c".repeat(40), "d".repeat(64));
        cache.set_commit("refs/pr/1", &commit).unwrap();
        let written = std::fs::read_to_string(folder.path().join("models--o--n/refs/refs/pr/1")).unwrap();
        assert_eq!(written, commit);
        assert_eq!(cache.commit("refs/pr/1"), Some(commit.clone()));
        assert_eq!(cache.commit("../../escape"), None);

        let file = RemoteFile {
            path: "layers/a.bin".into(),
            bytes: 3,
            blob: "e".repeat(40),
            sha256: Some(sha.clone()),
            xet: Some(sha.clone()),
        };
        cache.set_tree(&commit, std::slice::from_ref(&file)).unwrap();
        assert_eq!(cache.tree(&commit), Some(vec![file.clone()]));
        assert!(!cache.has(&commit, &file));
        write_whole(&cache.blob(&sha), b"abc").unwrap();
        cache.link(&commit, &file).unwrap();
        cache.link(&commit, &file).unwrap();
        assert!(cache.has(&commit, &file));
        #[cfg(unix)]
        assert_eq!(
            std::fs::read_link(cache.snapshot(&commit).join("layers/a.bin")).unwrap(),
            PathBuf::from(format!("../../../blobs/{sha}"))
        );
        assert_eq!(repos(folder.path()), [(RepoKind::Model, RepoId::new("o/n").unwrap())]);
    }
}
