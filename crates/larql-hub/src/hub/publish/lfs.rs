//! Upload of files outside of git: whole or in parts, straight from the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use larql_core::progress::{CancelToken, Progress, Stage};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Method};
use url::Url;

use super::folder::LocalFile;
use crate::hub::client::{Call, CallBody, Client};
use crate::hub::digest::FileDigest;
use crate::hub::moving::{Moving, MovingFile};
use crate::hub::pull::at_once;
use crate::hub::{HubError, RepoId, RepoKind};

/// Media type of the protocol.
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";
/// Objects that one request asks about.
const MOST_OBJECTS: usize = 256;
/// Ways to upload, the one by Xet last.
const TRANSFERS: [&str; 3] = ["basic", "multipart", XET];
/// Ways to upload over plain HTTP.
const PLAIN_TRANSFERS: &[&str] = TRANSFERS.split_at(2).0;
/// The way by Xet.
const XET: &str = "xet";
/// The public hub's address, which a mirror stands for in the addresses that it hands out.
const PUBLIC: &str = "https://huggingface.co";

#[derive(Deserialize)]
struct Batch {
    /// The way that the hub chose.
    #[serde(default)]
    transfer: String,
    objects: Vec<BatchObject>,
}

#[derive(Deserialize)]
struct BatchObject {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<BatchError>,
}

#[derive(Deserialize)]
struct BatchError {
    code: u16,
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Clone, Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

/// A file that the hub asks for.
struct Upload<'a> {
    file: &'a LocalFile,
    oid: &'a str,
    actions: Actions,
}

/// Destination of files.
pub(super) struct Target<'a> {
    pub(super) client: &'a Client,
    pub(super) kind: RepoKind,
    pub(super) repo: &'a RepoId,
    pub(super) branch: &'a str,
}

