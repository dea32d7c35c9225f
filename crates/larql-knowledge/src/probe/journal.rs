//! Journal of probes on disk. A probe that was cancelled continues from it, and one with more facts asks only about those.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::label::AblationKey;
use super::templates::ChosenTemplates;
use super::{ProbeJournal, ProbeOptions, ProbedQuestion};

/// Name of the journal within the vindex.
pub const JOURNAL_FILE: &str = "probe_journal.jsonl";

/// Journal of probes: a line for each result, after a first line with the options.
#[derive(Debug)]
pub struct Journal {
    file: File,
    questions: BTreeMap<(String, String), ProbedQuestion>,
    templates: BTreeMap<String, ChosenTemplates>,
    ablations: BTreeMap<AblationKey, f32>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Options(ProbeOptions),
    Wordings(ChosenTemplates),
    Question(ProbedQuestion),
    Removal(AblationKey, f32),
}

impl Journal {
    /// Opens the journal of a vindex. What earlier probes found counts if their options were the same; a last line that was
    /// cut short is passed over.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(folder: &Path, options: &ProbeOptions) -> std::io::Result<Journal> {
        let path = folder.join(JOURNAL_FILE);
        // Written anew, so that a line that was cut short does not spoil the next one, and put in place of the old one at once.
        let new = folder.join(format!("{JOURNAL_FILE}.partial"));
        let mut journal = Journal {
            file: File::create(&new)?,
            questions: BTreeMap::new(),
            templates: BTreeMap::new(),
            ablations: BTreeMap::new(),
        };
        if let Ok(file) = File::open(&path) {
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            let mut lines = lines.map_while(|line| serde_json::from_str::<Line>(&line).ok());
            if lines.next().is_some_and(|first| matches!(first, Line::Options(found) if found == *options)) {
                lines.for_each(|line| journal.know(line));
            }
        }
        journal.add(&Line::Options(*options))?;
        let known: Vec<Line> = (journal.templates.values().cloned().map(Line::Wordings))
            .chain(journal.questions.values().cloned().map(Line::Question))
            .chain(journal.ablations.iter().map(|(key, drop)| Line::Removal(key.clone(), *drop)))
            .collect();
        known.iter().try_for_each(|line| journal.add(line))?;
        std::fs::rename(&new, &path)?;
        Ok(journal)
    }

    /// Reads a line of an earlier probe.
    fn know(&mut self, line: Line) {
        match line {
            Line::Options(_) => {}
            Line::Wordings(chosen) => {
                self.forget(&chosen.relation);
                self.templates.insert(chosen.relation.clone(), chosen);
            }
            Line::Question(question) => {
                self.questions.insert((question.relation.clone(), question.subject.clone()), question);
            }
            Line::Removal(key, drop) => {
                self.ablations.insert(key, drop);
            }
        }
    }

    /// Forgets what was asked about a relation: it was asked with other templates.
    fn forget(&mut self, relation: &str) {
        self.questions.retain(|(of, _), _| of != relation);
        self.ablations.retain(|key, _| key.relation != relation);
    }

    /// Questions that need not be asked again.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Reports that the journal has no answers of an earlier probe.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    fn add(&mut self, line: &Line) -> std::io::Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(line)?)
    }
}

impl ProbeJournal for Journal {
    fn earlier(&mut self, relation: &str, subject: &str) -> Option<ProbedQuestion> {
        self.questions.get(&(relation.to_owned(), subject.to_owned())).cloned()
    }

    fn keep(&mut self, found: &ProbedQuestion) -> std::io::Result<()> {
        self.add(&Line::Question(found.clone()))
    }

    fn earlier_templates(&mut self, relation: &str) -> Option<ChosenTemplates> {
        self.templates.get(relation).cloned()
    }

    fn keep_templates(&mut self, chosen: &ChosenTemplates) -> std::io::Result<()> {
        self.forget(&chosen.relation);
        self.add(&Line::Wordings(chosen.clone()))
    }

    fn earlier_ablation(&mut self, key: &AblationKey) -> Option<f32> {
        self.ablations.get(key).copied()
    }

    fn keep_ablation(&mut self, key: &AblationKey, drop: f32) -> std::io::Result<()> {
        self.add(&Line::Removal(key.clone(), drop))
    }
}
