//! Probing the bundled model with some of the facts that it was taught.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::Triple;
use larql_core::facts::Facts;
use larql_core::progress::{CancelToken, NoProgress, Progress};
use larql_knowledge::probe::{
    AblationKey, ChosenTemplates, Journal, LabelledFeature, NoJournal, ProbeJournal, ProbeOptions, ProbePlan,
    Probed, ProbedQuestion, probe, probed_subjects,
};
use larql_knowledge::{
    AskableRelations, EntityResidual, Hint, LanguageModel, PrefixCache, ProbeError, entity_tokens,
};

fn atlas() -> LanguageModel {
    let path = larql_testing::shipped("atlas");
    LanguageModel::open(&path, Arc::new(Pool::new(2))).unwrap()
}

/// A few countries, elements and words.
fn some_facts() -> Facts {
    let facts = Facts::shipped();
    let mut subjects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for fact in facts.iter() {
        let subjects = subjects.entry(fact.relation.clone()).or_default();
        if subjects.len() < 48 && !subjects.contains(&fact.entity) {
            subjects.push(fact.entity.clone());
        }
    }
    facts.filtered(|fact| {
        ["capital", "symbol", "opposite"].contains(&&*fact.relation)
            && subjects[&fact.relation].contains(&fact.entity)
    })
}

const OPTIONS: ProbeOptions = ProbeOptions { hold_out: 0.25, wordings: 2, seed: 1 };

fn probed(
    language: &LanguageModel,
    journal: &mut dyn ProbeJournal,
    progress: &dyn Progress,
) -> Result<Probed, ProbeError> {
    let plan = ProbePlan::new(&some_facts(), OPTIONS);
    probe(language.model(), language.tokenizer(), &plan, journal, progress)
}

/// The model's answers about an entity, as relation and target.
fn told(language: &LanguageModel, relations: &AskableRelations, entity: &str) -> Vec<(String, String)> {
    let (model, tokenizer) = (language.model(), language.tokenizer());
    let tokens = entity_tokens(tokenizer, entity).unwrap();
    let residual = EntityResidual::of(model, tokenizer, &tokens).unwrap();
    let edges = relations.edges(model, tokenizer, &PrefixCache::default(), entity, &residual, 0..4).unwrap();
    edges.into_iter().filter_map(|(edge, _)| Some((edge.relation?, edge.target))).collect()
}

#[test]
fn held_out_subjects_are_told_by_what_others_taught() {
    let language = atlas();
    let probed = probed(&language, &mut NoJournal, &NoProgress).unwrap();
    assert!(probed.right * 10 >= probed.asked * 9, "{} of {}", probed.right, probed.asked);

    let facts = some_facts();
    let seen = probed_subjects(&facts, &OPTIONS);
    let (mut found, mut all) = (0, 0);
    for fact in facts.iter().filter(|fact| !seen.contains(&fact.entity)) {
        all += 1;
        let told = told(&language, &probed.relations, &fact.entity);
        found += usize::from(told.contains(&(fact.relation.clone(), fact.target.clone())));
    }
    assert!(all > 20 && found * 10 >= all * 7, "{found} of {all}");
}

#[test]
fn what_was_found_is_the_same_when_read_again() {
    let language = atlas();
    let probed = probed(&language, &mut NoJournal, &NoProgress).unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(AskableRelations::read(folder.path(), language.model().spec()).unwrap(), None);
    probed.write(folder.path()).unwrap();
    let read = AskableRelations::read(folder.path(), language.model().spec()).unwrap().unwrap();
    assert_eq!(told(&language, &read, "Chile"), told(&language, &probed.relations, "Chile"));
    assert_eq!(LabelledFeature::read_all(folder.path()).unwrap(), probed.labels);

    std::fs::write(folder.path().join("relation_templates.json"), "{}").unwrap();
    let error = AskableRelations::read(folder.path(), language.model().spec()).unwrap_err();
    assert!(
        error.to_string().contains("expected askable relations") && error.hint() == Some(Hint::ProbeAgain),
        "{error}"
    );
}

/// Journal that counts what is kept, and cancels the probe after some.
struct Stopping {
    journal: Journal,
    asked: usize,
    chosen: usize,
    removed: usize,
    stop_after: usize,
    token: CancelToken,
}

impl ProbeJournal for Stopping {
    fn earlier(&mut self, relation: &str, subject: &str) -> Option<ProbedQuestion> {
        self.journal.earlier(relation, subject)
    }
    fn keep(&mut self, found: &ProbedQuestion) -> std::io::Result<()> {
        self.asked += 1;
        if self.asked >= self.stop_after {
            self.token.cancel();
        }
        self.journal.keep(found)
    }
    fn earlier_templates(&mut self, relation: &str) -> Option<ChosenTemplates> {
        self.journal.earlier_templates(relation)
    }
    fn keep_templates(&mut self, chosen: &ChosenTemplates) -> std::io::Result<()> {
        self.chosen += 1;
        self.journal.keep_templates(chosen)
    }
    fn earlier_ablation(&mut self, key: &AblationKey) -> Option<f32> {
        self.journal.earlier_ablation(key)
    }
    fn keep_ablation(&mut self, key: &AblationKey, drop: f32) -> std::io::Result<()> {
        self.removed += 1;
        self.journal.keep_ablation(key, drop)
    }
}

#[test]
fn an_interrupted_probe_goes_on_where_it_stopped() {
    let language = atlas();
    let folder = tempfile::tempdir().unwrap();
    let token = CancelToken::new();
    let journal = |stop_after| Stopping {
        journal: Journal::open(folder.path(), &OPTIONS).unwrap(),
        asked: 0,
        chosen: 0,
        removed: 0,
        stop_after,
        token: token.clone(),
    };
    let mut first = journal(40);
    assert!(probed(&language, &mut first, &token).unwrap_err().is_cancelled());
    assert!(first.asked >= 40 && first.chosen == 3, "{} {}", first.asked, first.chosen);

    token.reset();
    let mut second = journal(usize::MAX);
    let resumed = probed(&language, &mut second, &token).unwrap();
    let whole = probed(&language, &mut NoJournal, &NoProgress).unwrap();
    assert_eq!((resumed.asked, resumed.right), (whole.asked, whole.right));
    assert!(second.asked + first.asked < whole.asked + 2 * 40, "{}", second.asked);
    // Wordings are not chosen again.
    assert!(second.chosen == 0 && second.removed > 0, "{} {}", second.chosen, second.removed);
    let names = |probed: &Probed| -> HashMap<(usize, usize), String> {
        probed.labels.iter().map(|l| ((l.layer, l.feature), l.relation.clone())).collect()
    };
    assert_eq!(names(&resumed), names(&whole));

    // With another fact, only that one is asked about.
    let mut third = journal(usize::MAX);
    let mut facts = some_facts();
    facts.extend([Triple::new("France", "demonym", "French")]);
    let plan = resumed.plan.with(&facts, OPTIONS);
    let more = probe(language.model(), language.tokenizer(), &plan, &mut third, &token).unwrap();
    assert!(third.asked < 60 && third.chosen == 1, "{} {}", third.asked, third.chosen);
    assert!(more.relations.relation("demonym").is_some() && more.labels.len() >= resumed.labels.len());

    // Other options ask other questions.
    let other = ProbeOptions { wordings: 3, ..OPTIONS };
    assert!(Journal::open(folder.path(), &other).unwrap().is_empty());
}
