//! Answers do not depend on the other requests of a batch.

use std::sync::Arc;

use larql_compute::Pool;
use larql_compute::attention::KeyValueFormat;
use larql_inference::{DecodeOptions, SamplingOptions, StopReason};
use larql_knowledge::LanguageModel;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{EngineError, EngineOptions, Event, Finish, GenerationRequest, PAGE, Scheduler};
use crate::metrics::Metrics;

const OPTIONS: EngineOptions = EngineOptions {
    concurrent: 32,
    waiting: 64,
    pages: 1024,
    key_values: KeyValueFormat::Float,
    share_prefixes: true,
};

fn atlas() -> LanguageModel {
    LanguageModel::open(&larql_testing::shipped("atlas"), Arc::new(Pool::new(2))).unwrap()
}

fn scheduler(options: EngineOptions) -> Scheduler {
    Scheduler::start(options, Arc::new(Pool::new(2)), Arc::new(Metrics::new())).unwrap()
}

fn request(language: &LanguageModel, prompt: &str, max_tokens: usize) -> GenerationRequest {
    GenerationRequest {
        language: language.clone(),
        weights: 0,
        prompt: language.encode(prompt, true).unwrap(),
        decode: DecodeOptions {
            stop_tokens: language.stop_tokens().to_vec(),
            ..DecodeOptions::greedy(max_tokens)
        },
        stop_texts: Vec::new(),
        constraint: None,
        prompt_alternatives: None,
    }
}

/// The whole answer: text, tokens and end.
fn answer(mut events: UnboundedReceiver<Event>) -> Result<(String, Vec<u32>, Finish), EngineError> {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        match events.blocking_recv().ok_or(EngineError::Stopped)? {
            Event::Prompt(_) => {}
            Event::Token(token) => {
                text += &token.text;
                tokens.push(token.token.id);
            }
            Event::Finished(finish) => return Ok((text + &finish.text, tokens, finish)),
            Event::Failed(error) => return Err(error),
        }
    }
}

/// Prompts of different lengths, of which some begin alike for more than a page.
fn prompts() -> Vec<String> {
    let long =
        "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is Madrid. "
            .repeat(6);
    vec![
        "The capital of France is".into(),
        "The capital of Japan is".into(),
        format!("{long}The capital of Peru is"),
        format!("{long}The capital of Chad is"),
        "a".into(),
        format!("{}The currency of Japan is", &long[..200]),
    ]
}

#[test]
fn greedy_text_is_the_same_alone_in_company_and_from_shared_pages() {
    let language = atlas();
    let alone: Vec<_> = prompts()
        .iter()
        .map(|prompt| answer(scheduler(OPTIONS).submit(request(&language, prompt, 24)).unwrap()).unwrap())
        .map(|(text, tokens, _)| (text, tokens))
        .collect();
    let scheduler = scheduler(OPTIONS);
    for round in 0..2 {
        let events: Vec<_> = prompts()
            .iter()
            .map(|prompt| scheduler.submit(request(&language, prompt, 24)).unwrap())
            .collect();
        let answers: Vec<_> = events.into_iter().map(|events| answer(events).unwrap()).collect();
        let cached: usize = answers.iter().map(|(.., finish)| finish.cached).sum();
        assert!(round == 0 || cached > 0, "{cached} tokens were shared in round {round}");
        let together: Vec<_> = answers.into_iter().map(|(text, tokens, _)| (text, tokens)).collect();
        assert_eq!(together, alone, "round {round}");
    }
}

#[test]
fn a_prompt_that_several_send_at_once_is_read_once() {
    let language = atlas();
    let scheduler = scheduler(OPTIONS);
    let prompt = &prompts()[2];
    let events: Vec<_> = (0..8).map(|_| scheduler.submit(request(&language, prompt, 4)).unwrap()).collect();
    let answers: Vec<_> = events.into_iter().map(|events| answer(events).unwrap().2).collect();
    let pages_before_the_last_token = (answers[0].prompt - 1) / PAGE * PAGE;
    let cached: Vec<_> = answers.iter().map(|finish| finish.cached).collect();
    assert_eq!(cached, [&[0][..], &[pages_before_the_last_token; 7]].concat());
}

