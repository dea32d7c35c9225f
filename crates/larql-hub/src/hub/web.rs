//! Single files from addresses of the web: models, patches and labels that a command or a Vindexfile names.

use std::io::Read;
use std::path::{Path, PathBuf};

use larql_core::progress::{Progress, Stage};
use serde::{Deserialize, Serialize};
use ureq::http::{Method, StatusCode};
use url::Url;

use super::cache::{open_lock, write_whole};
use super::client::{Call, wait};
use super::digest::{CHUNK, sha256_of, sha256_of_file};
use super::error::create_folder_of;
use super::fetch::{acquire, parse_range};
use super::moving::Moving;
use super::partial::PartialFile;
use super::reading::is_digest;
use super::{Hub, HubError};

/// Text before the digest in an address.
const DIGEST: &str = "@sha256:";

/// An address of a file: `https://HOST/PATH[@sha256:DIGITS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebFile {
    url: Url,
    sha256: Option<String>,
}

/// Bounds on what is downloaded.
#[derive(Clone, Copy, Debug)]
pub struct WebLimits {
    /// Greatest number of bytes.
    pub bytes: u64,
}

impl WebLimits {
    /// For models.
    pub const MODEL: WebLimits = WebLimits { bytes: 1 << 40 };
    /// For patches and labels.
    pub const TEXT: WebLimits = WebLimits { bytes: 1 << 30 };
}

/// Notes on a file that was downloaded.
#[derive(Serialize, Deserialize)]
struct Note {
    url: String,
    etag: Option<String>,
    bytes: u64,
    sha256: String,
}

impl WebFile {
    /// Returns true if a text begins as addresses of the web do.
    pub fn is_address(text: &str) -> bool {
        text.starts_with("https://") || text.starts_with("http://")
    }

    /// Reads an address.
    ///
    /// # Errors
    /// If it is none, or its digest is not that of SHA-256.
    pub fn parse(text: &str) -> Result<WebFile, HubError> {
        let bad = |problem: &str| HubError::BadName { name: text.to_owned(), problem: problem.to_owned() };
        let (address, sha256) = match text.rsplit_once(DIGEST) {
            Some((address, digest)) => (address, Some(digest.to_lowercase())),
            None => (text, None),
        };
        if sha256.as_ref().is_some_and(|digest| !is_digest(digest, 64)) {
            return Err(bad("64 hexadecimal digits follow `@sha256:`"));
        }
        let url = Url::parse(address).map_err(|error| bad(&error.to_string()))?;
        let is_loopback = matches!(url.host(), Some(url::Host::Ipv4(host)) if host.is_loopback());
        if url.scheme() != "https" && !is_loopback && sha256.is_none() {
            return Err(bad("what comes over http is not protected; use https, or add @sha256:DIGITS"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("an address with a password is not used"));
        }
        Ok(WebFile { url, sha256 })
    }

    /// The name that the file has on disk.
    fn name(&self) -> String {
        let last = self.url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        let name: String = last.chars().filter(is_plain).collect();
        let name = name.trim_start_matches('.');
        if name.is_empty() { "file".to_owned() } else { name.to_owned() }
    }
}

impl Hub {
    /// Brings a file to this machine, into `folder`; returns its path. One with a digest is downloaded once, and goes on where
    /// an earlier attempt stopped; another is downloaded when it has changed.
    ///
    /// # Errors
    /// If it cannot be had, is larger than allowed, or has another digest.
    pub fn fetch_web(
        &self,
        file: &WebFile,
        folder: &Path,
        limits: WebLimits,
        progress: &dyn Progress,
    ) -> Result<PathBuf, HubError> {
        let key = file.sha256.clone().unwrap_or_else(|| sha256_of(file.url.as_str().as_bytes()));
        let folder = folder.join(key);
        let (path, note_path) = (folder.join(file.name()), folder.join("note.json"));
        create_folder_of(&path)?;
        let lock_path = folder.join("lock");
        let lock = open_lock(&lock_path)?;
        acquire(&lock_path, || lock.try_lock(), progress.cancel_token())?;
        let note = std::fs::read(&note_path).ok().and_then(|json| serde_json::from_slice::<Note>(&json).ok());
        let note = note.filter(|note| path.metadata().is_ok_and(|metadata| metadata.len() == note.bytes));
        if let Some(note) = &note
            && (file.sha256.as_ref() == Some(&note.sha256) || self.settings().offline)
        {
            return Ok(path);
        }
        if self.settings().offline {
            return Err(HubError::Offline { what: file.url.to_string() });
        }
        let mut growing = Growing::open(folder.join("incomplete"), file)?;
        let known = note.and_then(|note| note.etag);
        let received = self.receive_web(file, &mut growing, known, limits, progress);
        if file.sha256.is_none() && !matches!(received, Ok(Some(_))) {
            // Without a digest it is of no use later.
            let _ = std::fs::remove_file(&growing.partial.path);
        }
        let Some(sha256) = received? else { return Ok(path) };
        growing.partial.file.sync_all().map_err(HubError::disk(&growing.partial.path))?;
        std::fs::rename(&growing.partial.path, &path).map_err(HubError::disk(&path))?;
        let note =
            Note { url: file.url.to_string(), etag: growing.etag, bytes: growing.partial.bytes, sha256 };
        let json = serde_json::to_vec(&note).map_err(|error| HubError::disk(&note_path)(error.into()))?;
        write_whole(&note_path, &json)?;
        Ok(path)
    }

