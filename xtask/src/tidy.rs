//! House rules that no compiler checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Failure, circles, wording};

/// Words that no source file of the product may contain, and why.
const FORBIDDEN: [(&str, &str); 3] = [
    ("std::env::var", "behaviour does not hang on environment variables"),
    ("todo!(", "unfinished code does not land"),
    ("allow(unsafe_code)", "unsafe code has one address, larql-compute"),
];

/// The files that may read variables, each those of one convention: `NO_COLOR` and `TERM`, which say how a terminal is to be
/// written to; and the variables of the hub's official client (`HF_HOME`, `HF_TOKEN`, …), which say where models come from and
/// go to, and change nothing that is computed.
const ASK_VARIABLES: [&str; 2] = ["crates/larql-cli/src/output.rs", "crates/larql-cli/src/hub.rs"];

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let metadata = metadata(root)?;
    let mut problems = charters(root, &metadata)?;
    problems.extend(order_of_crates(root, &metadata)?);
    problems.extend(house_rules(root)?);
    problems.extend(circles::problems(root)?);
    if problems.is_empty() {
        return Ok(());
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    Err(format!("{} house rules are broken", problems.len()))
}

fn metadata(root: &Path) -> Result<Value, Failure> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

/// Every library opens with its charter, and `ARCHITECTURE.md` repeats its first sentence.
fn charters(root: &Path, metadata: &Value) -> Result<Vec<String>, Failure> {
    let path = root.join("ARCHITECTURE.md");
    let architecture = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let unwrapped = architecture.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut problems = Vec::new();
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for package in packages(metadata).filter(|p| p["id"].as_str().is_some_and(|id| members.contains(id))) {
        let name = package["name"].as_str().unwrap_or_default();
        let Ok(source) = fs::read_to_string(root.join("crates").join(name).join("src/lib.rs")) else {
            continue;
        };
        let opening: Vec<&str> = source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(str::trim)
            .take_while(|l| !l.is_empty())
            .collect();
        let opening = opening.join(" ");
        let sentence = opening.split_inclusive(". ").next().unwrap_or_default().trim();
        if sentence.is_empty() {
            problems.push(format!("{name}: lib.rs does not open with what the crate is"));
        } else if !unwrapped.contains(sentence) {
            problems.push(format!("ARCHITECTURE.md does not say of {name}: {sentence}"));
        }
    }
    Ok(problems)
}

/// A crate of the product depends only on crates above it in the table of `ARCHITECTURE.md`.
fn order_of_crates(root: &Path, metadata: &Value) -> Result<Vec<String>, Failure> {
    let path = root.join("ARCHITECTURE.md");
    let architecture = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let rows: Vec<&str> = architecture
        .lines()
        .filter_map(|line| line.strip_prefix("| [`")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let row = |name: &str| rows.iter().position(|row| *row == name);
    let mut problems = Vec::new();
    for package in packages(metadata) {
        let Some(own) = package["name"].as_str().and_then(row) else { continue };
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        let below = normal.filter_map(|d| row(d["name"].as_str()?)).filter(|other| *other >= own);
        problems.extend(below.map(|other| {
            format!("{} depends on {}, which is below it in ARCHITECTURE.md", rows[own], rows[other])
        }));
    }
    Ok(problems)
}

fn house_rules(root: &Path) -> Result<Vec<String>, Failure> {
    let mut problems = Vec::new();
    for path in rust_files(&root.join("crates"))? {
        let source = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        for (word, reason) in FORBIDDEN {
            let allowed = word == "std::env::var" && ASK_VARIABLES.iter().any(|file| path.ends_with(file));
            if source.contains(word) && !allowed {
                problems.push(format!("{}: `{word}`: {reason}", path.display()));
            }
        }
        problems.extend(wording::problems(&path, &source));
        let compute = path.starts_with(root.join("crates/larql-compute"));
        if !compute && source.lines().any(|line| line.trim_start().starts_with("unsafe ")) {
            problems.push(format!("{}: unsafe code has one address, larql-compute", path.display()));
        }
    }
    Ok(problems)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
