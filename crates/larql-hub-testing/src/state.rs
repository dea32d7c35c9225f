//! Repositories, objects and collections.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::fault::Faults;
use crate::http::{Connections, Log};
use crate::xet;

/// Largest file that a commit may hold inline.
pub(crate) const LARGEST_INLINE: u64 = 10 << 20;
/// Endings of files that go to the storage whatever their size.
const LARGE_ENDINGS: [&str; 4] = [".bin", ".safetensors", ".gguf", ".weights"];

/// True if a file goes to the storage.
pub(crate) fn is_large(path: &str, bytes: u64) -> bool {
    bytes > 0 && (bytes > LARGEST_INLINE || LARGE_ENDINGS.iter().any(|ending| path.ends_with(ending)))
}

/// All that the servers know.
pub(crate) struct State {
    pub(crate) endpoint: String,
    pub(crate) storage: String,
    /// Address of Xet's store, if the hub uses one.
    pub(crate) xet: Option<String>,
    /// Xet's digests of files by SHA-256.
    xet_digests: Mutex<BTreeMap<String, String>>,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) connections: Connections,
    data: Mutex<Data>,
    objects: TempDir,
    number: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Data {
    repos: BTreeMap<(String, String), Repo>,
    pub(crate) collections: Vec<Collection>,
    numbers: u64,
}

/// A repository.
pub(crate) struct Repo {
    pub(crate) private: bool,
    pub(crate) gated: bool,
    pub(crate) commits: Vec<Commit>,
    /// Branches and tags, by name.
    pub(crate) branches: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// A commit with all of its files.
#[derive(Clone)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) files: BTreeMap<String, Entry>,
}

/// A file.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// In git.
    Small(Vec<u8>),
    /// In the storage.
    Large { sha256: String, bytes: u64 },
}

pub(crate) struct Collection {
    pub(crate) slug: String,
    pub(crate) title: String,
    pub(crate) owner: String,
    pub(crate) private: bool,
    pub(crate) description: Value,
    /// Number, id, type and note.
    pub(crate) items: Vec<(String, String, String, Value)>,
}

impl Entry {
    /// Digest in git, of the file or of the pointer that stands for it.
    pub(crate) fn blob(&self) -> String {
        match self {
            Entry::Small(bytes) => blob_of(bytes),
            Entry::Large { sha256, bytes } => blob_of(pointer(sha256, *bytes).as_bytes()),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Entry::Small(bytes) => bytes.len() as u64,
            Entry::Large { bytes, .. } => *bytes,
        }
    }

    pub(crate) fn etag(&self) -> String {
        match self {
            Entry::Small(_) => self.blob(),
            Entry::Large { sha256, .. } => sha256.clone(),
        }
    }

    /// The file as listings show it.
    pub(crate) fn listed(&self, path: &str, state: &State) -> Value {
        let mut entry = json!({"type": "file", "path": path, "size": self.bytes(), "oid": self.blob()});
        if let Entry::Large { sha256, bytes } = self {
            entry["lfs"] =
                json!({"oid": sha256, "size": bytes, "pointerSize": pointer(sha256, *bytes).len()});
            if let Some(digest) = state.xet_digest(sha256) {
                entry["xetHash"] = digest.into();
            }
        }
        entry
    }
}

fn pointer(sha256: &str, bytes: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {bytes}\n")
}

pub(crate) fn blob_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

pub(crate) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Repo {
    /// The commit that a revision means.
    pub(crate) fn commit(&self, revision: &str) -> Option<&Commit> {
        let id =
            self.branches.get(revision).or_else(|| self.tags.get(revision)).map_or(revision, String::as_str);
        self.commits.iter().find(|commit| commit.id == id)
    }

    /// The latest commit of a branch, which is there from the beginning.
    pub(crate) fn tip(&self, branch: &str) -> &Commit {
        self.commit(branch).unwrap_or(&self.commits[0])
    }
}

impl Data {
    pub(crate) fn repo(&self, kind: &str, id: &str) -> Option<&Repo> {
        self.repos.get(&(kind.to_owned(), id.to_owned()))
    }

    pub(crate) fn repo_mut(&mut self, kind: &str, id: &str) -> Option<&mut Repo> {
        self.repos.get_mut(&(kind.to_owned(), id.to_owned()))
    }

    /// Makes a repository; false if it is there.
    pub(crate) fn create(&mut self, kind: &str, id: &str, private: bool) -> bool {
        if self.repo(kind, id).is_some() {
            return false;
        }
        let lines: Vec<String> = LARGE_ENDINGS
            .iter()
            .map(|ending| format!("*{ending} filter=lfs diff=lfs merge=lfs -text\n"))
            .collect();
        let attributes = Entry::Small(lines.concat().into_bytes());
        let id_of_first = self.number();
        let first = Commit {
            id: id_of_first.clone(),
            title: "initial commit".to_owned(),
            files: BTreeMap::from([(".gitattributes".to_owned(), attributes)]),
        };
        let branches = BTreeMap::from([("main".to_owned(), id_of_first)]);
        let repo = Repo { private, gated: false, commits: vec![first], branches, tags: BTreeMap::new() };
        self.repos.insert((kind.to_owned(), id.to_owned()), repo);
        true
    }

