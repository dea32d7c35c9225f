//! Failures of pulling and publishing.

use std::io;
use std::path::{Path, PathBuf};

use larql_core::progress::Cancelled;
use miette::Diagnostic;

/// Failure to bring a model here, or to publish one.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum HubError {
    /// A text is no name of a repository or file.
    #[error("`{name}` is no name on the hub: {problem}")]
    #[diagnostic(help("write OWNER/NAME, or hf://OWNER/NAME@REVISION for a branch, tag or commit"))]
    BadName {
        /// The text.
        name: String,
        /// The problem.
        problem: String,
    },
    /// The hub may not be asked, and what is needed is not on this machine.
    #[error("{what} is not on this machine, and HF_HUB_OFFLINE is set")]
    #[diagnostic(help("unset HF_HUB_OFFLINE to download it, or give the path of a model that is here"))]
    Offline {
        /// The model or file.
        what: String,
    },
    /// There is no folder to download to.
    #[error("this system has no cache folder for {what}")]
    #[diagnostic(help("set HF_HOME to a folder, or name one with --output"))]
    NoCache {
        /// The model.
        what: String,
    },
    /// The hub has no such repository, or does not show it.
    #[error("{endpoint} has no repository {repo}, or it is private{}", if *has_token { " and not shown to the owner of your token" } else { "" })]
    #[diagnostic(help(
        "check the name at {endpoint}/{repo}; for a private one, set HF_TOKEN to a token of {endpoint}/settings/tokens that may read it"
    ))]
    NoRepo {
        /// The repository.
        repo: String,
        /// The hub.
        endpoint: String,
        /// True if a token was sent.
        has_token: bool,
    },
    /// The repository asks for agreement first.
    #[error("{repo} is shown only to those who accepted its terms")]
    #[diagnostic(help("visit {endpoint}/{repo} to accept them, and set HF_TOKEN to your token"))]
    Gated {
        /// The repository.
        repo: String,
        /// The hub.
        endpoint: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repo} has no revision {revision}")]
    #[diagnostic(help("{endpoint}/{repo}/tree/main lists its branches and tags"))]
    NoRevision {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The hub.
        endpoint: String,
    },
    /// The repository has no such file.
    #[error("{repo} has no file {file}")]
    #[diagnostic(help("{endpoint}/{repo}/tree/main lists its files"))]
    NoFile {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// The hub.
        endpoint: String,
    },
    /// The token is not valid.
    #[error("{endpoint} does not accept the token")]
    #[diagnostic(help("make a new one at {endpoint}/settings/tokens, and set HF_TOKEN to it"))]
    BadToken {
        /// The hub.
        endpoint: String,
    },
    /// Publishing takes a token.
    #[error("publishing takes a token, and none is set")]
    #[diagnostic(help("make one that may write at {endpoint}/settings/tokens, and set HF_TOKEN to it"))]
    NoToken {
        /// The hub.
        endpoint: String,
    },
    /// The token may not do this.
    #[error("{what} is not allowed: {message}")]
    #[diagnostic(help(
        "use a token that may write there; {endpoint}/settings/tokens shows what yours may do"
    ))]
    Forbidden {
        /// The request, in words.
        what: String,
        /// The hub's message.
        message: String,
        /// The hub.
        endpoint: String,
    },
    /// The hub asks to wait longer than this program does.
    #[error("{what}: the hub asks to wait {seconds} s before the next request")]
    #[diagnostic(help("repeat the command then; what was moved is kept"))]
    TooManyRequests {
        /// The request, in words.
        what: String,
        /// The time to wait.
        seconds: u64,
    },
    /// A server does not answer, or stops to.
    #[error("{what}: {host} does not answer: {reason}")]
    #[diagnostic(help("check the connection, and repeat the command; what was moved is kept"))]
    Unreachable {
        /// The request, in words.
        what: String,
        /// The server.
        host: String,
        /// The problem.
        reason: String,
    },
    /// A server refuses.
    #[error("{what}: {host} answered {status}{}", if message.is_empty() { String::new() } else { format!(": {message}") })]
    Refused {
        /// The request, in words.
        what: String,
        /// The server.
        host: String,
        /// Status of the answer.
        status: u16,
        /// The server's message.
        message: String,
    },
    /// Somebody else published at the same time.
    #[error("{repo} was changed by somebody else while this was published")]
    #[diagnostic(help("repeat the command; what was moved is kept"))]
    Overtaken {
        /// The repository.
        repo: String,
    },
    /// An answer is not what the hub's interface says.
    #[error("{what}: the answer of {host} is not that of a hub: {reason}")]
    #[diagnostic(help("check HF_ENDPOINT"))]
    Answer {
        /// The request, in words.
        what: String,
        /// The server.
        host: String,
        /// The problem.
        reason: String,
    },
    /// A repository names a file that may not be written.
    #[error("{repo} has a file that is not downloaded: {problem}")]
    #[diagnostic(help("do not use this repository"))]
    UnsafePath {
        /// The repository.
        repo: String,
        /// The problem.
        problem: String,
    },
    /// The bytes that came are not those that the repository lists.
    #[error("{file} has {part} {found} after the download; expected {expected}")]
    #[diagnostic(help("repeat the command; if it fails again, the server's copy is damaged"))]
    WrongBytes {
        /// The file.
        file: String,
        /// Property that differs.
        part: &'static str,
        /// Its right value.
        expected: String,
        /// The value that was found.
        found: String,
    },
    /// A repository has nothing that is a model.
    #[error("{repo} has neither a vindex nor a model: no index.json, no safetensors and no GGUF file")]
    #[diagnostic(help("`larql hf download {repo}` downloads it as it is"))]
    NoModel {
        /// The repository.
        repo: String,
    },
    /// A repository has several models.
    #[error("{repo} has {} models: {}", files.len(), files.join(", "))]
    #[diagnostic(help("name one, as in hf://{repo}/{}", files.first().map_or("FILE", |file| file)))]
    SeveralModels {
        /// The repository.
        repo: String,
        /// The files.
        files: Vec<String>,
    },
    /// A file is larger than what it is used for may be.
    #[error("{what} has {bytes} bytes, more than the {limit} that are allowed here")]
    TooLarge {
        /// The file.
        what: String,
        /// Its size.
        bytes: u64,
        /// The greatest size.
        limit: u64,
    },
    /// A file to be published is larger than the hub takes.
    #[error("{} has {bytes} bytes, more than the {limit} that the hub takes in one file", path.display())]
    #[diagnostic(help(
        "publish slices without it (--no-full, --slices), or a smaller vindex: `larql convert quantize q4k` makes one"
    ))]
    AboveLimit {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The greatest size.
        limit: u64,
    },
    /// A repository of the cache cannot be removed now.
    #[error("{repo} is being downloaded, or removed, by another process")]
    #[diagnostic(help("wait until that is done, or stop it"))]
    Busy {
        /// The repository.
        repo: String,
    },
    /// A file to be published is not as its manifest says.
    #[error("{} has changed since the vindex was made", path.display())]
    #[diagnostic(help("`larql verify` compares every file; publish a vindex whose files are sound"))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A published repository is not what was to be published.
    #[error("{repo} does not hold what its manifest lists: {problem}")]
    #[diagnostic(help("publish it again; it stays private until it is whole"))]
    NotWhole {
        /// The repository.
        repo: String,
        /// The first problem.
        problem: String,
    },
    /// A model card is not accepted.
    #[error("the model card of {repo} is not valid: {problem}")]
    BadCard {
        /// The repository.
        repo: String,
        /// The problem.
        problem: String,
    },
    /// A file of this machine could not be read or written.
    #[error("{}: {source}", path.display())]
    #[diagnostic(help("{}", disk_help(source)))]
    Disk {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The work was cancelled.
    #[error("interrupted; what was moved is kept, and the same command goes on")]
    Cancelled,
}

impl HubError {
    pub(crate) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> HubError {
        let path = path.into();
        move |source| HubError::Disk { path, source }
    }

    /// Returns true if the hub has nothing of that name, or does not show it.
    pub fn is_absence(&self) -> bool {
        matches!(self, HubError::NoRepo { .. } | HubError::NoRevision { .. } | HubError::NoFile { .. })
    }
}

impl From<Cancelled> for HubError {
    fn from(_: Cancelled) -> HubError {
        HubError::Cancelled
    }
}

fn disk_help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room and repeat the command; what was moved is kept"
        }
        io::ErrorKind::PermissionDenied => "make it writable, or name another folder: HF_HOME, --output",
        _ => "check the path",
    }
}

/// Creates the folder of a file.
pub(crate) fn create_folder_of(path: &Path) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(HubError::disk(folder))
}
