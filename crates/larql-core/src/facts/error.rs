//! Faults of fact tables.

use std::path::PathBuf;

use super::wording::SUBJECT;

/// Fault of fact tables.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// `relations.json` is not of its form.
    #[error("{}: expected relations with their wordings, found: {source}", path.display())]
    Relations {
        /// The file.
        path: PathBuf,
        /// The JSON reader's error.
        source: serde_json::Error,
    },
    /// A JSON file has no pairs of words.
    #[error("{}: expected pairs of words by relation, found: {source}", path.display())]
    Pairs {
        /// The file.
        path: PathBuf,
        /// The JSON reader's error.
        source: serde_json::Error,
    },
    /// A line of a table is not a fact.
    #[error(
        "{}, line {line}: expected subject, relation and object with a tab between them, found `{found}`",
        path.display()
    )]
    Line {
        /// The table.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The line.
        found: String,
    },
    /// A wording has no place for the entity.
    #[error("{}: the wording `{wording}` of {relation} has no `{SUBJECT}`", path.display())]
    Wording {
        /// The file.
        path: PathBuf,
        /// The relation.
        relation: String,
        /// Its wording.
        wording: String,
    },
}
