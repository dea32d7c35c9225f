//! Models written as checkpoints, and read again.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod gguf;
mod safetensors;

use std::path::PathBuf;

/// The folders of the conformance set.
fn folders() -> Vec<PathBuf> {
    let set = larql_testing::repository("conformance");
    let entries = std::fs::read_dir(set).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("config.json").is_file()).collect();
    folders.sort();
    folders
}