    pub(crate) fn delete(&mut self, kind: &str, id: &str) -> bool {
        self.repos.remove(&(kind.to_owned(), id.to_owned())).is_some()
    }

    /// Adds a commit; absent entries are deletions.
    pub(crate) fn commit(
        &mut self,
        kind: &str,
        id: &str,
        branch: &str,
        title: &str,
        changes: BTreeMap<String, Option<Entry>>,
    ) -> Option<String> {
        let commit_id = self.number();
        let repo = self.repo_mut(kind, id)?;
        let mut files = repo.commit(branch)?.files.clone();
        for (path, entry) in changes {
            match entry {
                Some(entry) => drop(files.insert(path, entry)),
                None => drop(files.remove(&path)),
            }
        }
        repo.commits.push(Commit { id: commit_id.clone(), title: title.to_owned(), files });
        repo.branches.insert(branch.to_owned(), commit_id.clone());
        Some(commit_id)
    }

    /// A number of 40 hexadecimal digits that was not given before.
    pub(crate) fn number(&mut self) -> String {
        self.numbers += 1;
        hexadecimal(&Sha1::digest(self.numbers.to_le_bytes()))
    }

    pub(crate) fn collection_items(&self) -> Vec<(String, Vec<String>)> {
        let items = |collection: &Collection| collection.items.iter().map(|(_, id, ..)| id.clone()).collect();
        self.collections.iter().map(|collection| (collection.title.clone(), items(collection))).collect()
    }
}

impl State {
    pub(crate) fn new(endpoint: String, storage: String, xet: Option<String>) -> State {
        State {
            endpoint,
            storage,
            xet,
            xet_digests: Mutex::default(),
            faults: Faults::default(),
            log: Log::default(),
            connections: Connections::default(),
            data: Mutex::default(),
            objects: tempfile::tempdir().expect("room for temporary files"),
            number: AtomicU64::new(0),
        }
    }

    pub(crate) fn read<T>(&self, ask: impl FnOnce(&Data) -> T) -> T {
        ask(&self.data.lock().expect("no holder panics"))
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Data) -> T) -> T {
        change(&mut self.data.lock().expect("no holder panics"))
    }

    /// The file of an object that is whole.
    pub(crate) fn object_path(&self, sha256: &str) -> PathBuf {
        self.objects.path().join(sha256)
    }

    pub(crate) fn has_object(&self, sha256: &str) -> bool {
        self.object_path(sha256).is_file()
    }

    /// Xet's digest of a file, if Xet has it.
    pub(crate) fn xet_digest(&self, sha256: &str) -> Option<String> {
        self.xet_digests.lock().expect("no holder panics").get(sha256).cloned()
    }

    /// Puts the files that came to Xet's store since the last time into the storage, where clients without Xet find them.
    pub(crate) fn take_from_xet(&self) {
        let Some(store) = &self.xet else { return };
        let mut known = self.xet_digests.lock().expect("no holder panics");
        for digest in xet::files(store) {
            if !known.values().any(|other| *other == digest) {
                let sha256 = self.store(&xet::read(store, &digest));
                known.insert(sha256, digest);
            }
        }
    }

    pub(crate) fn object(&self, sha256: &str) -> Vec<u8> {
        fs::read(self.object_path(sha256)).unwrap_or_default()
    }

    /// A file for bytes that are not whole yet.
    pub(crate) fn part_path(&self, name: &str) -> PathBuf {
        self.objects.path().join(format!("part-{name}"))
    }

    /// A file of its own for one upload.
    pub(crate) fn fresh_path(&self) -> PathBuf {
        self.part_path(&format!("new-{}", self.number.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn store(&self, bytes: &[u8]) -> String {
        let sha256 = hexadecimal(&Sha256::digest(bytes));
        fs::write(self.object_path(&sha256), bytes).expect("room for temporary files");
        sha256
    }

    /// Stores a file of which only the beginning has bytes, under the digest of its name.
    pub(crate) fn store_sparse(&self, name: &str, header: &[u8], bytes: u64) -> String {
        let sha256 = hexadecimal(&Sha256::digest(name));
        let path = self.object_path(&sha256);
        fs::write(&path, header).expect("room for temporary files");
        let file = fs::File::options().write(true).open(path);
        file.and_then(|file| file.set_len(bytes)).expect("room for temporary files");
        sha256
    }

    /// Changes the main branch of the repository that a path of the hub is about.
    pub(crate) fn move_main(&self, segments: &[String], path: &str, bytes: &[u8]) {
        let position = segments.iter().position(|part| part == "models").map_or(0, |at| at + 1);
        if let [owner, name, ..] = &segments[position..] {
            let entry = match is_large(path, bytes.len() as u64) {
                true => Entry::Large { sha256: self.store(bytes), bytes: bytes.len() as u64 },
                false => Entry::Small(bytes.to_vec()),
            };
            let changes = BTreeMap::from([(path.to_owned(), Some(entry))]);
            self.change(|data| data.commit("models", &format!("{owner}/{name}"), "main", "moved", changes));
        }
    }
}
