//! Plan of a probe: the facts that it is about, and the subjects that it may learn from.

use std::collections::BTreeSet;
use std::path::Path;

use larql_core::facts::Facts;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::store::{json, read_optional, replace};
use crate::ProbeFileError;

/// File of what a probe was about.
pub const FACTS_FILE: &str = "probe_facts.json";

/// Options of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeOptions {
    /// The share of subjects that are held out.
    pub hold_out: f64,
    /// Wordings of a relation that are used.
    pub wordings: usize,
    /// Decides which subjects are held out.
    pub seed: u64,
}

impl Default for ProbeOptions {
    /// One subject in five is held out, and three wordings are used.
    fn default() -> Self {
        ProbeOptions { hold_out: 0.2, wordings: 3, seed: 0 }
    }
}

/// Facts that a probe is about, and the subjects that it learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbePlan {
    /// All facts, those about subjects that are held out among them.
    pub facts: Facts,
    /// The subjects that something is learnt from.
    pub subjects: BTreeSet<String>,
    /// The options.
    pub options: ProbeOptions,
}

impl ProbePlan {
    /// Plans a probe with facts, of which some subjects are held out.
    pub fn new(facts: &Facts, options: ProbeOptions) -> ProbePlan {
        ProbePlan { subjects: probed_subjects(facts, &options), facts: facts.clone(), options }
    }

    /// Adds facts to what an earlier probe was about. Its subjects stay what they are, held out or not, unless `options` are
    /// others than they were.
    #[must_use]
    pub fn with(&self, facts: &Facts, options: ProbeOptions) -> ProbePlan {
        let all = self.facts.with(facts);
        if options != self.options {
            return ProbePlan::new(&all, options);
        }
        let old: BTreeSet<&str> = self.facts.iter().map(|fact| &*fact.entity).collect();
        let added = all.filtered(|fact| !old.contains(&*fact.entity));
        let mut subjects = probed_subjects(&added, &options);
        subjects.extend(self.subjects.iter().cloned());
        ProbePlan { facts: all, subjects, options }
    }

    /// Returns the plan of the probe that left its results in a folder; none if none is kept there.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(folder: &Path) -> Result<Option<ProbePlan>, ProbeFileError> {
        let path = folder.join(FACTS_FILE);
        let Some(bytes) = read_optional(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| ProbeFileError::Damaged {
            path,
            part: "content",
            expected: "the facts of a probe".into(),
            found: error.to_string(),
        })
    }

    /// Leaves the plan in a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<(), ProbeFileError> {
        replace(folder, FACTS_FILE, &json(self)?)
    }

    /// Returns the facts about the subjects that something is learnt from.
    pub fn learnt(&self) -> Facts {
        self.facts.filtered(|fact| self.subjects.contains(&fact.entity))
    }

    /// Returns the facts about the subjects that are held out.
    pub fn held_out(&self) -> Facts {
        self.facts.filtered(|fact| !self.subjects.contains(&fact.entity))
    }

    /// Returns the number of questions: pairs of a subject that something is learnt from and a relation that it has.
    pub fn questions(&self) -> usize {
        let learnt = self.learnt();
        learnt.relations().iter().map(|relation| learnt.targets_of(&relation.name).len()).sum()
    }

    /// Iterates over the relations of which fewer than `count` subjects are learnt from, with their number.
    pub fn scarce(&self, count: usize) -> impl Iterator<Item = (String, usize)> {
        let learnt = self.learnt();
        let subjects = learnt
            .relations()
            .iter()
            .map(|relation| (relation.name.clone(), learnt.targets_of(&relation.name).len()));
        subjects.filter(|(_, subjects)| (1..count).contains(subjects)).collect::<Vec<_>>().into_iter()
    }
}

/// Returns the subjects of `facts` that a probe may learn from.
pub fn probed_subjects(facts: &Facts, options: &ProbeOptions) -> BTreeSet<String> {
    let subjects: BTreeSet<&str> = facts.iter().map(|fact| &*fact.entity).collect();
    let mut subjects: Vec<&str> = subjects.into_iter().collect();
    subjects.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    let held_out = (subjects.len() as f64 * options.hold_out).round() as usize;
    subjects.into_iter().skip(held_out).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use larql_core::Triple;

    fn facts(names: &[&str], relation: &str) -> Facts {
        let mut facts = Facts::shipped().filtered(|_| false);
        facts.extend(names.iter().map(|name| Triple::new(*name, relation, "x")));
        facts
    }

    #[test]
    fn what_is_added_leaves_the_held_out_subjects_as_they_are() {
        let names: Vec<String> = (0..20).map(|i| format!("subject {i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let first = ProbePlan::new(&facts(&names[..10], "capital"), ProbeOptions::default());
        assert_eq!(first.subjects.len(), 8);
        let second = first.with(&facts(&names[5..], "king"), ProbeOptions::default());
        assert_eq!((second.facts.iter().count(), second.subjects.len()), (25, 16));
        assert!(second.subjects.is_superset(&first.subjects));
        for name in &names[..10] {
            assert_eq!(second.subjects.contains(*name), first.subjects.contains(*name), "{name}");
        }
        assert_eq!(second.held_out().iter().count() + second.learnt().iter().count(), 25);
        // The same facts again add nothing.
        assert_eq!(second.with(&facts(&names[..10], "capital"), ProbeOptions::default()), second);
        let other = ProbeOptions { hold_out: 0.0, ..ProbeOptions::default() };
        assert_eq!(first.with(&facts(&names, "king"), other).subjects.len(), 20);
        assert_eq!(first.scarce(9).collect::<Vec<_>>(), [("capital".to_owned(), 8)]);
        assert_eq!(first.scarce(8).count(), 0);
    }

    #[test]
    fn a_plan_is_the_same_when_read_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ProbePlan::read(folder.path()).unwrap(), None);
        let plan = ProbePlan::new(&facts(&["France", "Chad"], "high-king"), ProbeOptions::default());
        plan.write(folder.path()).unwrap();
        assert_eq!(ProbePlan::read(folder.path()).unwrap(), Some(plan));
        std::fs::write(folder.path().join(FACTS_FILE), "[]").unwrap();
        assert!(
            ProbePlan::read(folder.path()).unwrap_err().to_string().contains("expected the facts of a probe")
        );
    }
}
