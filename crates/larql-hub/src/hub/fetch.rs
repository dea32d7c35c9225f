//! Download of one file: resumed, checked, and whole before it has its name.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larql_core::progress::CancelToken;
use ureq::http::{Method, StatusCode};
use url::Url;

use super::cache::open_lock;
use super::client::{Call, Client, Reply, wait};
use super::digest::{CHUNK, FileDigest, add_file};
use super::error::create_folder_of;
use super::moving::MovingFile;
use super::partial::PartialFile;
use super::reading::RemoteFile;
use super::{HubError, RepoId, RepoKind};

/// Time between looks at a lock that another process has.
const LOCKED: Duration = Duration::from_millis(50);

/// Destination of a file.
pub(crate) struct Place {
    /// Its name once it is whole and right.
    pub(crate) whole: PathBuf,
    /// Its name until then.
    pub(crate) partial: PathBuf,
    /// The file that is locked meanwhile.
    pub(crate) lock: PathBuf,
    /// True if the name is the digest, so that whatever has it is right.
    pub(crate) is_named_by_digest: bool,
}

/// A file on a server.
pub(crate) struct Remote<'a> {
    #[cfg_attr(not(feature = "xet"), expect(dead_code, reason = "only Xet's tokens are for a kind"))]
    pub(crate) kind: RepoKind,
    pub(crate) repo: &'a RepoId,
    pub(crate) commit: &'a str,
    pub(crate) url: Url,
    pub(crate) file: &'a RemoteFile,
}

/// Bytes of a file that have come, and the digest of them.
pub(super) struct Received {
    pub(super) partial: PartialFile,
    digest: FileDigest,
}

/// Downloads a file, unless it is there. Another process that downloads it is waited for.
pub(crate) fn fetch(
    client: &Client,
    remote: &Remote<'_>,
    place: &Place,
    moving: &MovingFile<'_>,
    cancel: &CancelToken,
) -> Result<(), HubError> {
    if is_whole(place, remote.file)? {
        return moving.set(remote.file.bytes);
    }
    create_folder_of(&place.whole)?;
    create_folder_of(&place.partial)?;
    let lock = open_lock(&place.lock)?;
    acquire(&place.lock, || lock.try_lock(), cancel)?;
    // The other process may have brought it.
    if is_whole(place, remote.file)? {
        return moving.set(remote.file.bytes);
    }
    let mut received = Received::open(&place.partial, remote.file)?;
    let mut begun_anew = received.partial.bytes == 0;
    loop {
        moving.set(received.partial.bytes)?;
        receive(client, remote, &mut received, moving, cancel)?;
        let (found, expected) = (received.digest.clone().finish(), remote.file.etag());
        if found == expected {
            break;
        }
        let part = received.digest.name();
        received.restart(remote.file)?;
        if begun_anew {
            let (file, expected) = (remote.file.path.clone(), expected.to_owned());
            return Err(HubError::WrongBytes { file, part, expected, found });
        }
        // What an earlier attempt left was damaged.
        begun_anew = true;
    }
    received.partial.file.sync_all().map_err(HubError::disk(&place.partial))?;
    drop(received);
    std::fs::rename(&place.partial, &place.whole).map_err(HubError::disk(&place.whole))
}

fn is_whole(place: &Place, file: &RemoteFile) -> Result<bool, HubError> {
    let is_long_enough = std::fs::metadata(&place.whole).is_ok_and(|metadata| metadata.len() == file.bytes);
    if !is_long_enough || place.is_named_by_digest {
        return Ok(is_long_enough);
    }
    let mut digest = FileDigest::of_kind(file);
    File::open(&place.whole)
        .and_then(|mut whole| add_file(&mut digest, &mut whole, file.bytes))
        .map_err(HubError::disk(&place.whole))?;
    Ok(digest.finish() == file.etag())
}

/// Waits for a lock, which `try_lock` takes unless somebody else has it.
pub(super) fn acquire(
    path: &Path,
    try_lock: impl Fn() -> Result<(), TryLockError>,
    cancel: &CancelToken,
) -> Result<(), HubError> {
    loop {
        match try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => wait(LOCKED, cancel)?,
            Err(TryLockError::Error(error)) => return Err(HubError::disk(path)(error)),
        }
    }
}

impl Received {
    /// Opens what an earlier attempt left.
    fn open(path: &Path, expected: &RemoteFile) -> Result<Received, HubError> {
        let partial = PartialFile::open(path.into())?;
        let mut received = Received { partial, digest: FileDigest::of_kind(expected) };
        if received.partial.bytes > expected.bytes {
            received.restart(expected)?;
        }
        let PartialFile { file, bytes, .. } = &mut received.partial;
        add_file(&mut received.digest, file, *bytes).map_err(HubError::disk(path))?;
        Ok(received)
    }

