//! A model on the hub without its weights: headers in files that are as long as the real ones, so that readers of models
//! read them as usual.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use larql_core::progress::CancelToken;
use larql_vindex::Component;
use tempfile::TempDir;
use ureq::http::{Method, StatusCode};

use super::choice::{MANIFEST, choose};
use super::client::Call;
use super::digest::FileDigest;
use super::reading::{RemoteFile, RepoInfo};
use super::{Hub, HubError, RepoKind, RepoName};

/// Largest file of text that is read whole.
const LARGEST_TEXT: u64 = 16 << 20;
/// Largest header of a file of tensors.
const LARGEST_HEADER: u64 = 64 << 20;
/// Bytes of a safetensors file before its header, which say how long that is.
const SAFETENSORS_LENGTH: u64 = 8;
/// First guess at the length of a GGUF file's header.
const GGUF_HEADER: u64 = 1 << 20;

/// A model on the hub as far as its headers tell it. Its folder is removed when it is dropped.
#[derive(Debug)]
pub struct Sketch {
    /// The folder or file that readers of models open.
    pub path: PathBuf,
    /// The repository, at the commit that was read.
    pub commit: String,
    /// All files of the model with their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// Bytes that came over the network.
    pub moved: u64,
    _folder: TempDir,
}

impl Hub {
    /// Reads the headers of a model, and nothing of its weights.
    ///
    /// # Errors
    /// If there is no such model, or `opens` does not accept any length of a GGUF file's header.
    pub fn sketch(
        &self,
        name: &RepoName,
        opens: &dyn Fn(&Path) -> bool,
        cancel: &CancelToken,
    ) -> Result<Sketch, HubError> {
        if self.settings().offline {
            return Err(HubError::Offline { what: name.to_string() });
        }
        let info = self.client.find(name.kind, &name.id, name.revision(), cancel)?;
        let files = self.client.tree(info.kind, &name.id, &info.commit, cancel)?;
        let choice = choose(name, &files, &self.settings().endpoint)?;
        let folder = tempfile::tempdir().map_err(HubError::disk(std::env::temp_dir()))?;
        let is_vindex = choice.files.iter().any(|file| file.path == MANIFEST);
        let mut moved = 0;
        for file in &choice.files {
            let path = folder.path().join(&file.path);
            // Their content is read when a vindex is opened, and nothing depends on it here.
            let skipped = [Component::DownMeta, Component::Labels, Component::KnnStore, Component::History];
            if is_vindex
                && Component::of_file(&file.path).is_none_or(|component| skipped.contains(&component))
            {
                continue;
            }
            super::error::create_folder_of(&path)?;
            moved += self.sketch_file(name, &info, file, &path, opens, cancel)?;
        }
        Ok(Sketch {
            path: choice.opens.map_or(folder.path().to_owned(), |file| folder.path().join(file)),
            commit: info.commit,
            files: choice.files.into_iter().map(|file| (file.path, file.bytes)).collect(),
            moved,
            _folder: folder,
        })
    }

