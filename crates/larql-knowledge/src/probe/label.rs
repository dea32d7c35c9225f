//! The relation that a feature is labelled with: the one whose answers it carries, if they suffer without it.

use std::collections::{BTreeMap, HashMap};

use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::Model;
use larql_models::Tokenizer;
use serde::{Deserialize, Serialize};

use super::ablate::Ablation;
use super::{ProbeJournal, ProbedQuestion};
use crate::ProbeError;
use crate::reading::AskableRelations;

/// A feature that carries a relation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelledFeature {
    /// Its layer.
    pub layer: usize,
    /// Its number there.
    pub feature: usize,
    /// The relation.
    pub relation: String,
    /// Evidence.
    pub evidence: FeatureEvidence,
}

/// Evidence that a feature carries a relation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureEvidence {
    /// Right answers of the relation that it carries.
    pub facts: usize,
    /// Its mean share of what all features add to the logits of those answers.
    pub share: f32,
    /// Rate of this relation among the answers that it carries, from 0 to 1.
    pub specificity: f32,
    /// By what factor the answers' probabilities fall without it, as a mean of logarithms.
    pub drop: f32,
    /// Some of the facts, strongest first: subject and answer.
    pub examples: Vec<(String, String)>,
}

/// A removal of a feature, from the answers that it was tried on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AblationKey {
    /// Layer of the feature.
    pub layer: usize,
    /// Its number there.
    pub feature: usize,
    /// The relation that was asked about.
    pub relation: String,
    /// The subjects, and the first token of each answer.
    pub answers: Vec<(String, u32)>,
}

/// Answers that a feature has to carry, of different subjects.
const FEWEST_FACTS: usize = 2;
/// Least mean share of a feature in the contributions to an answer's logit, for it to be tried.
const LEAST_SHARE: f32 = 0.003;
/// Least specificity.
const LEAST_SPECIFICITY: f32 = 0.5;
/// By how much the logarithm of the answers' probability has to fall without it.
const LEAST_DROP: f32 = 0.02;
/// Features that are tried of each relation, and facts that each is tried on.
const TRIED: usize = 24;
const TRIED_ON: usize = 4;

/// Labels features by the right answers among `questions`.
pub(super) fn label(
    model: &Model,
    tokenizer: &Tokenizer,
    relations: &AskableRelations,
    questions: &[ProbedQuestion],
    journal: &mut dyn ProbeJournal,
    progress: &dyn Progress,
) -> Result<Vec<LabelledFeature>, ProbeError> {
    let candidates = candidates(relations, questions);
    let mut labelled = Vec::new();
    let mut meter = Meter::new(progress, Stage::Ablations, candidates.len() as u64);
    let mut ablation = Ablation::new(model, tokenizer, relations);
    for (done, (mut candidate, carried)) in candidates.into_iter().enumerate() {
        meter.set_done(done as u64)?;
        let key = AblationKey {
            layer: candidate.layer,
            feature: candidate.feature,
            relation: candidate.relation.clone(),
            answers: carried.iter().map(|(question, token)| (question.subject.clone(), *token)).collect(),
        };
        candidate.evidence.drop = match journal.earlier_ablation(&key) {
            Some(drop) => drop,
            None => {
                let drop = ablation.drop(candidate.layer, candidate.feature, &carried)?;
                journal.keep_ablation(&key, drop).map_err(ProbeError::CannotKeep)?;
                drop
            }
        };
        if candidate.evidence.drop >= LEAST_DROP {
            labelled.push(candidate);
        }
    }
    // A feature stands for the relation that needs it most.
    labelled.sort_by(|a, b| {
        (a.layer, a.feature).cmp(&(b.layer, b.feature)).then(b.evidence.drop.total_cmp(&a.evidence.drop))
    });
    labelled.dedup_by_key(|label| (label.layer, label.feature));
    Ok(labelled)
}

/// A question, the first token of its right answer, and the share of a feature in it.
type SharedAnswer<'a> = (&'a ProbedQuestion, u32, f32);

/// A question, and the first token of its right answer.
pub(super) type CarriedQuestion<'a> = (&'a ProbedQuestion, u32);

/// Features that carry several answers of a relation, and hardly those of others, with some of the answers.
fn candidates<'a>(
    relations: &AskableRelations,
    questions: &'a [ProbedQuestion],
) -> Vec<(LabelledFeature, Vec<CarriedQuestion<'a>>)> {
    let mut answered: HashMap<&str, usize> = HashMap::new();
    let mut by_feature: BTreeMap<(usize, usize), Vec<SharedAnswer<'_>>> = BTreeMap::new();
    for question in questions {
        let Some((token, carriers)) = &question.carried else { continue };
        *answered.entry(&question.relation).or_default() += 1;
        for (layer, feature, share) in carriers {
            by_feature.entry((*layer, *feature)).or_default().push((question, *token, *share));
        }
    }
    let mut candidates = Vec::new();
    for relation in &relations.relations {
        let name = &*relation.name;
        let mut own = Vec::new();
        for ((layer, feature), carried) in &by_feature {
            // The share of each relation's answers that the feature carries.
            let mut rates: HashMap<&str, f32> = HashMap::new();
            for (question, ..) in carried {
                *rates.entry(&question.relation).or_default() += 1.0 / answered[&*question.relation] as f32;
            }
            let specificity = rates.get(name).copied().unwrap_or(0.0) / rates.values().sum::<f32>();
            let mut facts: Vec<_> = carried.iter().filter(|(q, ..)| q.relation == name).collect();
            facts.sort_by(|a, b| b.2.total_cmp(&a.2));
            let share = facts.iter().map(|(.., share)| share).sum::<f32>() / facts.len().max(1) as f32;
            if facts.len() < FEWEST_FACTS || share < LEAST_SHARE || specificity < LEAST_SPECIFICITY {
                continue;
            }
            let answer = |q: &ProbedQuestion| {
                q.answers
                    .iter()
                    .find(|answer| answer.right)
                    .map_or(String::new(), |answer| answer.text.clone())
            };
            let examples = facts.iter().take(3).map(|(q, ..)| (q.subject.clone(), answer(q))).collect();
            let evidence = FeatureEvidence { facts: facts.len(), share, specificity, drop: 0.0, examples };
            let feature =
                LabelledFeature { layer: *layer, feature: *feature, relation: name.to_owned(), evidence };
            let carried: Vec<_> =
                facts.into_iter().take(TRIED_ON).map(|(q, token, _)| (*q, *token)).collect();
            own.push((feature, carried));
        }
        let weight = |evidence: &FeatureEvidence| evidence.share * evidence.facts as f32;
        own.sort_by(|a, b| weight(&b.0.evidence).total_cmp(&weight(&a.0.evidence)));
        own.truncate(TRIED);
        candidates.extend(own);
    }
    candidates
}
