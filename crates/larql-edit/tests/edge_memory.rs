//! Edges in the edge memory of the bundled model: the prompts that they answer, and those that they leave alone.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use larql_compute::{Pool, Precision};
use larql_core::Triple;
use larql_core::facts::Facts;
use larql_core::progress::NoProgress;
use larql_edit::{Assertion, build_entries, default_layer};
use larql_inference::{DecodeOptions, KeyValueCache, Sequence};
use larql_knowledge::{Generation, GenerationOptions, LanguageModel, MemoryAnswer, held_out_text};
use larql_vindex::KnnStore;

fn atlas() -> LanguageModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas");
    LanguageModel::open(&path, Arc::new(Pool::new(2))).unwrap()
}

fn fact(entity: &str, relation: &str, target: &str) -> Assertion {
    Assertion { triple: Triple::new(entity, relation, target), confidence: 0.9 }
}

fn remembering(language: &LanguageModel, facts: &[Assertion]) -> LanguageModel {
    let space = language.key_space(default_layer(language.model())).unwrap();
    let mut store = KnnStore::default();
    let entries = build_entries(language.model(), language.tokenizer(), space, facts, &NoProgress).unwrap();
    entries.into_iter().for_each(|entry| store.insert(entry));
    // What is written is what is read back.
    let width = language.model().spec().hidden_size;
    language.with_entries(KnnStore::parse(&store.to_bytes(width)).unwrap())
}

fn recalled(language: &LanguageModel, prompt: &str, precision: Precision) -> Option<MemoryAnswer> {
    let model = language.model();
    let tokens = language.tokenizer().encode(prompt, true).unwrap();
    let mut probe = language.edge_memory().unwrap()?.probe();
    let mut cache = KeyValueCache::new(model.spec());
    model.pass().with_precision(precision).with_hook(&mut probe).last_logits(&mut cache, &tokens).unwrap();
    probe.answer(model.pool())
}

fn goes_on(language: &LanguageModel, prompt: &str, precision: Precision) -> (String, Generation) {
    let stop_tokens = language.stop_tokens().to_vec();
    let decode = DecodeOptions { stop_tokens, ..DecodeOptions::greedy(12) };
    let options = GenerationOptions::new(decode, precision);
    let mut text = String::new();
    let generation = language.complete(prompt, &options, |part| {
        text.push_str(part);
        ControlFlow::Continue(())
    });
    (text, generation.unwrap())
}

#[test]
fn the_whole_target_is_said_and_then_the_model_goes_on() {
    let language = atlas();
    let facts = [fact("France", "capital", "New Poseidonis"), fact("Atlantis", "head-of_state", "Mary Kay")];
    let taught = remembering(&language, &facts);
    for precision in [Precision::Exact, Precision::Fast] {
        let (text, generation) = goes_on(&taught, "The capital of France is", precision);
        assert!(text.starts_with(" New Poseidonis") && text.len() > " New Poseidonis".len(), "{text}");
        let [recalled] = &generation.recalled[..] else { panic!("{:?}", generation.recalled) };
        assert_eq!(recalled.entry.triple.entity, "France");
        let (text, _) = goes_on(&taught, "The head of state of Atlantis is", precision);
        assert!(text.starts_with(" Mary Kay"), "{text}");
        let (text, generation) = goes_on(&taught, "The capital of Spain is", precision);
        assert_eq!(text, goes_on(&language, "The capital of Spain is", precision).0);
        assert!(generation.recalled.is_empty());
    }
}