    /// Writes the header of one file; returns the bytes that moved.
    fn sketch_file(
        &self,
        name: &RepoName,
        info: &RepoInfo,
        file: &RemoteFile,
        path: &Path,
        opens: &dyn Fn(&Path) -> bool,
        cancel: &CancelToken,
    ) -> Result<u64, HubError> {
        let ending = file.path.rsplit('.').next().unwrap_or_default();
        let is_vocabulary = ["tokenizer.json", "vocab.json", "tokenizer.model"].contains(&&*file.path);
        let mut moved = 0;
        let mut read = |from: u64, to: u64| {
            let bytes = self.read_range(name, info, file, (from, to.min(file.bytes)), cancel)?;
            moved += bytes.len() as u64;
            Ok::<_, HubError>(bytes)
        };
        match ending {
            "safetensors" => {
                let length = read(0, SAFETENSORS_LENGTH)?;
                let header = length.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                self.check_header(file, header)?;
                write_sparse(path, file.bytes, &[&length[..], &read(8, 8 + header)?[..]].concat())?;
            }
            "gguf" => {
                let mut header = Vec::new();
                let mut wanted = GGUF_HEADER;
                loop {
                    header.extend(read(header.len() as u64, wanted)?);
                    write_sparse(path, file.bytes, &header)?;
                    if header.len() as u64 >= file.bytes || opens(path) {
                        break;
                    }
                    wanted *= 2;
                    self.check_header(file, wanted)?;
                }
            }
            "json" | "jinja" | "txt" if !is_vocabulary && file.bytes <= LARGEST_TEXT => {
                let text = read(0, file.bytes)?;
                let mut digest = FileDigest::of_kind(file);
                digest.update(&text);
                if digest.clone().finish() != file.etag() {
                    let (part, found) = (digest.name(), digest.finish());
                    let (file, expected) = (file.path.clone(), file.etag().to_owned());
                    return Err(HubError::WrongBytes { file, part, expected, found });
                }
                write_sparse(path, file.bytes, &text)?;
            }
            // The header of blocks is in a file of its own.
            "bin" | "weights" => write_sparse(path, file.bytes, &read(0, file.bytes.min(4096))?)?,
            _ => {}
        }
        Ok(moved)
    }

    fn check_header(&self, file: &RemoteFile, bytes: u64) -> Result<(), HubError> {
        match bytes > LARGEST_HEADER {
            true => {
                let what = format!("the header of {}", file.path);
                Err(HubError::TooLarge { what, bytes, limit: LARGEST_HEADER })
            }
            false => Ok(()),
        }
    }

    /// Reads a small file whole.
    pub(super) fn read_file(
        &self,
        name: &RepoName,
        info: &RepoInfo,
        file: &RemoteFile,
        cancel: &CancelToken,
    ) -> Result<Vec<u8>, HubError> {
        if file.bytes > LARGEST_TEXT {
            let (what, bytes) = (file.path.clone(), file.bytes);
            return Err(HubError::TooLarge { what, bytes, limit: LARGEST_TEXT });
        }
        self.read_range(name, info, file, (0, file.bytes), cancel)
    }

    /// Reads the bytes of a file from one position up to another.
    fn read_range(
        &self,
        name: &RepoName,
        info: &RepoInfo,
        file: &RemoteFile,
        (from, to): (u64, u64),
        cancel: &CancelToken,
    ) -> Result<Vec<u8>, HubError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut segments = Vec::new();
        segments.extend((info.kind == RepoKind::Dataset).then_some("datasets"));
        segments.extend(name.id.as_str().split('/').chain(["resolve", &info.commit]));
        segments.extend(file.path.split('/'));
        let mut call = Call::new(Method::GET, self.client.url(segments), format!("reading {}", file.path))
            .about(&name.id)
            .of_file(&info.commit, &file.path)
            .with_header("accept-encoding", "identity")
            .with_header("range", format!("bytes={from}-{}", to - 1));
        let reply = self.client.download(&mut call, cancel)?;
        let is_part = reply.status == StatusCode::PARTIAL_CONTENT;
        let mut body = reply.body.into_reader();
        let failed = |error: std::io::Error| self.client.unreadable(&call, &error.to_string());
        if !is_part {
            // The range was ignored; the connection is dropped after the bytes that are wanted.
            std::io::copy(&mut body.by_ref().take(from), &mut std::io::sink()).map_err(failed)?;
        }
        let mut bytes = Vec::new();
        body.take(to - from).read_to_end(&mut bytes).map_err(failed)?;
        match bytes.len() as u64 == to - from {
            true => Ok(bytes),
            false => Err(self.client.unreadable(&call, "it is shorter than the range that was asked for")),
        }
    }
}

/// Writes a file of `bytes` bytes that begins with `header`; the rest takes no space on disk.
fn write_sparse(path: &Path, bytes: u64, header: &[u8]) -> Result<(), HubError> {
    let write = || {
        let mut file = File::create(path)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(header)?;
        file.set_len(bytes.max(header.len() as u64))
    };
    write().map_err(HubError::disk(path))
}
