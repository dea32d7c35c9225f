//! Reading a repository: its commit and its files.

use larql_core::progress::CancelToken;
use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::client::{Call, Client};
use super::repo::check_path;
use super::{HubError, RepoId, RepoKind};

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoInfo {
    /// Its kind.
    pub kind: RepoKind,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// True if only some people see it.
    pub private: bool,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Git's digest of it, SHA-1; that of a pointer for files outside of git.
    pub blob: String,
    /// SHA-256 of files outside of git.
    pub sha256: Option<String>,
    /// Xet's digest of files that are stored with it.
    pub xet: Option<String>,
}

impl RemoteFile {
    /// The digest that names the file in the cache: what the hub gives as its `ETag`.
    pub fn etag(&self) -> &str {
        self.sha256.as_deref().unwrap_or(&self.blob)
    }
}

#[derive(Deserialize)]
struct InfoAnswer {
    sha: String,
    #[serde(default)]
    private: bool,
}

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LfsEntry>,
    #[serde(default, rename = "xetHash")]
    xet: Option<String>,
}

#[derive(Deserialize)]
struct LfsEntry {
    oid: String,
    size: u64,
}

/// True if a text is a whole digest of so many hexadecimal digits.
pub(crate) fn is_digest(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Client {
    /// Asks for the commit of a revision.
    pub(crate) fn info(
        &self,
        kind: RepoKind,
        id: &RepoId,
        revision: &str,
        cancel: &CancelToken,
    ) -> Result<RepoInfo, HubError> {
        let segments = ["api", kind.plural()].into_iter().chain(id.as_str().split('/'));
        let url = self.url(segments.chain(["revision", revision]));
        let call = Call::new(Method::GET, url, format!("looking up {id}")).about(id).of_file(revision, "");
        let answer: InfoAnswer = self.json(call, cancel)?;
        if !is_digest(&answer.sha, 40) {
            let call = Call::new(Method::GET, self.url([]), format!("looking up {id}"));
            return Err(self.unreadable(&call, "the commit is not 40 hexadecimal digits"));
        }
        Ok(RepoInfo { kind, commit: answer.sha, private: answer.private })
    }

    /// Asks for the commit of a revision, of a model or else of a data set unless the kind is known.
    pub(crate) fn find(
        &self,
        kind: Option<RepoKind>,
        id: &RepoId,
        revision: &str,
        cancel: &CancelToken,
    ) -> Result<RepoInfo, HubError> {
        if let Some(kind) = kind {
            return self.info(kind, id, revision, cancel);
        }
        match self.info(RepoKind::Model, id, revision, cancel) {
            // The first error is the one that people understand.
            Err(absent @ HubError::NoRepo { .. }) => {
                self.info(RepoKind::Dataset, id, revision, cancel).or(Err(absent))
            }
            found => found,
        }
    }

    /// Lists all files at a commit.
    pub(crate) fn tree(
        &self,
        kind: RepoKind,
        id: &RepoId,
        commit: &str,
        cancel: &CancelToken,
    ) -> Result<Vec<RemoteFile>, HubError> {
        let segments = ["api", kind.plural()].into_iter().chain(id.as_str().split('/'));
        let mut url = self.url(segments.chain(["tree", commit]));
        url.set_query(Some("recursive=true"));
        let mut files = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next {
            let what = format!("listing the files of {id}");
            let call = Call::new(Method::GET, url, &*what).about(id).of_file(commit, "");
            let (page, following): (Value, _) = self.json_page(call, cancel)?;
            files.extend(
                parse_tree(page).map_err(|problem| HubError::UnsafePath { repo: id.to_string(), problem })?,
            );
            next = following;
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

/// Reads one page of a listing, and checks all that paths and names in the cache are made of.
///
/// # Errors
/// The problem, as a clause.
pub fn parse_tree(page: Value) -> Result<Vec<RemoteFile>, String> {
    let entries: Vec<TreeEntry> = serde_json::from_value(page).map_err(|error| error.to_string())?;
    let files = entries.into_iter().filter(|entry| entry.kind == "file");
    files
        .map(|TreeEntry { path, size, oid, lfs, xet, .. }| {
            check_path(&path)?;
            if !is_digest(&oid, 40) && lfs.is_none() {
                return Err(format!("the digest of `{path}` is not 40 hexadecimal digits"));
            }
            let (bytes, sha256) = match lfs {
                Some(lfs) if !is_digest(&lfs.oid, 64) => {
                    return Err(format!("the SHA-256 of `{path}` is not 64 hexadecimal digits"));
                }
                Some(lfs) => (lfs.size, Some(lfs.oid)),
                None => (size, None),
            };
            // A file can be had without it.
            let xet = xet.filter(|digest| sha256.is_some() && is_digest(digest, 64));
            Ok(RemoteFile { path, bytes, blob: oid, sha256, xet })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn listings_are_checked_where_they_enter() {
        let (blob, sha) = ("a".repeat(40), "b".repeat(64));
        let files = parse_tree(json!([
            {"type": "directory", "path": "layers", "oid": blob},
            {"type": "file", "path": "layers/a.bin", "size": 130, "oid": blob, "xetHash": sha,
             "lfs": {"oid": sha, "size": 9, "pointerSize": 130}},
            {"type": "file", "path": "index.json", "size": 2, "oid": blob, "xetHash": "../x"},
        ]));
        let files = files.unwrap();
        assert_eq!((files[0].bytes, files[0].etag()), (9, &*sha));
        assert_eq!((files[1].bytes, files[1].etag()), (2, &*blob));
        assert_eq!((files[0].xet.as_deref(), files[1].xet.as_deref()), (Some(&*sha), None));
        let file = |path: &str, oid: &str| {
            parse_tree(json!([{"type": "file", "path": path, "size": 1, "oid": oid}]))
        };
        for path in ["../x", "/etc/passwd", "a/../../b", "a\\b", "C:x", "a//b", "."] {
            assert!(file(path, &blob).unwrap_err().contains("file"), "{path}");
        }
        assert!(file("x", "../../../../tmp/x").is_err());
        assert!(parse_tree(json!({"error": "x"})).is_err());
    }
}
