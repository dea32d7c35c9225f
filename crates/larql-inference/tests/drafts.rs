//! Drafts change nothing: a token that runs ahead gets the bits that it gets by itself, in every family and both precisions,
//! and texts stay the same whatever is drafted.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::ops::ControlFlow;
use std::sync::Arc;

use larql_compute::{Pool, Precision};
use larql_core::progress::CancelToken;
use larql_inference::{
    CpuExecutor, DecodeOptions, Decoder, DraftError, DraftModel, Drafter, Executor, Generated, KeyValueCache,
    Model, PromptLookUp, SamplingOptions, Sequence, generate,
};
use larql_models::{Checkpoint, WeightSource};

const PROMPT: [u32; 7] = [1, 5, 9, 2, 7, 5, 9];

fn families() -> Vec<String> {
    let folder = larql_testing::repository("conformance");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn executor(family: &str, precision: Precision) -> CpuExecutor {
    let source = Checkpoint::open(&larql_testing::repository("conformance").join(family)).unwrap();
    assert!(source.spec().vocab_size > 40, "{family}");
    CpuExecutor::new(Model::load(&source, Arc::new(Pool::new(2))).unwrap()).with_precision(precision)
}

fn logits(executor: &CpuExecutor, sequence: Sequence<'_>) -> Vec<f32> {
    executor.forward(&mut [sequence], None, &CancelToken::never()).unwrap().into_values()
}

#[test]
fn drafted_tokens_get_the_bits_that_they_get_one_by_one() {
    for family in families() {
        for precision in [Precision::Exact, Precision::Fast] {
            let executor = executor(&family, precision);
            let mut state = KeyValueCache::new(executor.spec());
            logits(&executor, Sequence::new(&mut state, &PROMPT));
            let mut ahead = state.clone();
            let tokens = [3, 8, 4, 6, 2, 3];
            let one_by_one: Vec<f32> = tokens
                .iter()
                .flat_map(|token| logits(&executor, Sequence::new(&mut state, &[*token])))
                .collect();
            let drafted = logits(&executor, Sequence::draft(&mut ahead, &tokens));
            assert!(one_by_one == drafted, "{family} {precision:?}");
            // A wrong draft leaves no trace.
            ahead.truncate(PROMPT.len() + 2);
            let again = logits(&executor, Sequence::draft(&mut ahead, &tokens[2..]));
            assert!(one_by_one.ends_with(&again), "{family} {precision:?} after a wrong draft");
        }
    }
}

/// Drafts a known text, with every fifth token wrong.
struct Known {
    text: Vec<u32>,
    at: usize,
}

impl Drafter for Known {
    fn observe(&mut self, tokens: &[u32]) {
        self.at += tokens.len();
    }

    fn draft(&mut self, most: usize, _: &CancelToken) -> Result<Vec<u32>, DraftError> {
        let rest = self.text.iter().enumerate().skip(self.at).take(most);
        Ok(rest.map(|(at, token)| if at % 5 == 0 { (token + 1) % 32 } else { *token }).collect())
    }
}

/// The text, and the number of tokens in the state afterwards.
fn generated(
    executor: &CpuExecutor,
    sampling: &SamplingOptions,
    drafter: Option<&mut dyn Drafter>,
) -> (Generated, usize) {
    let mut state = KeyValueCache::new(executor.spec());
    let options = DecodeOptions { sampling: sampling.clone(), ..DecodeOptions::greedy(40) };
    let mut decoder = Decoder::new(options).unwrap().with_prompt(&PROMPT);
    let go_on = |_: &_| ControlFlow::Continue(());
    let never = CancelToken::never();
    let text = generate(executor, &mut state, &PROMPT, &mut decoder, drafter, &never, go_on).unwrap();
    (text, state.len())
}

#[test]
fn texts_are_the_same_with_any_drafts() {
    let sampled =
        SamplingOptions { temperature: 0.8, repetition_penalty: 1.2, seed: 3, ..Default::default() };
    for family in ["llama", "gemma3_text", "qwen3_moe"] {
        for sampling in [SamplingOptions::default(), sampled.clone()] {
            let executor = executor(family, Precision::Fast);
            let (plain, length) = generated(&executor, &sampling, None);
            assert_eq!(length, PROMPT.len() + plain.tokens.len() - 1);
            let text = [&PROMPT[..], &plain.tokens].concat();
            let (mut known, mut look_up) = (Known { text, at: 0 }, PromptLookUp::default());
            let mut itself = DraftModel::new(&executor, executor.spec().vocab_size);
            let drafters: [&mut dyn Drafter; 3] = [&mut known, &mut look_up, &mut itself];
            for drafter in drafters {
                let (drafted, drafted_length) = generated(&executor, &sampling, Some(drafter));
                assert_eq!((&drafted.tokens, drafted.reason), (&plain.tokens, plain.reason), "{family}");
                assert_eq!(drafted_length, length);
                assert!(drafted.accepted <= drafted.drafted);
            }
            assert_eq!((plain.drafted, plain.accepted), (0, 0));
        }
    }
}

#[test]
fn drafts_of_a_known_text_are_accepted() {
    let executor = executor("llama", Precision::Fast);
    let (plain, _) = generated(&executor, &SamplingOptions::default(), None);
    let text = [&PROMPT[..], &plain.tokens].concat();
    let (drafted, _) = generated(&executor, &SamplingOptions::default(), Some(&mut Known { text, at: 0 }));
    assert!(drafted.drafted > 0 && drafted.accepted > 0, "{drafted:?}");
}
