//! Results of probing: relations with their templates, the entities that have them, and the belief in answers.

use std::collections::BTreeMap;

use larql_core::facts::Names;
use larql_vindex::LabelSource;
use serde::{Deserialize, Serialize};

use super::belief::Belief;
use super::kinds::SubjectKinds;
use super::sense::QuestionSense;

/// The relations that a model can be asked about. Probing makes it; it lies in a vindex as
/// `relation_templates.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskableRelations {
    /// Version of this format: 2.
    pub version: u32,
    /// Forms of names in sentences.
    pub names: Names,
    /// The relations.
    pub relations: Vec<AskableRelation>,
    /// Estimator of the relations that an entity has.
    #[serde(skip)]
    pub kinds: SubjectKinds,
    /// Estimator of the questions that make sense.
    #[serde(skip)]
    pub sense: QuestionSense,
    /// Belief in answers.
    pub belief: Belief,
    /// The subjects that the probe saw, so that an evaluation can ask about others; or the reference subjects.
    pub subjects: Vec<String>,
    /// Origin of wordings and belief: a probe, or what ships with LARQL.
    #[serde(skip, default = "probe")]
    pub source: LabelSource,
}

fn probe() -> LabelSource {
    LabelSource::Probe
}

/// A relation that a model can be asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskableRelation {
    /// For instance `capital`.
    pub name: String,
    /// Sentences with `{subject}` that end right before the object, the one that works best first. Facts about other
    /// subjects may be told before, as examples, each in a line of its own.
    pub templates: Vec<String>,
    /// True if a subject has one object only.
    pub functional: bool,
    /// Track record of the model's answers.
    pub record: TrackRecord,
}

/// Track record of answers: counts of all, and of the right ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// Over all answers.
    pub total: AnswerCounts,
    /// For each answer that was given more than once.
    pub answers: BTreeMap<String, AnswerCounts>,
}

/// Counts of an answer: all, and right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerCounts {
    /// Number of times that it was given.
    pub said: u32,
    /// Number of times that it was right.
    pub right: u32,
}

impl AnswerCounts {
    /// Adds one case.
    pub(crate) fn add(&mut self, right: bool) {
        self.said += 1;
        self.right += u32::from(right);
    }

    /// The tally without one of its cases.
    fn without(self, right: bool) -> AnswerCounts {
        AnswerCounts { said: self.said.saturating_sub(1), right: self.right.saturating_sub(u32::from(right)) }
    }
}

/// Cases that a prior counts as much as.
const PRIOR_CASES: f32 = 2.0;

impl TrackRecord {
    /// The share of cases in which an answer is right, as far as is known; of an answer never given, that of the
    /// relation. With `except`, as it would be known without that case, which was right or not.
    pub(crate) fn reliability(&self, answer: &str, except: Option<bool>) -> f32 {
        let without = |tally: AnswerCounts| except.map_or(tally, |right| tally.without(right));
        let total = without(self.total);
        let overall = (total.right as f32 + 0.5 * PRIOR_CASES) / (total.said as f32 + PRIOR_CASES);
        let own = self.answers.get(answer).copied().map_or(AnswerCounts::default(), without);
        (own.right as f32 + overall * PRIOR_CASES) / (own.said as f32 + PRIOR_CASES)
    }

    /// Number of times that an answer was given; 0 if only once.
    pub(crate) fn said(&self, answer: &str) -> u32 {
        self.answers.get(answer).map_or(0, |tally| tally.said)
    }
}

impl AskableRelations {
    /// The relation of a name.
    pub fn relation(&self, name: &str) -> Option<&AskableRelation> {
        self.relations.iter().find(|relation| relation.name == name)
    }
}