impl Target<'_> {
    /// Uploads those files, given with their SHA-256, that the hub does not have. Returns the bytes that moved.
    pub(super) fn upload(
        &self,
        files: &[(&LocalFile, String)],
        progress: &dyn Progress,
    ) -> Result<u64, HubError> {
        let (mut uploads, mut by_xet) = (Vec::new(), 0);
        for group in files.chunks(MOST_OBJECTS) {
            let transfers = if self.uses_xet() { &TRANSFERS[..] } else { PLAIN_TRANSFERS };
            let mut batch = self.batch(group, transfers, progress.cancel_token())?;
            if batch.transfer == XET {
                match self.upload_by_xet(group, progress)? {
                    Some(moved) => {
                        by_xet += moved;
                        continue;
                    }
                    None => batch = self.batch(group, PLAIN_TRANSFERS, progress.cancel_token())?,
                }
            }
            uploads.extend(self.missing(batch, group)?);
        }
        let total = uploads.iter().map(|upload| upload.file.bytes).sum();
        let moving = Moving::new(progress, Stage::Upload, total);
        at_once(uploads, self.client.settings().connections, progress, &|upload, cancel| {
            self.upload_one(&upload, &moving.file(&upload.file.path), cancel)
        })?;
        Ok(by_xet + moving.moved())
    }

    #[cfg(feature = "xet")]
    fn uses_xet(&self) -> bool {
        self.client.settings().xet.is_some()
    }

    #[cfg(not(feature = "xet"))]
    fn uses_xet(&self) -> bool {
        false
    }

    /// Uploads files with Xet. Returns the bytes that moved; none if it fails.
    #[cfg(feature = "xet")]
    fn upload_by_xet(
        &self,
        files: &[(&LocalFile, String)],
        progress: &dyn Progress,
    ) -> Result<Option<u64>, HubError> {
        crate::hub::xet::upload(self.client, (self.kind, self.repo, self.branch), files, progress)
    }

    #[cfg(not(feature = "xet"))]
    fn upload_by_xet(&self, _: &[(&LocalFile, String)], _: &dyn Progress) -> Result<Option<u64>, HubError> {
        Ok(None)
    }

    /// Asks which files the hub does not have, and where they go.
    fn batch(
        &self,
        files: &[(&LocalFile, String)],
        transfers: &[&str],
        cancel: &CancelToken,
    ) -> Result<Batch, HubError> {
        let mut segments = Vec::new();
        segments.extend((self.kind == RepoKind::Dataset).then_some("datasets"));
        let git = format!("{}.git", self.repo.name());
        segments.extend(self.repo.owner());
        segments.extend([&*git, "info", "lfs", "objects", "batch"]);
        let objects: Vec<Value> =
            files.iter().map(|(file, oid)| json!({"oid": oid, "size": file.bytes})).collect();
        let body = json!({
            "operation": "upload", "transfers": transfers, "hash_algo": "sha256",
            "objects": objects, "ref": {"name": format!("refs/heads/{}", self.branch)},
        });
        let call = Call::new(
            Method::POST,
            self.client.url(segments),
            format!("asking where files of {} go", self.repo),
        )
        .about(self.repo)
        .with_bytes(MEDIA_TYPE, body.to_string().into_bytes())
        .with_header("accept", MEDIA_TYPE);
        self.client.json(call, cancel)
    }

    /// The files that the hub does not have.
    fn missing<'a>(
        &self,
        batch: Batch,
        files: &'a [(&LocalFile, String)],
    ) -> Result<Vec<Upload<'a>>, HubError> {
        let mut uploads = Vec::new();
        for object in batch.objects {
            let Some((file, oid)) = files.iter().find(|(_, oid)| *oid == object.oid) else { continue };
            if let Some(BatchError { code, message }) = object.error {
                let (what, host) =
                    (format!("uploading {}", file.path), self.client.settings().endpoint.clone());
                return Err(HubError::Refused { what, host, status: code, message });
            }
            // The same bytes under two names go once.
            let is_new = uploads.iter().all(|upload: &Upload<'_>| upload.oid != *oid);
            if let Some(actions) = object.actions.filter(|_| is_new) {
                uploads.push(Upload { file, oid, actions });
            }
        }
        Ok(uploads)
    }

    fn upload_one(
        &self,
        upload: &Upload<'_>,
        moving: &MovingFile<'_>,
        cancel: &CancelToken,
    ) -> Result<(), HubError> {
        let what = format!("uploading {}", upload.file.path);
        if let Some(action) = &upload.actions.upload {
            let sent = match chunk_size(action) {
                Some(size) => self.multipart(upload, action, size, &what, moving, cancel)?,
                None => self.basic(upload, action, &what, moving, cancel)?,
            };
            if sent != upload.oid {
                return Err(HubError::Changed { path: upload.file.shown() });
            }
        }
        if let Some(action) = &upload.actions.verify {
            let body = json!({"oid": upload.oid, "size": upload.file.bytes});
            let mut call = Call::new(Method::POST, self.address(action, &what)?, what)
                .with_bytes(MEDIA_TYPE, body.to_string().into_bytes());
            add_headers(&mut call, action);
            self.client.send(&mut call, cancel)?;
        }
        Ok(())
    }

    /// Sends a file in one request; returns the SHA-256 of what was sent.
    fn basic(
        &self,
        upload: &Upload<'_>,
        action: &Action,
        what: &str,
        moving: &MovingFile<'_>,
        cancel: &CancelToken,
    ) -> Result<String, HubError> {
        let sent = Sent::begin(Sha256::new(), 0, moving);
        let mut call = Call::new(Method::PUT, self.address(action, what)?, what);
        add_headers(&mut call, action);
        self.put(call, upload.file, (0, upload.file.bytes), &sent, cancel)?;
        Ok(FileDigest::Sha256(sent.digest()).finish())
    }

    /// Sends a file in parts; returns the SHA-256 of what was sent.
    fn multipart(
        &self,
        upload: &Upload<'_>,
        action: &Action,
        size: u64,
        what: &str,
        moving: &MovingFile<'_>,
        cancel: &CancelToken,
    ) -> Result<String, HubError> {
        let numbered =
            action.header.iter().filter_map(|(key, href)| Some((key.parse::<u64>().ok()?, href.as_str()?)));
        let parts: BTreeMap<u64, &str> = numbered.collect();
        let bytes = upload.file.bytes;
        if parts.len() as u64 != bytes.div_ceil(size) {
            let call = Call::new(Method::PUT, self.address(action, what)?, what);
            return Err(self
                .client
                .unreadable(&call, "the number of parts does not fit the size of the file"));
        }
        let (mut digest, mut finished) = (Sha256::new(), Vec::new());
        for (index, (number, href)) in (0u64..).zip(parts) {
            let begin = index * size;
            let length = size.min(bytes - begin);
            let sent = Sent::begin(digest, begin, moving);
            let call = Call::new(Method::PUT, self.parse(href, what)?, what);
            let headers = self.put(call, upload.file, (begin, length), &sent, cancel)?;
            let etag = headers.get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or_default();
            finished.push(json!({"partNumber": number, "etag": etag}));
            digest = sent.digest();
        }
        let body = json!({"oid": upload.oid, "parts": finished});
        let mut call = Call::new(Method::POST, self.address(action, what)?, what)
            .with_bytes(MEDIA_TYPE, body.to_string().into_bytes())
            .with_header("accept", MEDIA_TYPE);
        self.client.send(&mut call, cancel)?;
        Ok(FileDigest::Sha256(digest).finish())
    }

    /// Sends a range of a file, given by its first byte and its length.
    fn put<'a>(
        &self,
        mut call: Call<'a>,
        file: &'a LocalFile,
        (begin, length): (u64, u64),
        sent: &'a Sent<'a>,
        cancel: &CancelToken,
    ) -> Result<HeaderMap, HubError> {
        let open = move || {
            sent.restart()?;
            let stream = file.open(begin, length)?;
            Ok(Box::new(Sending { stream, sent }) as Box<dyn Read + 'a>)
        };
        call.body = CallBody::Stream(length, Box::new(open));
        let reply = self.client.send(&mut call, cancel)?;
        Ok(reply.headers)
    }

    fn address(&self, action: &Action, what: &str) -> Result<Url, HubError> {
        self.parse(&action.href, what)
    }

    fn parse(&self, href: &str, what: &str) -> Result<Url, HubError> {
        let endpoint = &self.client.settings().endpoint;
        let href = match href.strip_prefix(PUBLIC) {
            Some(path) => format!("{endpoint}{path}"),
            None => href.to_owned(),
        };
        Url::parse(&href).map_err(|error| {
            let call = Call::new(Method::PUT, self.client.url([]), what);
            self.client.unreadable(&call, &format!("an address in it: {error}"))
        })
    }
}