    /// Forgets all bytes.
    fn restart(&mut self, expected: &RemoteFile) -> Result<(), HubError> {
        self.digest = FileDigest::of_kind(expected);
        self.partial.restart()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.digest.update(bytes);
        self.partial.append(bytes)
    }
}

/// Receives what is missing, over as many connections as it takes.
fn receive(
    client: &Client,
    remote: &Remote<'_>,
    received: &mut Received,
    moving: &MovingFile<'_>,
    cancel: &CancelToken,
) -> Result<(), HubError> {
    // What does not come by Xet comes over plain HTTP.
    #[cfg(feature = "xet")]
    super::xet::receive(client, remote, received, moving, cancel)?;
    let mut pauses = client.settings().pauses.iter();
    while received.partial.bytes < remote.file.bytes {
        let before = received.partial.bytes;
        let broken = match receive_some(client, remote, received, moving, cancel)? {
            Ok(()) => continue,
            Err(broken) => broken,
        };
        // A connection that brings something may break as often as it likes.
        if received.partial.bytes > before {
            pauses = client.settings().pauses.iter();
        }
        let Some(pause) = pauses.next() else { return Err(broken) };
        wait(*pause, cancel)?;
    }
    Ok(())
}

/// Receives what one connection brings. The inner error is that of a connection that broke.
fn receive_some(
    client: &Client,
    remote: &Remote<'_>,
    received: &mut Received,
    moving: &MovingFile<'_>,
    cancel: &CancelToken,
) -> Result<Result<(), HubError>, HubError> {
    let path = &remote.file.path;
    let mut call = Call::new(Method::GET, remote.url.clone(), format!("downloading {path}"))
        .about(remote.repo)
        .of_file(remote.commit, path)
        .with_header("accept-encoding", "identity")
        .with_header("x-hf-download-counter", "1");
    if received.partial.bytes > 0 {
        call = call.with_header("range", format!("bytes={}-", received.partial.bytes));
    }
    let mut reply = match client.download(&mut call, cancel) {
        Err(HubError::Refused { status: 416, .. }) => {
            received.restart(remote.file)?;
            return Ok(Err(client.unreadable(&call, "it refuses the range")));
        }
        reply => reply?,
    };
    if let Err(problem) = begin(&reply, received, remote.file)? {
        return Err(client.unreadable(&call, &problem));
    }
    moving.set(received.partial.bytes)?;
    let mut chunk = vec![0; CHUNK];
    let mut body = reply.body.as_reader();
    loop {
        let length = match body.read(&mut chunk) {
            Ok(length) => length,
            Err(error) => {
                let reason = error.to_string();
                let (what, host) = (call.what.clone(), super::client::host(&reply.url));
                return Ok(Err(HubError::Unreachable { what, host, reason }));
            }
        };
        if length == 0 {
            let missing = remote.file.bytes - received.partial.bytes;
            let reason = format!("the connection ended {missing} bytes early");
            let (what, host) = (call.what.clone(), super::client::host(&reply.url));
            return Ok(match missing {
                0 => Ok(()),
                _ => Err(HubError::Unreachable { what, host, reason }),
            });
        }
        if received.partial.bytes + length as u64 > remote.file.bytes {
            received.restart(remote.file)?;
            moving.set(0)?;
            let (file, expected) = (path.clone(), format!("{} bytes", remote.file.bytes));
            return Err(HubError::WrongBytes { file, part: "a length of", expected, found: "more".into() });
        }
        received.append(&chunk[..length])?;
        moving.add(length as u64)?;
    }
}

/// Puts the file at the byte that an answer begins with. The inner error is the problem of an answer that does not fit.
fn begin(reply: &Reply, received: &mut Received, file: &RemoteFile) -> Result<Result<(), String>, HubError> {
    if reply.status != StatusCode::PARTIAL_CONTENT {
        // The range was ignored, or there was none.
        if received.partial.bytes > 0 {
            received.restart(file)?;
        }
        let length = reply.header("content-length").and_then(|length| length.parse::<u64>().ok());
        return Ok(match length.filter(|length| *length != file.bytes) {
            Some(length) => Err(format!("it has {length} bytes, and the repository lists {}", file.bytes)),
            None => Ok(()),
        });
    }
    let range = reply.header("content-range").and_then(parse_range);
    if range != Some((received.partial.bytes, file.bytes)) {
        received.restart(file)?;
        return Ok(Err("the range is not the one that was asked for".to_owned()));
    }
    Ok(Ok(()))
}

/// First byte and length of the whole in a `Content-Range` header.
pub(super) fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, 10)));
        for bad in ["bytes */10", "5-9/10", "bytes 5-9/*", "bytes x-9/10"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