    /// Receives a file, over as many connections as it takes; returns its SHA-256. None if the server says that it is still
    /// the one with the ETag `known`.
    fn receive_web(
        &self,
        file: &WebFile,
        growing: &mut Growing,
        known: Option<String>,
        limits: WebLimits,
        progress: &dyn Progress,
    ) -> Result<Option<String>, HubError> {
        let mut pauses = self.settings().pauses.iter();
        // What an earlier attempt left may be damaged, which only the digest shows.
        let mut is_fresh = growing.partial.bytes == 0;
        loop {
            let before = growing.partial.bytes;
            match self.receive_some_of_web(file, growing, known.as_deref(), limits, progress)? {
                Ok(false) => return Ok(None),
                Ok(true) => {
                    let found = sha256_of_file(&growing.partial.path)
                        .map_err(HubError::disk(&growing.partial.path))?;
                    let expected = match &file.sha256 {
                        Some(expected) if *expected != found => expected.clone(),
                        _ => return Ok(Some(found)),
                    };
                    growing.partial.restart()?;
                    if is_fresh {
                        let (file, part) = (file.name(), "SHA-256");
                        return Err(HubError::WrongBytes { file, part, expected, found });
                    }
                    is_fresh = true;
                }
                Err(broken) => {
                    // A connection that brings something may break as often as it likes.
                    if growing.partial.bytes > before {
                        pauses = self.settings().pauses.iter();
                    }
                    if !growing.may_go_on(file) {
                        growing.partial.restart()?;
                    }
                    let Some(pause) = pauses.next() else { return Err(broken) };
                    wait(*pause, progress.cancel_token())?;
                }
            }
        }
    }

