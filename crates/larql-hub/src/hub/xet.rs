//! Xet: large files as chunks in a store apart from the hub, which hands out the store's address and tokens for it.
//!
//! A file comes as a stream from any position, so that it is resumed, digested and checked as over plain HTTP. If Xet
//! fails, plain HTTP goes on where it stopped. The store sees its own tokens alone, never that of the hub.

use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use larql_core::progress::{CancelToken, Progress, Stage};
use serde::Deserialize;
use ureq::http::Method;
use url::Url;
use xet::xet_session::{
    Sha256Policy, XetCommitReport, XetConfig, XetDownloadStreamGroup, XetFileInfo, XetSession,
    XetSessionBuilder, XetUploadCommit,
};

use super::client::{Call, Client, PATIENCE, WATCH};
use super::fetch::{Received, Remote};
use super::moving::{Moving, MovingFile};
use super::publish::{Content, LocalFile};
use super::{HubError, RepoId, RepoKind};

/// Chunks that are fetched before they are asked for.
const AHEAD: usize = 2;
/// Repetitions of a request to the store; after them plain HTTP takes over.
const REPETITIONS: usize = 2;

/// Xet's client, which is made when it is first used, and the repositories that it downloads from.
#[derive(Default)]
pub(crate) struct Store {
    session: OnceLock<Option<XetSession>>,
    /// By kind, name and commit; none for those without Xet, and those where it failed.
    groups: Mutex<HashMap<String, Option<XetDownloadStreamGroup>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    fn groups(&self) -> MutexGuard<'_, HashMap<String, Option<XetDownloadStreamGroup>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client; none if Xet is not to be used, or it cannot be started.
    fn session(&self, client: &Client) -> Option<&XetSession> {
        let settings = client.settings();
        let folder = settings.xet.clone()?;
        let start = || {
            // Another part of the program may have installed the same.
            let _ = rustls::crypto::ring::default_provider().install_default();
            // The default reads no variables.
            let mut config = XetConfig::default();
            config.telemetry.enabled = false;
            config.client.retry_max_attempts = REPETITIONS;
            config.client.retry_base_delay = settings.pauses.first().copied().unwrap_or_default();
            config.client.connect_timeout = PATIENCE;
            config.client.read_timeout = settings.stall;
            apart(|| XetSessionBuilder::new_with_config(config).with_cache_dir(folder).build().ok())
        };
        self.session.get_or_init(start).as_ref()
    }
}

/// Access to the store, as the hub grants it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Access {
    cas_url: String,
    access_token: String,
    exp: u64,
}

/// Asks the hub for access. None if it grants none.
fn access(client: &Client, url: &Url, cancel: &CancelToken) -> Result<Option<Access>, HubError> {
    match client.json(Call::new(Method::GET, url.clone(), "asking for access to Xet"), cancel) {
        Err(HubError::Cancelled) => Err(HubError::Cancelled),
        answer => Ok(answer.ok()),
    }
}

/// Runs work of Xet's client on a thread of its own: it does not block on one of another runtime. None if it fails.
fn apart<T: Send>(work: impl FnOnce() -> Option<T> + Send) -> Option<T> {
    std::thread::scope(|scope| scope.spawn(work).join()).ok().flatten()
}

/// Address at which the hub grants access.
fn address(client: &Client, kind: RepoKind, repo: &RepoId, right: &str, revision: &str) -> Url {
    let segments = ["api", kind.plural()].into_iter().chain(repo.as_str().split('/'));
    client.url(segments.chain([right, revision]))
}

/// The key of a repository among the groups.
fn key(remote: &Remote<'_>) -> String {
    format!("{}/{}@{}", remote.kind.plural(), remote.repo, remote.commit)
}

/// Returns the downloads from a repository; none if it has no Xet.
fn group(
    client: &Client,
    remote: &Remote<'_>,
    cancel: &CancelToken,
) -> Result<Option<XetDownloadStreamGroup>, HubError> {
    let Some(session) = client.xet.session(client) else { return Ok(None) };
    let mut groups = client.xet.groups();
    if let Some(group) = groups.get(&key(remote)) {
        return Ok(group.clone());
    }
    let url = address(client, remote.kind, remote.repo, "xet-read-token", remote.commit);
    let group = access(client, &url, cancel)?.and_then(|access| {
        let builder = session.new_download_stream_group().ok()?;
        let builder = builder
            .with_endpoint(access.cas_url)
            .with_token_info(access.access_token, access.exp)
            .with_token_refresh_url(url.as_str(), client.proof(&url));
        apart(|| builder.build_blocking().ok())
    });
    groups.insert(key(remote), group.clone());
    Ok(group)
}

