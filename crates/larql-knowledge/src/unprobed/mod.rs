//! Reading models that were never probed: wordings and a belief that ship with LARQL, learnt over other models.
//!
//! The belief looks at nothing but what can be seen of any model. Part of that is what the model at hand says of some
//! reference subjects, which are asked about once: how often it gives an answer, and how often it is right.

mod learn;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::LazyLock;

use larql_core::facts::Facts;
use larql_core::progress::Progress;
use larql_inference::Model;
use larql_models::Tokenizer;
use larql_vindex::LabelSource;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use learn::{LearntAnswers, ScoredWording, choose_wordings, learn, score_wordings, survey};

use crate::probe::{NoJournal, ProbeOptions, ProbedModel, Survey, held_relations, kinds, probed_subjects};
use crate::reading::{AskableRelation, AskableRelations, Belief, QuestionSense, TrackRecord};
use crate::{ProbeError, ProbeFileError};

/// Reference subjects of each relation.
const REFERENCES: usize = 12;

/// Tokens that a wording after examples may have: models that remember fewer are asked without examples.
const ROOM: usize = 256;

/// Wordings and a belief for models that were never probed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShippedReading {
    /// Version of this format: 1.
    pub version: u32,
    /// Models that it was learnt from.
    pub learnt_from: Vec<String>,
    /// Relations of the shipped facts, in their order.
    pub relations: Vec<ShippedRelation>,
    /// Belief in answers; the numbers of relations are those of `relations`.
    pub belief: Belief,
}

/// A relation with its wordings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShippedRelation {
    /// For instance `capital`.
    pub name: String,
    /// Wordings after examples, the best first.
    pub templates: Vec<String>,
}

impl ShippedReading {
    /// Returns what ships with LARQL.
    pub fn shipped() -> &'static ShippedReading {
        static SHIPPED: LazyLock<ShippedReading> = LazyLock::new(|| {
            serde_json::from_str(larql_assets::UNPROBED).expect("the shipped belief is whole")
        });
        &SHIPPED
    }

    /// Reads a file of that form.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn read(path: &Path) -> Result<ShippedReading, ProbeFileError> {
        let text = std::fs::read(path).map_err(|source| ProbeFileError::Io { path: path.into(), source })?;
        serde_json::from_slice(&text).map_err(|error| ProbeFileError::Damaged {
            path: path.into(),
            part: "content",
            expected: "wordings and a belief".into(),
            found: error.to_string(),
        })
    }

    /// Returns the relations that a model can be asked about. Asks it about the reference subjects.
    ///
    /// # Errors
    /// If a sentence cannot be encoded, or the work is cancelled.
    pub fn relations_of(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        progress: &dyn Progress,
    ) -> Result<AskableRelations, ProbeError> {
        let model = &model.with_cancel(progress.cancel_token());
        Ok(self.believed(calibrated(model, tokenizer, &self.relations, progress)?))
    }

    /// Returns relations with the belief and the origin of these.
    #[must_use]
    pub fn believed(&self, relations: AskableRelations) -> AskableRelations {
        AskableRelations { belief: self.belief.clone(), source: LabelSource::ShippedWordings, ..relations }
    }

    /// Returns a number that changes with the wordings and the reference subjects.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for relation in &self.relations {
            (&relation.name, &relation.templates).hash(&mut hasher);
        }
        (self.version, REFERENCES, Facts::shipped().digest()).hash(&mut hasher);
        hasher.finish()
    }
}

/// The relations, with what the model says of the reference subjects after the first wording; and no belief yet.
fn calibrated(
    model: &Model,
    tokenizer: &Tokenizer,
    wordings: &[ShippedRelation],
    progress: &dyn Progress,
) -> Result<AskableRelations, ProbeError> {
    let facts = taught_facts();
    let subjects = references(&facts);
    let facts = facts.filtered(|fact| subjects.contains(&fact.entity));
    let held = held_relations(&facts);
    let (kinds, scores) = kinds(model, tokenizer, &facts, &subjects, progress)?;
    let has_room = model.spec().context_length >= ROOM;
    let without_examples = |template: &String| match template.rsplit_once('\n') {
        Some((_, question)) if !has_room => question.to_owned(),
        _ => template.clone(),
    };
    let templates_of: BTreeMap<&str, Vec<String>> = wordings
        .iter()
        .map(|relation| (&*relation.name, relation.templates.iter().map(without_examples).collect()))
        .collect();
    let templates = |name: &str| templates_of.get(name).cloned().unwrap_or_default();
    let first_only = held.iter().map(|relation| AskableRelation {
        name: relation.name.clone(),
        templates: templates(&relation.name).into_iter().take(1).collect(),
        functional: relation.functional,
        record: TrackRecord::default(),
    });
    let mut relations = AskableRelations {
        version: 2,
        names: facts.names().clone(),
        relations: first_only.collect(),
        kinds,
        sense: QuestionSense::default(),
        belief: Belief::default(),
        subjects: Vec::new(),
        source: LabelSource::ShippedWordings,
    };
    let ask = ProbedModel { model, tokenizer, facts: &facts, finds_carriers: false };
    Survey::run(&ask, &mut relations, &subjects, &scores, &mut NoJournal, progress)?;
    for relation in &mut relations.relations {
        relation.templates = templates(&relation.name);
    }
    relations.subjects = subjects;
    Ok(relations)
}

/// The subjects of the shipped facts that may be learnt from: those that a probe learns from by default, so that an
/// evaluation can ask about the others.
pub fn taught_subjects() -> BTreeSet<String> {
    probed_subjects(Facts::shipped(), &ProbeOptions::default())
}

fn taught_facts() -> Facts {
    let subjects = taught_subjects();
    Facts::shipped().filtered(|fact| subjects.contains(&fact.entity))
}

/// The subjects of `facts` in an order of their own.
fn shuffled(facts: &Facts) -> Vec<(&str, BTreeSet<&str>)> {
    let mut relations_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for fact in facts.iter() {
        relations_of.entry(&fact.entity).or_default().insert(&fact.relation);
    }
    let mut subjects: Vec<_> = relations_of.into_iter().collect();
    subjects.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    subjects
}

/// Subjects, about `count` for each relation.
fn some_of_each<'a>(
    subjects: impl Iterator<Item = &'a (&'a str, BTreeSet<&'a str>)>,
    count: usize,
) -> Vec<String> {
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    for (subject, relations) in subjects {
        if relations.iter().any(|relation| taken.get(relation).is_none_or(|taken| *taken < count)) {
            relations.iter().for_each(|relation| *taken.entry(relation).or_default() += 1);
            chosen.push((*subject).to_owned());
        }
    }
    chosen
}

/// The reference subjects of `facts`.
fn references(facts: &Facts) -> Vec<String> {
    some_of_each(shuffled(facts).iter(), REFERENCES)
}