#[test]
fn pages_whose_keys_depend_on_the_length_of_the_prompt_are_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = larql_testing::repository("conformance/phi3_longrope");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(checkpoint.join(file), folder.path().join(file)).unwrap();
    }
    let tokenizer = r#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
    let language = LanguageModel::open(folder.path(), Arc::new(Pool::new(1))).unwrap();
    let scheduler = scheduler(OPTIONS);
    // Angles are others from 25 tokens on.
    let cached = [20, 22, 40, 40, 24].map(|tokens| {
        let mut request = request(&language, "a", 1);
        request.prompt = (0..tokens).map(|token| token % 7).collect();
        answer(scheduler.submit(request).unwrap()).unwrap().2.cached
    });
    assert_eq!(cached, [0, PAGE, 0, 0, PAGE]);
}

#[test]
fn parts_of_a_prompt_end_where_pages_do() {
    assert!(PAGE.is_multiple_of(larql_compute::rows_of_a_part()));
}

#[test]
fn sampled_text_depends_on_the_seed_alone() {
    let language = atlas();
    let scheduler = scheduler(OPTIONS);
    let sampled = |seed| {
        let sampling = SamplingOptions { temperature: 1.5, seed, ..SamplingOptions::default() };
        let mut request = request(&language, "The capital of", 16);
        request.decode.sampling = sampling;
        scheduler.submit(request).unwrap()
    };
    let seeds = [1, 2, 1, 3];
    let events: Vec<_> = seeds.map(sampled).into_iter().collect();
    let answers: Vec<_> = events.into_iter().map(|events| answer(events).unwrap().1).collect();
    assert_eq!(answers[0], answers[2]);
    assert_ne!(answers[0], answers[1]);
}

#[test]
fn a_full_queue_refuses_and_a_client_that_goes_away_frees_its_place() {
    let language = atlas();
    let scheduler = scheduler(EngineOptions { concurrent: 1, waiting: 2, ..OPTIONS });
    // The context is the only bound, so that the first request is still under way when the others come.
    let endless = || {
        let mut request = request(&language, "The capital of France is", 100_000);
        request.decode.stop_tokens.clear();
        request
    };
    let mut first = scheduler.submit(endless()).unwrap();
    assert!(matches!(first.blocking_recv(), Some(Event::Token(_))));
    let waiting = [scheduler.submit(endless()).unwrap(), scheduler.submit(endless()).unwrap()];
    let error = scheduler.submit(endless()).unwrap_err();
    assert_eq!(error, EngineError::Full { waiting: 2, seconds: 1 });
    drop(first);
    drop(waiting);
    // The places are free after the pass that is under way.
    let events = loop {
        match scheduler.submit(request(&language, "The capital of Italy is", 3)) {
            Ok(events) => break events,
            Err(error) => assert!(matches!(error, EngineError::Full { .. }), "{error}"),
        }
        std::thread::yield_now();
    };
    let (_, tokens, finish) = answer(events).unwrap();
    assert_eq!((tokens.len(), finish.reason), (3, StopReason::MaxTokens));
}

#[test]
fn what_can_never_run_is_refused_at_once() {
    let language = atlas();
    let scheduler = scheduler(EngineOptions { pages: 4, ..OPTIONS });
    let refused = |request| scheduler.submit(request).unwrap_err().to_string();
    let prompt = |prompt: Vec<u32>| GenerationRequest { prompt, ..request(&language, "a", 1) };
    let errors = [
        refused(prompt(Vec::new())),
        refused(prompt(vec![9_999_999])),
        refused(prompt(vec![5; 1_000_000])),
        refused(request(&language, "a", 200)),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn stop_texts_are_not_part_of_the_text() {
    let language = atlas();
    let scheduler = scheduler(OPTIONS);
    let (text, ..) =
        answer(scheduler.submit(request(&language, "The capital of France is", 12)).unwrap()).unwrap();
    let middle = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
    let stop: String = text[middle..].chars().take(3).collect();
    let mut stopped = request(&language, "The capital of France is", 12);
    stopped.stop_texts = vec![stop.clone()];
    let (short, _, finish) = answer(scheduler.submit(stopped).unwrap()).unwrap();
    assert_eq!(finish.reason, StopReason::StopText);
    assert_eq!(short, text[..text.find(&stop).unwrap()]);
}
