//! Journal of a probe on disk, from which a probe that was cancelled continues.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use larql_core::facts::Facts;

use super::{ProbeJournal, ProbeOptions, ProbedQuestion};

/// Name of the journal within the vindex.
const JOURNAL_FILE: &str = "probe.partial.jsonl";

/// Answers of a probe that is not finished. The first line of the file says what was asked with which options; a line for
/// each question follows.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    earlier: HashMap<(String, String), ProbedQuestion>,
}

impl Journal {
    /// Opens the journal of a vindex. What an earlier probe kept counts if it asked about the same facts with the same
    /// options; a last line that was cut short is passed over.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(folder: &Path, facts: &Facts, options: &ProbeOptions) -> std::io::Result<Journal> {
        let path = folder.join(JOURNAL_FILE);
        let header = serde_json::json!({ "options": options, "facts": facts.digest() }).to_string();
        let mut lines = Vec::new();
        if let Ok(file) = File::open(&path) {
            let mut all = BufReader::new(file).lines();
            if all.next().and_then(Result::ok).is_some_and(|first| first == header) {
                lines = all.map_while(Result::ok).collect();
            }
        }
        let found = lines.iter().filter_map(|line| serde_json::from_str::<ProbedQuestion>(line).ok());
        let earlier: HashMap<_, _> = found.map(|q| ((q.relation.clone(), q.subject.clone()), q)).collect();
        // Written anew, so that a line that was cut short does not spoil the next one.
        let mut file = File::create(&path)?;
        writeln!(file, "{header}")?;
        for question in earlier.values() {
            writeln!(file, "{}", serde_json::to_string(question)?)?;
        }
        Ok(Journal { path, file, earlier })
    }

    /// Questions that need not be asked again.
    pub fn len(&self) -> usize {
        self.earlier.len()
    }

    /// Reports that the journal has no answers of an earlier probe.
    pub fn is_empty(&self) -> bool {
        self.earlier.is_empty()
    }

    /// Removes the journal of a probe that is finished.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn finish(self) -> std::io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

impl ProbeJournal for Journal {
    fn earlier(&mut self, relation: &str, subject: &str) -> Option<ProbedQuestion> {
        self.earlier.get(&(relation.to_owned(), subject.to_owned())).cloned()
    }

    fn keep(&mut self, found: &ProbedQuestion) -> std::io::Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(found)?)
    }
}
