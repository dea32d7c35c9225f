//! Downloading a model into the cache or a folder.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use larql_core::progress::{CancelToken, Progress, Stage};
use serde::Serialize;

use super::cache::{RepoCache, open_lock, write_whole};
use super::choice::{Choice, MANIFEST, choose};
use super::fetch::{Place, Remote, acquire, fetch};
use super::moving::Moving;
use super::reading::{RemoteFile, RepoInfo};
use super::{Hub, HubError, RepoKind, RepoName};

/// Folder of the notes on a download into a folder of the user's, as the official client keeps them.
const NOTES: &str = ".cache/huggingface/download";

/// The files of a repository that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The files of its model: a vindex, a checkpoint or a GGUF file.
    Model,
    /// All files.
    Everything,
}

/// Result of a download.
#[derive(Clone, Debug, Serialize)]
pub struct Pulled {
    /// The repository.
    pub repo: String,
    /// Its kind.
    pub kind: RepoKind,
    /// The commit.
    pub commit: String,
    /// The vindex, the checkpoint or the file.
    pub path: PathBuf,
    /// Number of files.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Bytes that came over the network just now.
    pub moved: u64,
}

impl Hub {
    /// Brings a model to this machine: into the cache, or into the folder `into`. What is there is not moved again, and what
    /// an interrupted download left is used.
    ///
    /// # Errors
    /// If there is no such model, it cannot be had, or its bytes are not what the repository lists.
    pub fn pull(
        &self,
        name: &RepoName,
        wanted: Wanted,
        into: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Pulled, HubError> {
        let what = name.to_string();
        if self.settings().offline {
            let path = self.cached(name).filter(|_| into.is_none());
            let path = path.ok_or(HubError::Offline { what })?;
            let (repo, commit) = (name.id.to_string(), name.revision().to_owned());
            let kind = name.kind.unwrap_or(RepoKind::Model);
            return Ok(Pulled { repo, kind, commit, path, files: 0, bytes: 0, moved: 0 });
        }
        let cancel = progress.cancel_token();
        let info = self.client.find(name.kind, &name.id, name.revision(), cancel)?;
        match into {
            Some(folder) => self.pull_into(name, wanted, &info, folder, progress),
            None => self.pull_to_cache(name, wanted, &info, progress),
        }
    }

    fn pull_to_cache(
        &self,
        name: &RepoName,
        wanted: Wanted,
        info: &RepoInfo,
        progress: &dyn Progress,
    ) -> Result<Pulled, HubError> {
        let root = self.settings().cache.as_deref();
        let root = root.ok_or_else(|| HubError::NoCache { what: name.to_string() })?;
        let cache = RepoCache::new(root, info.kind, &name.id);
        // While it is removed, nothing of it is downloaded.
        let lock_path = cache.repo_lock();
        let lock = open_lock(&lock_path)?;
        acquire(&lock_path, || lock.try_lock_shared(), progress.cancel_token())?;
        let files = match cache.tree(&info.commit) {
            Some(files) => files,
            None => self.client.tree(info.kind, &name.id, &info.commit, progress.cancel_token())?,
        };
        let choice = self.choice(name, wanted, &files)?;
        cache.tag()?;
        cache.set_tree(&info.commit, &files)?;
        let place = |file: &RemoteFile| Place {
            whole: cache.blob(file.etag()),
            partial: cache.partial(file.etag()),
            lock: cache.lock(file.etag()),
            is_named_by_digest: true,
        };
        let is_there = |file: &RemoteFile| cache.has(&info.commit, file);
        let finish = |file: &RemoteFile| cache.link(&info.commit, file);
        let moved = self.fetch_all(name, info, &choice.files, progress, &place, &is_there, &finish)?;
        cache.set_commit(name.revision(), &info.commit)?;
        let snapshot = cache.snapshot(&info.commit);
        Ok(pulled(name, info, &choice, snapshot, moved))
    }

    fn pull_into(
        &self,
        name: &RepoName,
        wanted: Wanted,
        info: &RepoInfo,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Pulled, HubError> {
        let files = self.client.tree(info.kind, &name.id, &info.commit, progress.cancel_token())?;
        let choice = self.choice(name, wanted, &files)?;
        let notes = folder.join(NOTES);
        let place = |file: &RemoteFile| Place {
            whole: folder.join(&file.path),
            partial: notes.join(format!("{}.{}.larql.incomplete", file.path, file.etag())),
            lock: notes.join(format!("{}.lock", file.path)),
            is_named_by_digest: false,
        };
        let note = |file: &RemoteFile| notes.join(format!("{}.metadata", file.path));
        let is_there = |file: &RemoteFile| {
            let known = std::fs::read_to_string(note(file)).unwrap_or_default();
            let path = folder.join(&file.path);
            known.lines().nth(1) == Some(file.etag())
                && path.metadata().is_ok_and(|metadata| metadata.len() == file.bytes)
        };
        let finish = |file: &RemoteFile| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let text = format!("{}\n{}\n{}\n", info.commit, file.etag(), now.as_secs_f64());
            write_whole(&note(file), text.as_bytes())
        };
        let moved = self.fetch_all(name, info, &choice.files, progress, &place, &is_there, &finish)?;
        Ok(pulled(name, info, &choice, folder.into(), moved))
    }

    fn choice(&self, name: &RepoName, wanted: Wanted, files: &[RemoteFile]) -> Result<Choice, HubError> {
        match wanted {
            Wanted::Model => choose(name, files, &self.settings().endpoint),
            Wanted::Everything => Ok(Choice { files: files.to_vec(), opens: None }),
        }
    }

    /// Fetches files, several at a time, and the manifest of a vindex after all others. Returns the bytes that moved.
    #[expect(clippy::too_many_arguments, reason = "three of them are the steps of one file")]
    fn fetch_all(
        &self,
        name: &RepoName,
        info: &RepoInfo,
        files: &[RemoteFile],
        progress: &dyn Progress,
        place: &(dyn Fn(&RemoteFile) -> Place + Sync),
        is_there: &(dyn Fn(&RemoteFile) -> bool + Sync),
        finish: &(dyn Fn(&RemoteFile) -> Result<(), HubError> + Sync),
    ) -> Result<u64, HubError> {
        let mut missing: Vec<&RemoteFile> = files.iter().filter(|file| !is_there(file)).collect();
        // The largest take longest, so they begin first.
        missing.sort_by_key(|file| std::cmp::Reverse(file.bytes));
        let moving = Moving::new(progress, Stage::Download, missing.iter().map(|file| file.bytes).sum());
        let (last, first): (Vec<_>, Vec<_>) = missing.into_iter().partition(|file| file.path == MANIFEST);
        let one = |file: &RemoteFile, cancel: &CancelToken| {
            let mut segments = Vec::new();
            segments.extend((info.kind == RepoKind::Dataset).then_some("datasets"));
            segments.extend(name.id.as_str().split('/').chain(["resolve", &info.commit]));
            segments.extend(file.path.split('/'));
            let url = self.client.url(segments);
            let remote = Remote { kind: info.kind, repo: &name.id, commit: &info.commit, url, file };
            fetch(&self.client, &remote, &place(file), &moving.file(&file.path), cancel)?;
            finish(file)
        };
        for group in [first, last] {
            at_once(group, self.settings().connections, progress, &one)?;
        }
        Ok(moving.moved())
    }
}

fn pulled(name: &RepoName, info: &RepoInfo, choice: &Choice, folder: PathBuf, moved: u64) -> Pulled {
    Pulled {
        repo: name.id.to_string(),
        kind: info.kind,
        commit: info.commit.clone(),
        path: choice.opens.as_ref().map_or(folder.clone(), |file| folder.join(file)),
        files: choice.files.len(),
        bytes: choice.files.iter().map(|file| file.bytes).sum(),
        moved,
    }
}

/// Does work on every item, on so many threads. After the first error no further item is begun.
pub(super) fn at_once<T: Send>(
    items: Vec<T>,
    threads: usize,
    progress: &dyn Progress,
    work: &(dyn Fn(T, &CancelToken) -> Result<(), HubError> + Sync),
) -> Result<(), HubError> {
    let threads = threads.clamp(1, items.len().max(1));
    let waiting = Mutex::new(VecDeque::from(items));
    let failure = Mutex::new(None);
    let worker = || {
        loop {
            let failed = failure.lock().is_ok_and(|failure| failure.is_some());
            let Some(item) = waiting.lock().ok().and_then(|mut waiting| waiting.pop_front()) else { return };
            if failed {
                return;
            }
            if let Err(error) = work(item, progress.cancel_token())
                && let Ok(mut failure) = failure.lock()
            {
                failure.get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
    match failure.into_inner().ok().flatten() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
