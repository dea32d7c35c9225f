//! Names of repositories on the hub, and of what is in them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::HubError;

/// Beginning of addresses on the hub.
pub(crate) const SCHEME: &str = "hf://";
/// Revision that is meant where none is given.
pub(crate) const MAIN: &str = "main";
/// Longest part of a repository's name.
const LONGEST: usize = 96;

/// Kind of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RepoKind {
    /// A model, vindexes included.
    Model,
    /// A data set; vindexes of earlier releases are published as such.
    Dataset,
}

impl RepoKind {
    /// Every kind, most likely one first.
    pub const ALL: [RepoKind; 2] = [RepoKind::Model, RepoKind::Dataset];

    /// The word in routes and folder names.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        }
    }

    /// The word in the bodies of requests.
    pub fn name(self) -> &'static str {
        match self {
            RepoKind::Model => "model",
            RepoKind::Dataset => "dataset",
        }
    }
}

impl FromStr for RepoKind {
    type Err = String;

    fn from_str(word: &str) -> Result<RepoKind, String> {
        let named = RepoKind::ALL.into_iter().find(|kind| kind.name() == word);
        named.ok_or_else(|| format!("`{word}` is no kind of repository; write model or dataset"))
    }
}

/// `owner/name` of a repository, or `name` of an old one without owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RepoId(String);

