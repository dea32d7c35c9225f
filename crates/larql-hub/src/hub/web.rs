//! Single files from addresses of the web: models, patches and labels that a command or a Vindexfile names.

use std::path::{Path, PathBuf};

use larql_core::progress::{Progress, Stage};
use serde::{Deserialize, Serialize};
use std::io::Read;
use ureq::http::{Method, StatusCode};
use url::Url;

use super::cache::{open_lock, write_whole};
use super::client::{Call, Reply};
use super::digest::{CHUNK, sha256_of, sha256_of_file};
use super::error::create_folder_of;
use super::moving::Moving;
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
    /// Brings a file to this machine, into `folder`; returns its path. One with a digest is downloaded once, another when it
    /// has changed.
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
        let lock = open_lock(&folder.join("lock"))?;
        lock.lock().map_err(HubError::disk(&folder))?;
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
        let mut call = Call::new(Method::GET, file.url.clone(), format!("downloading {}", file.name()))
            .with_header("accept-encoding", "identity");
        if let Some(etag) = note.as_ref().and_then(|note| note.etag.clone()) {
            call = call.with_header("if-none-match", etag);
        }
        let reply = self.client.download(&mut call, progress.cancel_token())?;
        if reply.status == StatusCode::NOT_MODIFIED && note.is_some() {
            return Ok(path);
        }
        let etag = reply.header("etag").map(str::to_owned);
        let partial = folder.join("incomplete");
        let received = self.receive_web(file, reply, &call, &partial, limits, progress);
        let bytes = received.inspect_err(|_| {
            // What went wrong says more than what could not be cleared away.
            let _ = std::fs::remove_file(&partial);
        })?;
        let sha256 = sha256_of_file(&partial).map_err(HubError::disk(&partial))?;
        if let Some(expected) = file.sha256.clone().filter(|expected| *expected != sha256) {
            let _ = std::fs::remove_file(&partial);
            return Err(HubError::WrongBytes { file: file.name(), part: "SHA-256", expected, found: sha256 });
        }
        std::fs::rename(&partial, &path).map_err(HubError::disk(&path))?;
        let note = Note { url: file.url.to_string(), etag, bytes, sha256 };
        let json = serde_json::to_vec(&note).map_err(|error| HubError::disk(&note_path)(error.into()))?;
        write_whole(&note_path, &json)?;
        Ok(path)
    }

    fn receive_web(
        &self,
        file: &WebFile,
        reply: Reply,
        call: &Call<'_>,
        partial: &Path,
        limits: WebLimits,
        progress: &dyn Progress,
    ) -> Result<u64, HubError> {
        let too_large = |bytes| HubError::TooLarge { what: file.url.to_string(), bytes, limit: limits.bytes };
        let stated = reply.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(bytes) = stated.filter(|bytes| *bytes > limits.bytes) {
            return Err(too_large(bytes));
        }
        let name = file.name();
        let moving = Moving::new(progress, Stage::Download, stated.unwrap_or(0));
        let counter = moving.file(&name);
        let mut target = std::fs::File::create(partial).map_err(HubError::disk(partial))?;
        let (mut body, mut chunk, mut bytes) = (reply.body.into_reader(), vec![0; CHUNK], 0);
        loop {
            let length =
                body.read(&mut chunk).map_err(|error| self.client.unreadable(call, &error.to_string()))?;
            if length == 0 {
                break;
            }
            bytes += length as u64;
            if bytes > limits.bytes {
                return Err(too_large(bytes));
            }
            std::io::Write::write_all(&mut target, &chunk[..length]).map_err(HubError::disk(partial))?;
            counter.add(length as u64)?;
        }
        match stated.filter(|stated| *stated != bytes) {
            Some(stated) => {
                let expected = format!("{stated} bytes");
                let found = bytes.to_string();
                Err(HubError::WrongBytes { file: name.clone(), part: "a length of", expected, found })
            }
            None => target.sync_all().map(|()| bytes).map_err(HubError::disk(partial)),
        }
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
