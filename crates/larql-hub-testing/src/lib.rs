//! A hub for tests: repositories, uploads and collections on the loopback interface, with faults on demand.
//!
//! It speaks the hub's interface as far as clients of models use it, and is judged by the official client. There are two
//! servers, because files outside of git lie on another origin than the hub: one that knows the owner of a token, and a
//! storage that refuses every token. It knows nothing of other crates, and is no part of the product.
//!
//! ```
//! let hub = larql_hub_testing::TestHub::start();
//! hub.put("alice/model", &[("config.json", b"{}")]);
//! assert!(hub.endpoint().starts_with("http://127.0.0.1:"));
//! assert!(hub.log().is_empty());
//! ```
//!
//! In reading order: `http` (requests and answers, with full control over the bytes, which faults need), `state`
//! (repositories and objects), `fault`, `hub` (the hub's routes), `storage` (the other origin), `xet` (the store of Xet, where there is one).

#![forbid(unsafe_code)]

mod fault;
mod http;
mod hub;
mod state;
mod storage;
mod xet;

pub use fault::{Fault, FaultKind};
pub use http::Logged;

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use fault::Faults;
use http::Log;
use state::{Entry, State};

/// Token of a user who may write to `alice` and `acme`.
pub const ALICE: &str = "hf_alice_may_write";
/// Token of the same user that may only read.
pub const ALICE_READS: &str = "hf_alice_may_read";
/// Token of another user.
pub const BOB: &str = "hf_bob_may_write";

/// A running hub. It ends when the process does.
pub struct TestHub {
    state: Arc<State>,
    hub: SocketAddr,
    storage: SocketAddr,
}

impl TestHub {
    /// Starts a hub without repositories, on free ports.
    ///
    /// # Panics
    /// If the system has no free port or no room for temporary files.
    pub fn start() -> TestHub {
        TestHub::start_at(0)
    }

    /// Starts a hub on a port of 127.0.0.1; 0 is any free one.
    ///
    /// # Panics
    /// If the port is taken.
    pub fn start_at(port: u16) -> TestHub {
        TestHub::start_with_xet(port, None)
    }

    /// As [`start_at`](Self::start_at), with a store of Xet at an address, if there is one: `local_cas_server` of the crate
    /// `xet-client`.
    ///
    /// # Panics
    /// If the port is taken.
    pub fn start_with_xet(port: u16, xet: Option<String>) -> TestHub {
        let bind = |port| TcpListener::bind(("127.0.0.1", port)).expect("a port of the loopback interface");
        let (hub, storage) = (bind(port), bind(0));
        let address = |listener: &TcpListener| listener.local_addr().expect("a listener has an address");
        let (hub_address, storage_address) = (address(&hub), address(&storage));
        let state =
            Arc::new(State::new(format!("http://{hub_address}"), format!("http://{storage_address}"), xet));
        http::serve(hub, "hub", Arc::clone(&state), hub::answer);
        http::serve(storage, "storage", Arc::clone(&state), storage::answer);
        TestHub { state, hub: hub_address, storage: storage_address }
    }

    /// Address of the hub.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    /// Address of the storage.
    pub fn storage(&self) -> String {
        format!("http://{}", self.storage)
    }

    /// Puts files into a public model repository, as a commit. Those that git does not hold go to the storage.
    pub fn put(&self, repo: &str, files: &[(&str, &[u8])]) {
        self.put_kind("models", repo, files);
    }

    /// As [`put`](Self::put), for `models` or `datasets`.
    pub fn put_kind(&self, kind: &str, repo: &str, files: &[(&str, &[u8])]) {
        let entries = files.iter().map(|(path, bytes)| {
            let entry = match state::is_large(path, bytes.len() as u64) {
                true => Entry::Large { sha256: self.state.store(bytes), bytes: bytes.len() as u64 },
                false => Entry::Small(bytes.to_vec()),
            };
            ((*path).to_owned(), Some(entry))
        });
        self.state.change(|data| {
            data.create(kind, repo, false);
            data.commit(kind, repo, "main", "test", entries.collect());
        });
    }