impl RepoId {
    /// Checks a name.
    ///
    /// # Errors
    /// [`HubError::BadName`] says what is wrong with it.
    pub fn new(text: &str) -> Result<RepoId, HubError> {
        let bad = |problem: &str| HubError::BadName { name: text.to_owned(), problem: problem.to_owned() };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 2 {
            return Err(bad("it has more than one slash"));
        }
        for part in parts {
            if part.is_empty() || part.len() > LONGEST {
                return Err(bad(&format!("each part has 1 to {LONGEST} characters")));
            }
            let is_known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if let Some(other) = part.chars().find(|c| !is_known(*c)) {
                return Err(bad(&format!("{other:?} is none of letters, digits, `_`, `.` and `-`")));
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return Err(bad("no part begins or ends with `-` or `.`"));
            }
            if part.contains("--") || part.contains("..") || part.ends_with(".git") {
                return Err(bad("no part has `--` or `..` in it or ends in `.git`"));
            }
        }
        Ok(RepoId(text.to_owned()))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the slash, if there is one.
    pub fn owner(&self) -> Option<&str> {
        self.0.split_once('/').map(|(owner, _)| owner)
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The name of its folder in the cache.
    pub(crate) fn folder(&self, kind: RepoKind) -> String {
        format!("{}--{}", kind.plural(), self.0.replace('/', "--"))
    }

    /// The repository that has a folder in the cache.
    pub(crate) fn of_folder(folder: &str) -> Option<(RepoKind, RepoId)> {
        let (plural, name) = folder.split_once("--")?;
        let kind = RepoKind::ALL.into_iter().find(|kind| kind.plural() == plural)?;
        RepoId::new(&name.replacen("--", "/", 1)).ok().map(|id| (kind, id))
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository as people name it: `[hf://][datasets/]OWNER/NAME[@REVISION][/FILE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoName {
    /// The kind, where the name says so.
    pub kind: Option<RepoKind>,
    /// `owner/name`.
    pub id: RepoId,
    /// Branch, tag or commit.
    pub revision: Option<String>,
    /// A file in it.
    pub file: Option<String>,
}

impl RepoName {
    /// The revision; the main branch where none is given.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// Returns a name of the main branch of a repository.
    pub fn of(id: RepoId) -> RepoName {
        RepoName { kind: None, id, revision: None, file: None }
    }

    /// Returns true if a text begins as addresses on the hub do.
    pub fn is_address(text: &str) -> bool {
        text.starts_with(SCHEME)
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        match (self.kind, self.id.owner()) {
            (Some(RepoKind::Dataset), _) => f.write_str("datasets/")?,
            // An owner of such a name would be read as the kind.
            (_, Some("models" | "datasets")) => f.write_str("models/")?,
            _ => {}
        }
        write!(f, "{}", self.id)?;
        if let Some(revision) = &self.revision {
            f.write_str("@")?;
            match is_hub_reference(revision) {
                true => f.write_str(revision)?,
                false => f.write_str(&revision.replace('/', "%2F"))?,
            }
        }
        self.file.iter().try_for_each(|file| write!(f, "/{file}"))
    }
}

/// Returns true for the names that the hub gives itself, such as `refs/pr/1`; their slashes are written as they are.
fn is_hub_reference(revision: &str) -> bool {
    revision.starts_with("refs/") && revision.matches('/').count() == 2
}

impl FromStr for RepoName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<RepoName, HubError> {
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let (kind, rest) = match rest.split_once('/') {
            Some(("models", rest)) => (Some(RepoKind::Model), rest),
            Some(("datasets", rest)) => (Some(RepoKind::Dataset), rest),
            _ => (None, rest),
        };
        let bad = |problem: &str| HubError::BadName { name: text.to_owned(), problem: problem.to_owned() };
        let (id, revision, file) = match rest.split_once('@') {
            Some((id, rest)) => {
                // A branch's own slashes are written %2F, except in the names that the hub gives itself.
                let segments = if rest.starts_with("refs/") { 3 } else { 1 };
                let end = rest.match_indices('/').nth(segments - 1).map_or(rest.len(), |(at, _)| at);
                let (revision, file) = rest.split_at(end);
                (id, Some(revision.replace("%2F", "/").replace("%2f", "/")), file.strip_prefix('/'))
            }
            None => match rest.match_indices('/').nth(1) {
                Some((at, _)) => (&rest[..at], None, Some(&rest[at + 1..])),
                None => (rest, None, None),
            },
        };
        if revision.as_deref() == Some("") {
            return Err(bad("nothing follows the `@`"));
        }
        let file = file.filter(|file| !file.is_empty()).map(str::to_owned);
        if let Some(file) = &file {
            check_path(file).map_err(|problem| bad(&problem))?;
        }
        Ok(RepoName { kind, id: RepoId::new(id)?, revision, file })
    }
}

/// Checks a path in a repository, so that it stays inside of any folder that it is appended to.
///
/// # Errors
/// The problem, as a clause.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    let is_bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.ends_with(['\n', '\r']);
    if path.split('/').any(is_bad) {
        return Err(format!("`{path}` is no path of a file inside of the repository"));
    }
    // On Windows these leave the folder as well.
    if path.contains(['\\', '\0', ':']) {
        return Err(format!("`{path}` has characters that no file name may have"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_kind_revision_and_file() {
        let name = |text: &str| text.parse::<RepoName>().unwrap();
        let plain = name("owner/name");
        assert_eq!((plain.kind, plain.id.as_str(), plain.revision()), (None, "owner/name", "main"));
        assert_eq!((plain.id.owner(), plain.id.name()), (Some("owner"), "name"));
        let full = name("hf://datasets/owner/name@v1.0/a/b.gguf");
        assert_eq!(
            (full.kind, full.revision(), full.file.as_deref()),
            (Some(RepoKind::Dataset), "v1.0", Some("a/b.gguf"))
        );
        assert_eq!(full.to_string(), "hf://datasets/owner/name@v1.0/a/b.gguf");
        assert_eq!(name("hf://owner/name@feat%2Fx").revision(), "feat/x");
        assert_eq!(name("hf://owner/name@refs/pr/3/a.bin").file.as_deref(), Some("a.bin"));
        assert_eq!(name("hf://owner/name/a.bin").file.as_deref(), Some("a.bin"));
        assert_eq!(name("gpt2").id.owner(), None);
        assert_eq!(name("models/models/x").to_string(), "hf://models/models/x");
    }

    #[test]
    fn names_are_written_as_they_are_read() {
        for text in [
            "o/n@feat%2Fx/a.bin",
            "o/n@refs/pr/3/a.bin",
            "o/n@refs%2Fa",
            "o/n@refs/a/b%2Fc/d",
            "n@h%2fy:0\0/a",
        ] {
            let name: RepoName = text.parse().unwrap();
            assert_eq!(name.to_string().parse::<RepoName>().unwrap(), name, "{text} was written as {name}");
        }
        assert_eq!("o/n@feat/x".parse::<RepoName>().unwrap().to_string(), "hf://o/n@feat/x");
        assert_eq!("o/n@feat%2Fx".parse::<RepoName>().unwrap().to_string(), "hf://o/n@feat%2Fx");
    }

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        for bad in [
            "",
            "owner/",
            "/name",
            "owner//name",
            "-o/n",
            "o/n.",
            "o/a--b",
            "o/a..b",
            "o/n.git",
            "o/n m",
            "o/ü",
            "o/n@",
            "hf://",
            "hf://o/n/../../etc/passwd",
            "hf://o/n@main/a//b",
            "hf://o/n/C:x",
            "hf://o/n/a\\b",
        ] {
            let error = bad.parse::<RepoName>().unwrap_err();
            assert!(matches!(error, HubError::BadName { .. }), "{bad}: {error}");
        }
        assert!(RepoId::new(&format!("o/{}", "n".repeat(97))).is_err());
    }

    #[test]
    fn folders_of_the_cache_name_their_repository() {
        let id = RepoId::new("owner/a-b_c.d").unwrap();
        assert_eq!(id.folder(RepoKind::Dataset), "datasets--owner--a-b_c.d");
        assert_eq!(RepoId::of_folder("datasets--owner--a-b_c.d"), Some((RepoKind::Dataset, id)));
        assert_eq!(RepoId::of_folder("models--gpt2").unwrap().1.as_str(), "gpt2");
        for other in ["blobs", ".locks", "kernels--o--n", "models--"] {
            assert_eq!(RepoId::of_folder(other), None);
        }
    }
}