/// Receives what is missing of a file, as far as Xet has it.
pub(super) fn receive(
    client: &Client,
    remote: &Remote<'_>,
    received: &mut Received,
    moving: &MovingFile<'_>,
    cancel: &CancelToken,
) -> Result<(), HubError> {
    let bytes = remote.file.bytes;
    let Some(digest) = remote.file.xet.clone().filter(|_| received.partial.bytes < bytes) else {
        return Ok(());
    };
    let Some(group) = group(client, remote, cancel)? else { return Ok(()) };
    let (info, range) = (XetFileInfo::new(digest, bytes), received.partial.bytes..bytes);
    let (sender, chunks) = mpsc::sync_channel(AHEAD);
    // It ends with the file, or when nobody receives any more.
    std::thread::spawn(move || {
        let Ok(mut stream) = group.download_stream_blocking(info, Some(range)) else { return };
        while let Ok(Some(chunk)) = stream.blocking_next() {
            if sender.send(chunk).is_err() {
                stream.cancel();
                return;
            }
        }
    });
    let mut latest = Instant::now();
    while received.partial.bytes < bytes {
        cancel.check()?;
        match chunks.recv_timeout(WATCH) {
            Ok(chunk) if chunk.len() as u64 <= bytes - received.partial.bytes => {
                received.append(&chunk)?;
                moving.add(chunk.len() as u64)?;
                latest = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) if latest.elapsed() < client.settings().stall => {}
            // No file of the repository waits for it again.
            _ => {
                client.xet.groups().insert(key(remote), None);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Uploads files, given with their SHA-256. Returns the bytes that moved; none if Xet fails.
pub(super) fn upload(
    client: &Client,
    (kind, repo, branch): (RepoKind, &RepoId, &str),
    files: &[(&LocalFile, String)],
    progress: &dyn Progress,
) -> Result<Option<u64>, HubError> {
    let Some(session) = client.xet.session(client) else { return Ok(None) };
    let url = address(client, kind, repo, "xet-write-token", branch);
    let begun = access(client, &url, progress.cancel_token())?.and_then(|access| {
        let builder = session.new_upload_commit().ok()?;
        let builder = builder
            .with_endpoint(access.cas_url)
            .with_token_info(access.access_token, access.exp)
            .with_token_refresh_url(url.as_str(), client.proof(&url));
        apart(|| {
            let commit = builder.build_blocking().ok()?;
            let begin = |(file, _): &(&LocalFile, String)| {
                let begun = match &file.content {
                    Content::File(path) => {
                        commit.upload_from_path_blocking(path.clone(), Sha256Policy::Compute)
                    }
                    Content::Bytes(bytes) => {
                        let name = Some(file.path.clone());
                        commit.upload_bytes_blocking(bytes.clone(), Sha256Policy::Compute, name)
                    }
                };
                begun.ok().map(|upload| upload.task_id())
            };
            let tasks: Option<Vec<_>> = files.iter().map(begin).collect();
            Some((commit, tasks?))
        })
    });
    let Some((commit, tasks)) = begun else { return Ok(None) };
    let Some(report) = finish(commit, files, progress)? else { return Ok(None) };
    for ((file, sha256), task) in files.iter().zip(tasks) {
        let sent = report.uploads.get(&task).and_then(|upload| upload.xet_info.sha256.as_deref());
        if sent != Some(sha256.as_str()) {
            return Err(HubError::Changed { path: file.shown() });
        }
    }
    Ok(Some(report.progress.total_transfer_bytes_completed))
}

/// Waits for an upload, with reports of its progress. None if it fails.
fn finish(
    commit: XetUploadCommit,
    files: &[(&LocalFile, String)],
    progress: &dyn Progress,
) -> Result<Option<XetCommitReport>, HubError> {
    let total = files.iter().map(|(file, _)| file.bytes).sum();
    let moving = Moving::new(progress, Stage::Upload, total);
    let moved = moving.file(files.first().map_or("", |(file, _)| &*file.path));
    let (sender, outcome) = mpsc::channel();
    let running = commit.clone();
    std::thread::spawn(move || sender.send(running.commit_blocking().ok()));
    loop {
        match outcome.recv_timeout(WATCH) {
            Err(RecvTimeoutError::Timeout) => {
                if let Err(cancelled) = moved.set(commit.progress().total_bytes_completed.min(total)) {
                    // It ends at the latest with the program.
                    let _ = commit.abort();
                    return Err(cancelled);
                }
            }
            finished => return Ok(finished.ok().flatten()),
        }
    }
}
