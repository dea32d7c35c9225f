//! Probing: learns the templates that work best for each relation, the belief in answers, and the features that carry them,
//! by ablation and not by resemblance.
//!
//! Some subjects are held out: nothing is learnt from them, so that an evaluation can ask about what the probe never
//! saw. Wordings that only an evaluation uses are never asked.

mod ablate;
mod encoding;
mod estimate;
mod journal;
mod label;
mod phase;
mod plan;
mod question;
mod store;
mod survey;
mod templates;

use larql_core::progress::{Meter, Progress, Stage};
use larql_inference::Model;
use larql_models::Tokenizer;
use larql_vindex::LabelSource;

pub use estimate::{estimated_time, reading_time};
pub use journal::{JOURNAL_FILE, Journal};
pub use label::{AblationKey, FeatureEvidence, LabelledFeature};
use phase::Phase;
pub use plan::{FACTS_FILE, ProbeOptions, ProbePlan, probed_subjects};
pub(crate) use question::ProbedModel;
pub use question::{CarrierShare, GivenAnswer, ProbedQuestion};
pub use store::{EVIDENCE_FILE, LABELS_FILE, RELATIONS_FILE};
pub(crate) use survey::{Survey, held_relations, kinds};
pub use templates::ChosenTemplates;
pub(crate) use templates::TemplateTrial;

use crate::ProbeError;
use crate::reading::{AskableRelation, AskableRelations, Belief, QuestionSense, TrackRecord};

/// Store of the answers of a probe, from which a later probe with the same options continues.
pub trait ProbeJournal {
    /// Returns what an earlier probe found of this question.
    fn earlier(&mut self, relation: &str, subject: &str) -> Option<ProbedQuestion>;

    /// Keeps what was found of a question.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn keep(&mut self, found: &ProbedQuestion) -> std::io::Result<()>;

    /// Returns the templates that an earlier probe chose for a relation.
    fn earlier_templates(&mut self, _relation: &str) -> Option<ChosenTemplates> {
        None
    }

    /// Keeps templates. What was asked about their relation with others counts no longer.
    ///
    /// # Errors
    /// If they cannot be kept.
    fn keep_templates(&mut self, _chosen: &ChosenTemplates) -> std::io::Result<()> {
        Ok(())
    }

    /// Returns by how much an earlier probe saw answers suffer without a feature.
    fn earlier_ablation(&mut self, _key: &AblationKey) -> Option<f32> {
        None
    }

    /// Keeps by how much answers suffer without a feature.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn keep_ablation(&mut self, _key: &AblationKey, _drop: f32) -> std::io::Result<()> {
        Ok(())
    }
}

/// Journal that keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoJournal;

impl ProbeJournal for NoJournal {
    fn earlier(&mut self, _: &str, _: &str) -> Option<ProbedQuestion> {
        None
    }
    fn keep(&mut self, _: &ProbedQuestion) -> std::io::Result<()> {
        Ok(())
    }
}

/// Results of a probe.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Subject of the question.
    pub plan: ProbePlan,
    /// Relations with their templates, and the belief in answers.
    pub relations: AskableRelations,
    /// The features that carry relations.
    pub labels: Vec<LabelledFeature>,
    /// Questions that have an answer in the facts.
    pub asked: usize,
    /// Questions whose first answer was right.
    pub right: usize,
    /// Both, for each relation.
    pub right_by_relation: Vec<(usize, usize)>,
}

/// Probes a model as planned. What `journal` has is not asked again.
///
/// # Errors
/// If a sentence cannot be encoded, the journal cannot be written, or the probe is cancelled.
pub fn probe(
    model: &Model,
    tokenizer: &Tokenizer,
    plan: &ProbePlan,
    journal: &mut dyn ProbeJournal,
    progress: &dyn Progress,
) -> Result<Probed, ProbeError> {
    let model = &model.with_cancel(progress.cancel_token());
    let facts = plan.learnt();
    let held = held_relations(&facts);
    let subjects: Vec<String> = plan.subjects.iter().cloned().collect();
    let (kinds, scores) = kinds(model, tokenizer, &facts, &subjects, &Phase::subjects(progress))?;
    let mut relations = AskableRelations {
        version: 2,
        names: facts.names().clone(),
        relations: Vec::new(),
        kinds,
        sense: QuestionSense::default(),
        belief: Belief::default(),
        subjects: subjects.clone(),
        source: LabelSource::Probe,
    };
    let phase = Phase::wordings(progress);
    let mut meter = Meter::new(&phase, Stage::ProbeWordings, held.len() as u64);
    for (done, relation) in held.iter().enumerate() {
        meter.set_done(done as u64)?;
        let wordings = plan.options.wordings;
        let templates = templates::best_templates(model, tokenizer, &facts, relation, wordings, journal)?;
        relations.relations.push(AskableRelation {
            name: relation.name.clone(),
            templates,
            functional: relation.functional,
            record: TrackRecord::default(),
        });
    }
    let ask = ProbedModel { model, tokenizer, facts: &facts, finds_carriers: true };
    let survey = Survey::run(&ask, &mut relations, &subjects, &scores, journal, &Phase::questions(progress))?;
    relations.belief = Belief::fit(&survey.answers(&relations));
    let phase = Phase::ablations(progress);
    let labels = label::label(model, tokenizer, &relations, survey.questions(), journal, &phase)?;
    let right_by_relation = survey.right_by_relation(held.len());
    let sum = |of: fn(&(usize, usize)) -> usize| right_by_relation.iter().map(of).sum();
    Ok(Probed {
        plan: plan.clone(),
        relations,
        labels,
        asked: sum(|r| r.0),
        right: sum(|r| r.1),
        right_by_relation,
    })
}
