//! Asking a model that was never probed, in the wordings that ship with LARQL.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::facts::Facts;
use larql_core::progress::{CancelToken, NoProgress};
use larql_knowledge::unprobed::{ShippedReading, taught_subjects};
use larql_knowledge::{
    AskableRelations, EntityResidual, LanguageModel, PrefixCache, entity_tokens, phrase_matches,
};
use larql_vindex::LabelSource;
use larql_vindex::search::{Edge, Via};

fn atlas() -> LanguageModel {
    LanguageModel::open(&larql_testing::shipped("atlas"), Arc::new(Pool::new(2))).unwrap()
}

fn told(
    language: &LanguageModel,
    relations: &AskableRelations,
    prefixes: &PrefixCache,
    entity: &str,
) -> Vec<Edge> {
    let (model, tokenizer) = (language.model(), language.tokenizer());
    let residual = EntityResidual::of(model, tokenizer, &entity_tokens(tokenizer, entity).unwrap()).unwrap();
    let edges = relations.edges(model, tokenizer, prefixes, entity, &residual, 0..4).unwrap();
    edges.into_iter().map(|(edge, _)| edge).collect()
}

#[test]
fn subjects_without_data_are_listed() {
    let language = atlas();
    let relations =
        ShippedReading::shipped().relations_of(language.model(), language.tokenizer(), &NoProgress).unwrap();
    assert_eq!(relations.source, LabelSource::ShippedWordings);
    let taught = taught_subjects();
    assert!(relations.subjects.len() < 200 && relations.subjects.iter().all(|s| taught.contains(s)));

    let facts = Facts::shipped().filtered(|fact| !taught.contains(&fact.entity));
    let mut by_subject: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for fact in facts.iter() {
        by_subject.entry(&fact.entity).or_default().push((&fact.relation, &fact.target));
    }
    let prefixes = PrefixCache::default();
    let (mut found, mut all, mut labelled, mut right) = (0, 0, 0, 0);
    for (subject, facts) in by_subject.iter().step_by(12) {
        let edges = told(&language, &relations, &prefixes, subject);
        for (relation, target) in facts {
            all += 1;
            found += usize::from(edges.iter().take(10).any(|edge| phrase_matches(&edge.target, target)));
            let own: Vec<&Edge> =
                edges.iter().filter(|edge| edge.relation.as_deref() == Some(relation)).collect();
            assert!(
                own.iter().all(|edge| {
                    edge.source == Some(LabelSource::ShippedWordings) && edge.via == Via::Asked
                })
            );
            labelled += own.len();
            right +=
                own.iter().filter(|edge| facts.iter().any(|(_, t)| phrase_matches(&edge.target, t))).count();
        }
    }
    assert!(all > 60 && found * 10 >= all * 7, "{found} of {all}");
    assert!(labelled > 40 && right * 10 >= labelled * 7, "{right} of {labelled}");
}

#[test]
fn what_was_asked_once_is_the_same_when_read_again() {
    let language = atlas();
    let shipped = ShippedReading::shipped();
    let relations = shipped.relations_of(language.model(), language.tokenizer(), &NoProgress).unwrap();
    let bytes = relations.to_bytes().unwrap();
    let read = AskableRelations::from_bytes(Path::new("kept"), &bytes, language.model().spec()).unwrap();
    let read = shipped.believed(read);
    assert_eq!(read.source, relations.source);
    let targets = |relations| -> Vec<String> {
        told(&language, relations, &PrefixCache::default(), "Chile")
            .into_iter()
            .map(|edge| edge.target)
            .collect()
    };
    assert!(targets(&read).contains(&"Santiago".to_owned()), "{:?}", targets(&read));
    assert_eq!(targets(&read), targets(&relations));
}

#[test]
fn asking_about_the_reference_subjects_can_be_cancelled() {
    let language = atlas();
    let token = CancelToken::new();
    token.cancel();
    let relations = ShippedReading::shipped().relations_of(language.model(), language.tokenizer(), &token);
    assert!(relations.unwrap_err().is_cancelled());
}