#[test]
fn every_entry_answers_its_own_question_and_none_another() {
    let language = atlas();
    let tables = Facts::shipped();
    let mut subjects: Vec<String> = tables.iter().map(|fact| fact.entity.clone()).collect();
    subjects.sort();
    subjects.dedup();
    // Every other subject is told something; the rest is only asked about.
    let (told, asked): (Vec<_>, Vec<_>) = subjects.iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let relations = ["capital", "currency", "opposite", "founder"];
    let facts: Vec<Assertion> = told
        .iter()
        .zip(relations.iter().cycle())
        .take(400)
        .enumerate()
        .map(|(index, ((_, subject), relation))| fact(subject, relation, &format!("answer {index}")))
        .collect();
    let taught = remembering(&language, &facts);
    for fact in &facts {
        let prompt = format!("The {} of {} is", fact.triple.relation, fact.triple.entity);
        let found = recalled(&taught, &prompt, Precision::Fast);
        assert!(
            found.as_ref().is_some_and(|found| found.entry.triple.target == fact.triple.target),
            "{prompt}: {found:?}"
        );
    }
    let asked: Vec<&String> = asked.into_iter().map(|(_, subject)| subject).collect();
    let about = tables.iter().filter(|fact| asked.contains(&&fact.entity)).take(150);
    let wordings = about.map(|fact| {
        tables.names().fill(&tables.relation(&fact.relation).unwrap().forward.taught[0], &fact.entity)
    });
    let words: Vec<&str> = held_out_text().split_whitespace().collect();
    let passages = words.windows(12).step_by(3).map(|words| words.join(" "));
    for prompt in wordings.chain(passages).take(250) {
        assert_eq!(recalled(&taught, &prompt, Precision::Exact), None, "{prompt}");
    }
}

#[test]
fn probes_of_a_batch_answer_their_own_sequence() {
    let language = atlas();
    let taught = remembering(&language, &[fact("France", "capital", "New Poseidonis")]);
    let memory = taught.edge_memory().unwrap().unwrap();
    let model = taught.model();
    let prompts = ["The capital of Spain is", "The capital of France is", "The currency of France is"];
    let prompts = prompts.map(|prompt| taught.tokenizer().encode(prompt, true).unwrap());
    let answer = |sequence: usize| {
        let mut caches = [(); 3].map(|()| KeyValueCache::new(model.spec()));
        let sequences = prompts.iter().zip(&mut caches);
        let mut sequences: Vec<Sequence<'_>> =
            sequences.map(|(tokens, cache)| Sequence::new(cache, tokens)).collect();
        let mut probe = memory.probe_of(sequence);
        model.pass().with_hook(&mut probe).run(&mut sequences).map(|_| probe.answer(model.pool()))
    };
    for (sequence, answers) in [false, true, false].into_iter().enumerate() {
        assert_eq!(answer(sequence).unwrap().is_some(), answers, "sequence {sequence}");
    }
    let error = answer(3).unwrap_err().to_string();
    assert!(error.contains("expected sequence 3, found 3 sequences"), "{error}");
}

#[test]
fn the_nearest_entries_come_with_the_cosine_that_answers() {
    let language = atlas();
    let edges = [fact("France", "capital", "New Poseidonis"), fact("Spain", "currency", "crown")];
    let taught = remembering(&language, &edges);
    let memory = taught.edge_memory().unwrap().unwrap();
    let model = taught.model();
    let tokens = taught.tokenizer().encode("The capital of France is", true).unwrap();
    let mut probe = memory.probe();
    let mut cache = KeyValueCache::new(model.spec());
    model.pass().with_hook(&mut probe).last_logits(&mut cache, &tokens).unwrap();
    let answer = probe.answer(model.pool()).unwrap();
    let layer = answer.entry.layer;
    let inputs = larql_inference::layer_inputs(model, layer, &[tokens]).unwrap();
    let input = &inputs[0][inputs[0].len() - model.spec().hidden_size..];
    let nearest = memory.nearest(model.pool(), layer, input, 5);
    assert_eq!(nearest.len(), 2);
    assert_eq!(nearest[0].0, answer.entry);
    assert!((nearest[0].1 - answer.cosine).abs() < 1e-4, "{} and {}", nearest[0].1, answer.cosine);
    assert!(nearest[1].1 < nearest[0].1);
    assert_eq!(memory.nearest(model.pool(), layer, input, 1).len(), 1);
    assert!(memory.nearest(model.pool(), layer + 1, input, 5).is_empty());
}
