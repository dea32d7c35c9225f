//! Publishing a folder as a repository: only what differs moves, in one commit.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use larql_core::progress::{CancelToken, Progress};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Method;

use super::lfs::{Target, open_range};
use crate::hub::client::Call;
use crate::hub::digest::{blob_of, sha256_of, sha256_of_file};
use crate::hub::reading::RemoteFile;
use crate::hub::repo::{MAIN, check_path};
use crate::hub::{Hub, HubError, RepoId, RepoKind};

/// Files that one request asks about.
const MOST_FILES: usize = 256;
/// First bytes of a file, by which the hub tells text.
const SAMPLE: u64 = 512;

/// Bytes of the largest file that the hub takes. Those above 20 GiB it takes, but contract v1 forbids them in a vindex.
const LARGEST_FILE: u64 = 50_000_000_000;

/// A file to be published.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    /// Its path in the repository.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) content: Content,
    /// SHA-256: what a manifest says, or else computed once. It is checked when the file is sent.
    pub(crate) sha256: OnceLock<String>,
}

/// Origin of a file's bytes.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl LocalFile {
    /// A range of its bytes.
    pub(super) fn open(&self, begin: u64, length: u64) -> Result<Box<dyn Read>, HubError> {
        match &self.content {
            Content::File(path) => open_range(path, begin, length).map_err(HubError::disk(path)),
            Content::Bytes(bytes) => {
                let range = bytes.iter().skip(begin as usize).take(length as usize).copied();
                Ok(Box::new(Cursor::new(range.collect::<Vec<u8>>())))
            }
        }
    }

    /// Its path in messages.
    pub(crate) fn shown(&self) -> PathBuf {
        match &self.content {
            Content::File(path) => path.clone(),
            Content::Bytes(_) => self.path.clone().into(),
        }
    }

    fn read(&self) -> Result<Vec<u8>, HubError> {
        match &self.content {
            Content::File(path) => std::fs::read(path).map_err(HubError::disk(path)),
            Content::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    fn sha256(&self) -> Result<String, HubError> {
        if let Some(sha256) = self.sha256.get() {
            return Ok(sha256.clone());
        }
        let sha256 = match &self.content {
            Content::File(path) => sha256_of_file(path).map_err(HubError::disk(path))?,
            Content::Bytes(bytes) => sha256_of(bytes),
        };
        Ok(self.sha256.get_or_init(|| sha256).clone())
    }

    /// Returns true if the hub has the same bytes.
    fn is_same(&self, remote: &RemoteFile) -> Result<bool, HubError> {
        Ok(self.bytes == remote.bytes
            && match &remote.sha256 {
                Some(sha256) => self.sha256()? == *sha256,
                None => blob_of(&self.read()?) == remote.blob,
            })
    }
}

/// Lists the files of a folder that are to be published. Those of version control and of other programs' notes are not.
pub(crate) fn files_of(
    folder: &Path,
    checksums: &BTreeMap<String, String>,
) -> Result<Vec<LocalFile>, HubError> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(HubError::disk(&folder))? {
            let entry = entry.map_err(HubError::disk(&folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let metadata = std::fs::metadata(entry.path()).map_err(HubError::disk(entry.path()))?;
            let path = format!("{prefix}{name}");
            if metadata.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
                continue;
            }
            check_path(&path).map_err(|problem| HubError::BadName { name: path.clone(), problem })?;
            let sha256 = checksums.get(&path).cloned().map(OnceLock::from).unwrap_or_default();
            files.push(LocalFile {
                path,
                bytes: metadata.len(),
                content: Content::File(entry.path()),
                sha256,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Options of publishing a folder.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// Kind of the repository.
    pub kind: RepoKind,
    /// True if only the owner sees it.
    pub private: bool,
    /// Deletes files of the repository that the folder does not have, except hidden ones and the card.
    pub prune: bool,
    /// Sends files that the hub has already.
    pub force: bool,
    /// Subject of the commit.
    pub message: String,
}

/// Result of publishing a folder.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedRepo {
    /// The repository.
    pub repo: RepoId,
    /// Its page.
    pub url: String,
    /// The commit that has the files.
    pub commit: String,
    /// Number of files that were new or different.
    pub changed: usize,
    /// Number of files that the hub had already.
    pub unchanged: usize,
    /// Files that were deleted.
    pub deleted: Vec<String>,
    /// Bytes of large files that moved just now.
    pub moved: u64,
    /// True if only the owner sees it.
    pub private: bool,
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<PreuploadFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreuploadFile {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitAnswer {
    commit_oid: String,
}

impl Hub {
    /// Publishes files as a repository, which is made unless it is there. A new repository is private until every file is
    /// found in it as it should be.
    pub(crate) fn publish_files(
        &self,
        repo: &RepoId,
        files: &[LocalFile],
        options: &PublishOptions,
        progress: &dyn Progress,
    ) -> Result<PublishedRepo, HubError> {
        let endpoint = self.settings().endpoint.clone();
        if self.settings().offline {
            return Err(HubError::Offline { what: format!("{repo} on {endpoint}") });
        }
        if self.settings().token.is_none() {
            return Err(HubError::NoToken { endpoint });
        }
        // Before hours are spent on digests and on the files beside it.
        if let Some(file) = files.iter().find(|file| file.bytes > LARGEST_FILE) {
            let (path, bytes) = (file.shown(), file.bytes);
            return Err(HubError::AboveLimit { path, bytes, limit: LARGEST_FILE });
        }
        let cancel = progress.cancel_token();
        self.create(repo, options.kind, cancel)?;
        let info = self.client.info(options.kind, repo, MAIN, cancel)?;
        // Before anything is in it that should not be seen.
        if options.private && !info.private {
            self.set_visibility(repo, options.kind, true, cancel)?;
        }
        let remote = self.client.tree(options.kind, repo, &info.commit, cancel)?;
        let remote: BTreeMap<&str, &RemoteFile> = remote.iter().map(|file| (&*file.path, file)).collect();
        let mut changed = Vec::new();
        for file in files {
            cancel.check()?;
            let is_same = match remote.get(&*file.path) {
                Some(there) if !options.force => file.is_same(there)?,
                _ => false,
            };
            if !is_same {
                changed.push(file);
            }
        }
        let here = |path: &str| files.iter().any(|file| file.path == path);
        let is_stale = |path: &&str| {
            options.prune
                && !here(path)
                && !path.split('/').any(|part| part.starts_with('.'))
                && *path != "README.md"
        };
        let deleted: Vec<String> = remote.keys().copied().filter(is_stale).map(str::to_owned).collect();
        let (mut commit, mut moved) = (info.commit.clone(), 0);
        if !changed.is_empty() || !deleted.is_empty() {
            (commit, moved) = match self.commit(repo, &info.commit, &changed, &deleted, options, progress) {
                // It may be this very commit that overtook: its answer was lost, and it was sent again.
                Err(HubError::Overtaken { repo: name }) => {
                    let there = self.client.info(options.kind, repo, MAIN, cancel)?.commit;
                    let is_done = self.check_published(repo, options.kind, &there, &changed, cancel).is_ok();
                    is_done.then_some((there, 0)).ok_or(HubError::Overtaken { repo: name })?
                }
                committed => committed?,
            };
            self.check_published(repo, options.kind, &commit, &changed, cancel)?;
        }
        if info.private && !options.private {
            self.set_visibility(repo, options.kind, false, cancel)?;
        }
        let url = match options.kind {
            RepoKind::Model => format!("{endpoint}/{repo}"),
            RepoKind::Dataset => format!("{endpoint}/datasets/{repo}"),
        };
        let unchanged = files.len() - changed.len();
        let (repo, private) = (repo.clone(), options.private);
        Ok(PublishedRepo { repo, url, commit, changed: changed.len(), unchanged, deleted, moved, private })
    }

    /// Makes a repository, private, unless it is there.
    fn create(&self, repo: &RepoId, kind: RepoKind, cancel: &CancelToken) -> Result<(), HubError> {
        let body = json!({
            "name": repo.name(), "organization": repo.owner(), "type": kind.name(), "visibility": "private",
        });
        let url = self.client.url(["api", "repos", "create"]);
        let call = Call::new(Method::POST, url, format!("making {repo}")).with_json(&body);
        match self.client.json::<Value>(call, cancel) {
            Err(HubError::Refused { status: 409, .. }) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// Shows a repository to everybody, or to its owner alone.
    ///
    /// # Errors
    /// If the hub refuses.
    pub fn set_visibility(
        &self,
        repo: &RepoId,
        kind: RepoKind,
        private: bool,
        cancel: &CancelToken,
    ) -> Result<(), HubError> {
        let segments = ["api", kind.plural()].into_iter().chain(repo.as_str().split('/')).chain(["settings"]);
        let visibility = if private { "private" } else { "public" };
        let mut call =
            Call::new(Method::PUT, self.client.url(segments), format!("making {repo} {visibility}"))
                .about(repo)
                .with_json(&json!({ "visibility": visibility }));
        self.client.send(&mut call, cancel).map(|_| ())
    }

    /// Uploads files and commits them. Returns the commit, and the bytes of large files that moved.
    fn commit(
        &self,
        repo: &RepoId,
        parent: &str,
        changed: &[&LocalFile],
        deleted: &[String],
        options: &PublishOptions,
        progress: &dyn Progress,
    ) -> Result<(String, u64), HubError> {
        let cancel = progress.cancel_token();
        let kind = options.kind;
        if let Some(card) = changed.iter().find(|file| file.path == "README.md") {
            self.validate_card(repo, kind, card, cancel)?;
        }
        let mut large = Vec::new();
        let mut lines = vec![json!({"key": "header", "value": {
            "summary": options.message, "description": "", "parentCommit": parent,
        }})];
        for group in changed.chunks(MOST_FILES) {
            for (file, mode) in self.preupload(repo, kind, group, cancel)? {
                let path = &file.path;
                if mode == "lfs" {
                    let oid = file.sha256()?;
                    lines.push(json!({"key": "lfsFile", "value": {
                        "path": path, "algo": "sha256", "oid": oid, "size": file.bytes,
                    }}));
                    large.push((file, oid));
                } else {
                    let content = STANDARD.encode(file.read()?);
                    lines.push(json!({"key": "file", "value": {
                        "path": path, "content": content, "encoding": "base64",
                    }}));
                }
            }
        }
        lines.extend(deleted.iter().map(|path| json!({"key": "deletedFile", "value": {"path": path}})));
        let target = Target { client: &self.client, kind, repo, branch: MAIN };
        let moved = target.upload(&large, progress)?;
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let segments =
            ["api", kind.plural()].into_iter().chain(repo.as_str().split('/')).chain(["commit", MAIN]);
        let call = Call::new(Method::POST, self.client.url(segments), format!("committing to {repo}"))
            .about(repo)
            .with_bytes("application/x-ndjson", body.into_bytes());
        let answer: CommitAnswer = self.client.json(call, cancel)?;
        Ok((answer.commit_oid, moved))
    }

    /// Asks how files are to be sent; leaves out those that the repository ignores.
    fn preupload<'a>(
        &self,
        repo: &RepoId,
        kind: RepoKind,
        files: &[&'a LocalFile],
        cancel: &CancelToken,
    ) -> Result<Vec<(&'a LocalFile, String)>, HubError> {
        let mut described = Vec::new();
        for file in files {
            let mut sample = Vec::new();
            file.open(0, SAMPLE)?.read_to_end(&mut sample).map_err(HubError::disk(file.shown()))?;
            described.push(json!({"path": file.path, "size": file.bytes, "sample": STANDARD.encode(sample)}));
        }
        let segments =
            ["api", kind.plural()].into_iter().chain(repo.as_str().split('/')).chain(["preupload", MAIN]);
        let call =
            Call::new(Method::POST, self.client.url(segments), format!("asking how files of {repo} go"))
                .about(repo)
                .with_json(&json!({ "files": described }));
        let answer: Preupload = self.client.json(call, cancel)?;
        let mut modes: BTreeMap<String, (String, bool)> = answer
            .files
            .into_iter()
            .map(|file| (file.path, (file.upload_mode, file.should_ignore)))
            .collect();
        let mut sent = Vec::new();
        for file in files {
            match modes.remove(&file.path) {
                Some((_, true)) => {}
                // Nothing is stored of an empty file.
                Some((mode, false)) if file.bytes > 0 => sent.push((*file, mode)),
                _ => sent.push((*file, "regular".to_owned())),
            }
        }
        Ok(sent)
    }

    /// Has the hub judge a model card.
    fn validate_card(
        &self,
        repo: &RepoId,
        kind: RepoKind,
        card: &LocalFile,
        cancel: &CancelToken,
    ) -> Result<(), HubError> {
        let content = String::from_utf8_lossy(&card.read()?).into_owned();
        let url = self.client.url(["api", "validate-yaml"]);
        let call = Call::new(Method::POST, url, format!("checking the card of {repo}"))
            .with_json(&json!({"content": content, "repoType": kind.name()}));
        match self.client.json::<Value>(call, cancel) {
            Err(HubError::Refused { status: 400, message, .. }) => {
                Err(HubError::BadCard { repo: repo.to_string(), problem: message })
            }
            // Other servers have no such check.
            Err(HubError::Refused { status: 404 | 405 | 501, .. }) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// Compares what a commit has with what was to be published.
    fn check_published(
        &self,
        repo: &RepoId,
        kind: RepoKind,
        commit: &str,
        files: &[&LocalFile],
        cancel: &CancelToken,
    ) -> Result<(), HubError> {
        let remote = self.client.tree(kind, repo, commit, cancel)?;
        let remote: BTreeMap<&str, &RemoteFile> = remote.iter().map(|file| (&*file.path, file)).collect();
        for file in files {
            let problem = match remote.get(&*file.path) {
                None => format!("{} is missing", file.path),
                Some(there) if !file.is_same(there)? => format!("{} is another file", file.path),
                Some(_) => continue,
            };
            return Err(HubError::NotWhole { repo: repo.to_string(), problem });
        }
        Ok(())
    }
}