/// Bytes of a part, if the file is to be sent in parts.
fn chunk_size(action: &Action) -> Option<u64> {
    let size = action.header.get("chunk_size")?;
    let size = size.as_u64().or_else(|| size.as_str()?.parse().ok());
    size.filter(|size| *size > 0)
}

/// Adds the headers that the hub asks for, but no proof of who asks: the address has that.
fn add_headers(call: &mut Call<'_>, action: &Action) {
    const KNOWN: [&str; 3] = ["content-type", "x-amz-acl", "x-amz-checksum-sha256"];
    for (name, value) in &action.header {
        let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name));
        if let (Some(name), Some(value)) = (known, value.as_str()) {
            call.headers.push((name, value.to_owned()));
        }
    }
}

/// The bytes that an attempt has read of a part: their digest, after those of earlier parts, and their number.
struct Sent<'a> {
    before: Sha256,
    now: Mutex<Sha256>,
    /// First byte of the part.
    begin: u64,
    moving: &'a MovingFile<'a>,
}

impl<'a> Sent<'a> {
    fn begin(before: Sha256, begin: u64, moving: &'a MovingFile<'a>) -> Sent<'a> {
        Sent { now: Mutex::new(before.clone()), before, begin, moving }
    }

    /// Forgets an attempt that failed.
    fn restart(&self) -> Result<(), HubError> {
        *self.lock() = self.before.clone();
        self.moving.set(self.begin)
    }

    fn digest(&self) -> Sha256 {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Sha256> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that counts what is read of it, and stops when cancelled.
struct Sending<'a> {
    stream: Box<dyn Read>,
    sent: &'a Sent<'a>,
}

impl Read for Sending<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.sent.lock().update(&buffer[..length]);
        self.sent.moving.add(length as u64).map_err(io::Error::other)?;
        Ok(length)
    }
}

/// A range of a file.
pub(super) fn open_range(path: &Path, begin: u64, length: u64) -> io::Result<Box<dyn Read>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(begin))?;
    Ok(Box::new(file.take(length)))
}
