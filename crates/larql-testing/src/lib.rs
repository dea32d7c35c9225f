//! Test support of the workspace: test data, seeded noise, and the tables of benchmarks.
//!
//! Test data are files in the repository, and real models that a script puts into the user's cache folder. This crate
//! knows nothing of the meaning of the data, nor of any other crate.
//!
//! ```
//! let folder = larql_testing::repository("conformance");
//! assert!(folder.ends_with("tests/data/conformance"));
//! assert_eq!(larql_testing::noise(3, 7), larql_testing::noise(3, 7));
//! ```
//!
//! In reading order: paths of test data, here; `noise` (values that look random), `table` (figures of a benchmark).

#![forbid(unsafe_code)]

mod noise;
mod table;

pub use noise::noise;
pub use table::Table;

use std::io::Write;
use std::path::{Path, PathBuf};

/// SmolLM2 135M Instruct, Q4_1: Llama architecture, byte-level BPE, chat template.
pub const SMOLLM2: &str = "smollm2-135m-instruct.q4_1.gguf";
/// Gemma 3 270M base, Q4_K_M: SentencePiece.
pub const GEMMA3: &str = "gemma-3-270m.q4_k_m.gguf";

/// A file or folder of the repository's `tests/data`.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(path)
}

/// A file or folder that ships with LARQL, from `crates/larql-assets/data`.
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data").join(path)
}

/// The path of a real model, or `None` after one line that says that the calling test is skipped.
///
/// The line goes straight to standard error, past the capture of the test harness, so that a person who runs the
/// tests sees it and a run that must not skip can look for `skipped:`.
pub fn real_model(file: &str) -> Option<PathBuf> {
    let path = std::env::home_dir()?.join(".cache/larql-test-models").join(file);
    if path.exists() {
        return Some(path);
    }
    let hint = "run `python3 scripts/fetch-models.py` to include it";
    writeln!(std::io::stderr(), "skipped: a test on {file}, which is not there; {hint}").ok()?;
    None
}