    /// Puts a file of `bytes` bytes that begins with `header` into a public model repository. The rest of it takes no space,
    /// and its SHA-256 is not the right one.
    ///
    /// # Panics
    /// If there is no room for temporary files.
    pub fn put_sparse(&self, repo: &str, path: &str, header: &[u8], bytes: u64) {
        let sha256 = self.state.store_sparse(path, header, bytes);
        let changes = [(path.to_owned(), Some(Entry::Large { sha256, bytes }))];
        self.state.change(|data| {
            data.create("models", repo, false);
            data.commit("models", repo, "main", "test", changes.into());
        });
    }

    /// Puts files into a model repository under names that no client should follow.
    pub fn put_unchecked(&self, repo: &str, path: &str, bytes: &[u8]) {
        self.put(repo, &[(path, bytes)]);
    }

    /// Sets the visibility of a model repository.
    pub fn set_private(&self, repo: &str, private: bool) {
        self.state.change(|data| {
            if let Some(repo) = data.repo_mut("models", repo) {
                repo.private = private;
            }
        });
    }

    /// Has a model repository ask for agreement.
    pub fn set_gated(&self, repo: &str) {
        self.state.change(|data| {
            if let Some(repo) = data.repo_mut("models", repo) {
                repo.gated = true;
            }
        });
    }

    /// The files of a model repository's main branch.
    pub fn files(&self, repo: &str) -> Vec<(String, Vec<u8>)> {
        self.files_of("models", repo)
    }

    /// As [`files`](Self::files), for `models` or `datasets`.
    pub fn files_of(&self, kind: &str, repo: &str) -> Vec<(String, Vec<u8>)> {
        let entries =
            self.state.read(|data| data.repo(kind, repo).map(|repo| repo.tip("main").files.clone()));
        let entries = entries.unwrap_or_default().into_iter();
        entries
            .map(|(path, entry)| match entry {
                Entry::Small(bytes) => (path, bytes),
                Entry::Large { sha256, .. } => (path, self.state.object(&sha256)),
            })
            .collect()
    }

    /// True if a model repository is there and private.
    pub fn is_private(&self, repo: &str) -> Option<bool> {
        self.state.read(|data| data.repo("models", repo).map(|repo| repo.private))
    }

    /// Number of commits of a model repository.
    pub fn commits(&self, repo: &str) -> usize {
        self.state.read(|data| data.repo("models", repo).map_or(0, |repo| repo.commits.len()))
    }

    /// The collections: title and items.
    pub fn collections(&self) -> Vec<(String, Vec<String>)> {
        self.state.read(|data| data.collection_items())
    }

    /// Has the next requests that fit fail in a certain way.
    pub fn fault(&self, fault: Fault) {
        self.faults().add(fault);
    }

    /// Takes back all faults; returns how many had not happened.
    pub fn clear_faults(&self) -> usize {
        self.faults().clear()
    }

    fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// The requests so far, in the order in which they came.
    pub fn log(&self) -> Vec<Logged> {
        self.logged().entries()
    }

    /// Waits until every connection is closed. After the end of a client, all of its requests are then in the log.
    ///
    /// # Panics
    /// If the hub accepts no connection.
    pub fn wait_until_closed(&self) {
        for address in [self.hub, self.storage] {
            // Connections are accepted in order: when this one is closed by the server, all before it are counted.
            let mut connection = TcpStream::connect(address).expect("the hub accepts connections");
            connection.shutdown(Shutdown::Write).expect("the connection is open");
            let _ = connection.read(&mut [0]);
        }
        self.state.connections.wait_until_closed();
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.logged().clear();
    }

    fn logged(&self) -> &Log {
        &self.state.log
    }
}
