//! Conversations with the bundled model, which is given a chat template for it.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::ops::ControlFlow;
use std::sync::Arc;

use larql_compute::{Pool, Precision};
use larql_inference::{DecodeOptions, SamplingOptions, StopReason};
use larql_knowledge::{Conversation, GenerationOptions, KnowledgeError, LanguageModel};
use larql_models::Message;

/// The bundled model with a template that puts messages one after another.
fn talking() -> LanguageModel {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(larql_testing::shipped("atlas").join(name), folder.path().join(name)).unwrap();
    }
    let template = r#"{"chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}"}"#;
    std::fs::write(folder.path().join("tokenizer_config.json"), template).unwrap();
    LanguageModel::open(folder.path(), Arc::new(Pool::new(2))).unwrap()
}

fn options(max_tokens: usize) -> GenerationOptions {
    GenerationOptions::new(DecodeOptions::greedy(max_tokens), Precision::Exact)
}

fn say(conversation: &mut Conversation, text: &str, options: &GenerationOptions) -> (String, StopReason) {
    let mut answer = String::new();
    let generation = conversation.say(text, options, |part| {
        answer.push_str(part);
        ControlFlow::Continue(())
    });
    (answer, generation.unwrap().reason)
}

#[test]
fn the_repetition_penalty_covers_the_whole_conversation_however_much_of_it_is_cached() {
    let language = talking();
    let sampling = SamplingOptions { repetition_penalty: 1e6, ..SamplingOptions::default() };
    let mut options = options(4);
    options.decode.sampling = sampling;
    let mut conversation = language.conversation().unwrap();
    let first = "The capital of France is Paris, and that of Germany is Berlin.";
    let (answer, _) = say(&mut conversation, first, &options);
    let (second, _) = say(&mut conversation, "The capital of France is", &options);

    // The same conversation of which nothing is cached.
    let mut fresh = language.conversation().unwrap();
    fresh.add(Message::new("user", first));
    fresh.add(Message::new("assistant", &answer));
    let (whole, _) = say(&mut fresh, "The capital of France is", &options);
    assert_eq!(second, whole);
}

#[test]
fn a_conversation_that_fills_the_context_leaves_out_its_oldest_turns_and_keeps_the_systems_message() {
    let language = talking();
    let mut options = options(6);
    options.context = Some(64);
    let mut conversation = language.conversation().unwrap();
    conversation.add(Message::new("system", "Facts."));
    let mut forgotten = Vec::new();
    for turn in 0..12 {
        let (_, reason) = say(&mut conversation, &format!("Turn {turn}: the capital of France is"), &options);
        assert_eq!(reason, StopReason::MaxTokens);
        forgotten.push(conversation.forgotten());
    }
    assert_eq!((forgotten[0], conversation.messages().len()), (0, 25), "every message is kept");
    assert!(forgotten[11] >= 12 && forgotten[11] % 2 == 0, "whole turns are left out: {forgotten:?}");
    let times = forgotten.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(times < 8, "not every message changes the beginning: {forgotten:?}");
    conversation.clear();
    assert_eq!((conversation.forgotten(), conversation.messages().len()), (0, 1));
}

#[test]
fn a_text_ends_at_the_last_position_and_a_longer_prompt_is_refused() {
    let language = talking();
    let mut options = options(50);
    options.context = Some(8);
    let go_on = |_: &str| ControlFlow::Continue(());
    let generation = language.complete("The capital of France is", &options, go_on).unwrap();
    assert_eq!(generation.reason, StopReason::ContextFull);
    // The last token takes no position.
    assert_eq!(generation.prompt + generation.tokens.len(), 9);
    options.context = Some(2);
    let error = language.complete("The capital of France is", &options, go_on).unwrap_err();
    assert!(matches!(error, KnowledgeError::ContextExceeded { context: 2, extensible: true, .. }), "{error}");
    let mut conversation = language.conversation().unwrap();
    assert!(conversation.say("The capital of France is", &options, go_on).is_err());
    assert!(conversation.messages().is_empty(), "a message that fails is no part of the conversation");
}

#[test]
fn a_stop_text_ends_a_text_before_it() {
    let language = talking();
    let complete = |options: &GenerationOptions| {
        let mut text = String::new();
        let generation = language.complete("The capital of France is", options, |part| {
            text.push_str(part);
            ControlFlow::Continue(())
        });
        (text, generation.unwrap().reason)
    };
    let mut options = options(8);
    let (whole, _) = complete(&options);
    assert!(whole.starts_with(" Paris."), "{whole}");
    options.stop_texts = vec!["is.".into(), "ris".into()];
    assert_eq!(complete(&options), (" Pa".to_owned(), StopReason::StopText));
    options.stop_texts = vec!["no such text".into()];
    assert_eq!(complete(&options).0, whole);
}
