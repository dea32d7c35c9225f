//! Pull and publish against a hub on the loopback interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod library;
mod publish;
mod pull;
mod refusals;
#[cfg(feature = "xet")]
mod xet;

use std::path::Path;
use std::time::Duration;

use larql_hub::{Hub, HubSettings, Pulled, RepoName, Token, Wanted};
use larql_hub_testing::{ALICE, Logged, TestHub};

/// Settings of a client that repeats at once, and waits for answers as long as a busy machine may take.
fn settings(server: &TestHub, cache: &Path) -> HubSettings {
    HubSettings {
        pauses: vec![Duration::from_millis(5); 5],
        stall: Duration::from_secs(20),
        answer: Duration::from_secs(20),
        longest_pause: Duration::from_secs(2),
        token: Token::new(ALICE),
        ..HubSettings::new(&server.endpoint(), Some(cache.into()))
    }
}

fn client(server: &TestHub, cache: &Path) -> Hub {
    Hub::new(settings(server, cache)).unwrap()
}

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

/// A client that waits only briefly if a fault is that nothing comes.
fn client_for(what: &str, server: &TestHub, cache: &Path) -> Hub {
    let nothing_comes = ["stalled", "no answer", "never answered"].iter().any(|words| what.contains(words));
    let patience = Duration::from_millis(if nothing_comes { 500 } else { 20_000 });
    Hub::new(HubSettings { stall: patience, answer: patience, ..settings(server, cache) }).unwrap()
}

/// Downloads a model into the cache.
fn pull(hub: &Hub, text: &str) -> Result<Pulled, larql_hub::HubError> {
    hub.pull(&name(text), Wanted::Model, None, &larql_core::progress::NoProgress)
}

/// Bytes that look random.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

/// Every file in a folder, by path, links followed; without notes of clients.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if name == ".cache" {
                continue;
            }
            match entry.path().is_dir() {
                true => folders.push((entry.path(), format!("{name}/"))),
                false => found.push((name, std::fs::read(entry.path()).unwrap())),
            }
        }
    }
    found.sort();
    found
}

/// Bytes of bodies that the storage sent.
fn sent(log: &[Logged]) -> u64 {
    log.iter().filter(|entry| entry.server == "storage").map(|entry| entry.sent).sum()
}

/// No token went to the storage, and none of another owner anywhere.
fn check_tokens(log: &[Logged]) {
    let stray = log.iter().find(|entry| entry.server == "storage" && entry.token.is_some());
    assert_eq!(stray, None);
}