    /// Receives what one connection brings; false if nothing has changed. The inner error is that of a connection that
    /// broke, after which another one goes on.
    fn receive_some_of_web(
        &self,
        file: &WebFile,
        growing: &mut Growing,
        known: Option<&str>,
        limits: WebLimits,
        progress: &dyn Progress,
    ) -> Result<Result<bool, HubError>, HubError> {
        let name = file.name();
        let mut call = Call::new(Method::GET, file.url.clone(), format!("downloading {name}"))
            .with_header("accept-encoding", "identity");
        if growing.partial.bytes > 0 {
            call = call.with_header("range", format!("bytes={}-", growing.partial.bytes));
            if let Some(etag) = &growing.etag {
                call = call.with_header("if-range", etag);
            }
        } else if let Some(etag) = known {
            call = call.with_header("if-none-match", etag);
        }
        let reply = match self.client.download(&mut call, progress.cancel_token()) {
            Err(HubError::Refused { status: 416, .. }) => {
                // All of it may be here, and only its name missing.
                let is_whole = sha256_of_file(&growing.partial.path).ok() == file.sha256;
                return match is_whole {
                    true => Ok(Ok(true)),
                    false => {
                        growing.partial.restart()?;
                        Ok(Err(self.client.unreadable(&call, "it refuses the range")))
                    }
                };
            }
            reply => reply?,
        };
        if reply.status == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Ok(false));
        }
        let range = reply.header("content-range").and_then(parse_range);
        let total = match reply.status {
            StatusCode::PARTIAL_CONTENT if range.is_some_and(|(first, _)| first == growing.partial.bytes) => {
                range.map(|(_, total)| total)
            }
            StatusCode::PARTIAL_CONTENT => {
                growing.partial.restart()?;
                let problem = "the range is not the one that was asked for";
                return Ok(Err(self.client.unreadable(&call, problem)));
            }
            _ => {
                growing.partial.restart()?;
                reply.header("content-length").and_then(|length| length.parse::<u64>().ok())
            }
        };
        // A weak ETag says nothing of single bytes.
        growing.etag = reply.header("etag").map(str::to_owned).filter(|etag| !etag.starts_with("W/"));
        let too_large = |bytes| HubError::TooLarge { what: file.url.to_string(), bytes, limit: limits.bytes };
        if let Some(bytes) = total.filter(|bytes| *bytes > limits.bytes) {
            return Err(too_large(bytes));
        }
        let moving = Moving::new(progress, Stage::Download, total.unwrap_or(0));
        let counter = moving.file(&name);
        counter.set(growing.partial.bytes)?;
        let host = super::client::host(&reply.url);
        let broken = |reason: String| {
            let what = format!("downloading {name}");
            HubError::Unreachable { what, host: host.clone(), reason }
        };
        let (mut body, mut chunk) = (reply.body.into_reader(), vec![0; CHUNK]);
        loop {
            let length = match body.read(&mut chunk) {
                Ok(length) => length,
                Err(error) => return Ok(Err(broken(error.to_string()))),
            };
            if length == 0 {
                return Ok(match total {
                    Some(total) if growing.partial.bytes < total => Err(broken(format!(
                        "the connection ended {} bytes early",
                        total - growing.partial.bytes
                    ))),
                    _ => Ok(true),
                });
            }
            let bytes = growing.partial.bytes + length as u64;
            if bytes > limits.bytes {
                growing.partial.restart()?;
                return Err(too_large(bytes));
            }
            growing.partial.append(&chunk[..length])?;
            counter.add(length as u64)?;
        }
    }
}

/// A file that is not whole yet.
struct Growing {
    partial: PartialFile,
    /// Strong ETag of the bytes, if they are of this attempt.
    etag: Option<String>,
}

impl Growing {
    /// Opens what an earlier attempt left, of use only where a digest tells right bytes from wrong ones.
    fn open(path: PathBuf, file: &WebFile) -> Result<Growing, HubError> {
        let mut partial = PartialFile::open(path)?;
        if file.sha256.is_none() {
            partial.restart()?;
        }
        Ok(Growing { partial, etag: None })
    }

    /// Returns true if the bytes are of use for another connection.
    fn may_go_on(&self, file: &WebFile) -> bool {
        file.sha256.is_some() || self.etag.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_protected_or_pinned() {
        let digest = "a".repeat(64);
        let pinned = WebFile::parse(&format!("http://a.example/x/model.gguf@sha256:{digest}")).unwrap();
        assert_eq!((pinned.name(), pinned.sha256.as_deref()), ("model.gguf".into(), Some(&*digest)));
        assert_eq!(WebFile::parse("https://a.example/%2e%2e/..;rm").unwrap().name(), "rm");
        for bad in
            ["http://a.example/x", "https://u:p@a.example/x", "https://a.example/x@sha256:12", "https://"]
        {
            assert!(matches!(WebFile::parse(bad), Err(HubError::BadName { .. })), "{bad}");
        }
    }
}
