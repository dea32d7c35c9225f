//! The binary as a user runs it: exit codes, what goes to which stream, and the words.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod bench;
mod build;
mod bundled;
mod conformance;
mod demo;
mod editing;
mod eval;
mod examples;
mod help;
mod hub;
mod killed;
mod label;
mod lql;
mod running;
#[cfg(unix)]
mod terminal;
mod vindexes;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::assert::Assert;

/// A fixture of the repository.
fn fixture(name: &str) -> PathBuf {
    larql_testing::repository("fixtures").join(name)
}

/// `larql` with some arguments, on one thread and away from the user's own models.
fn larql<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(assert_cmd::cargo_bin!("larql"));
    // A file has no room for a cache.
    command.args(arguments).env("XDG_CACHE_HOME", larql_testing::repository("conformance/llama/config.json"));
    // No test asks a server that it did not start.
    command
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("HF_HOME")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_TOKEN");
    command
}

/// `path` as an argument.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The names in a folder, in order; none if there is no such folder.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Standard output of a command.
fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

/// Standard error of a command.
fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// A copy of a fixture in `folder`.
fn copy_of(name: &str, folder: &Path) -> PathBuf {
    let target = folder.join(name);
    std::fs::create_dir(&target).unwrap();
    for file in std::fs::read_dir(fixture(name)).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), target.join(file.file_name())).unwrap();
    }
    target
}
