//! Traces agree with the reference's hidden states, and their parts add up.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::path::PathBuf;
use std::sync::Arc;

use larql_compute::vector::{dot, norm};
use larql_compute::{Pool, Precision};
use larql_inference::{KeyValueCache, Model, PassError, greedy, greedy_continuations};
use larql_models::Checkpoint;
use larql_trace::{
    AnswerTrajectory, Positions, Trace, TraceError, embedding_neighbours, head_contributions, read_lens,
    unembedding_projection,
};

fn folder(family: &str) -> PathBuf {
    larql_testing::repository("conformance").join(family)
}

fn open(family: &str) -> Model {
    Model::load(&Checkpoint::open(&folder(family)).unwrap(), Arc::new(Pool::new(2))).unwrap()
}

/// Families with post-norms, soft caps, parallel branches, layer norms, layer scales, per-layer inputs and mixtures.
const FAMILIES: [&str; 8] =
    ["llama", "gemma2", "gemma3_text", "gemma4_e2b", "phi", "gpt2", "granite", "qwen3_moe"];

const TOKENS: [u32; 7] = [5, 9, 2, 11, 4, 30, 3];

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Greatest difference of two vectors, as a share of the second's greatest value.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn residuals_are_those_of_the_pass_and_deltas_add_up_to_them() {
    for family in FAMILIES {
        let model = open(family);
        let trace = Trace::record(&model, &TOKENS, &Positions::All).unwrap();
        assert_eq!((trace.positions().len(), trace.layers()), (TOKENS.len(), model.spec().layers.len()));
        for index in 0..TOKENS.len() {
            let stream = trace.position(index);
            assert!(stream.attention_delta(0).iter().chain(stream.feed_forward_delta(0)).all(|v| *v == 0.0));
            for waypoint in 1..=trace.layers() {
                let parts = stream.residual(waypoint - 1).iter().zip(stream.attention_delta(waypoint));
                let sum = parts.zip(stream.feed_forward_delta(waypoint)).map(|((a, b), c)| a + b + c);
                let sum: Vec<f32> = sum.collect();
                assert!(difference(&sum, stream.residual(waypoint)) < 1e-5, "{family}, {index}, {waypoint}");
            }
        }
        let last = trace.position(TOKENS.len() - 1).residual(trace.layers());
        let logits = model.logit_lens(last).unwrap();
        assert!(difference(&logits, trace.last_logits()) < 1e-5, "{family}");
        let alone = Trace::record(&model, &TOKENS, &Positions::Last).unwrap();
        assert_eq!(alone.position(0).chain(), trace.position(TOKENS.len() - 1).chain(), "{family}");
    }
}

#[test]
fn residuals_agree_with_the_reference() {
    for family in ["llama", "gemma3_text", "gpt2"] {
        let (model, bytes) =
            (open(family), std::fs::read(folder(family).join("expected.safetensors")).unwrap());
        let expected = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| floats(expected.tensor(name).unwrap().data());
        let tokens = expected.tensor("tokens_1").unwrap().data().chunks_exact(8);
        let tokens = tokens.map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()));
        let tokens: Vec<u32> = tokens.map(|token| token as u32).collect();
        let trace = Trace::record(&model, &tokens, &Positions::All).unwrap();
        let (hidden, rows) = (model.spec().hidden_size, numbers("hidden_1"));
        for (index, _) in tokens.iter().enumerate() {
            // The reference's last entry is after the final norm.
            for waypoint in 0..trace.layers() {
                let row = &rows[(waypoint * tokens.len() + index) * hidden..][..hidden];
                let found = trace.position(index).residual(waypoint);
                assert!(difference(found, row) < 2e-4, "{family}, {index}, {waypoint}");
            }
        }
    }
}

#[test]
fn contributions_add_up_to_the_change_of_the_logit() {
    for family in FAMILIES {
        let model = open(family);
        let answer = greedy_continuations(&model, &[(&TOKENS, 3)]).unwrap().concat();
        let followed = AnswerTrajectory::follow(&model, &TOKENS, &answer, false).unwrap();
        assert_eq!(followed.deciding, 0);
        let waypoints = followed.deciding_waypoints();
        assert_eq!(waypoints.len(), model.spec().layers.len() + 1);
        assert_eq!(waypoints[0].layer, -1);
        for pair in waypoints.windows(2) {
            let change = pair[1].logit - pair[0].logit;
            let parts = pair[1].attention + pair[1].feed_forward + pair[1].rescaling;
            let scale = 1.0 + pair[0].logit.abs() + pair[1].attention.abs() + pair[1].feed_forward.abs();
            assert!(
                (change - parts).abs() < 1e-4 * scale,
                "{family}, layer {}: {change}, {parts}",
                pair[1].layer
            );
        }
        let last = waypoints.last().unwrap();
        assert_eq!(last.rank, 1, "{family}");
        // The whole answer's probability is the product over its tokens, each after those before it.
        let mut probability = 1.0;
        for (index, token) in answer.iter().enumerate() {
            let text = [&TOKENS[..], &answer[..index]].concat();
            let logits = model.pass().last_logits(&mut KeyValueCache::new(model.spec()), &text).unwrap();
            let readings = larql_inference::predictions(&logits, logits.len());
            probability *= readings.iter().find(|p| p.token == *token).unwrap().probability;
        }
        assert!((last.whole_probability - probability).abs() < 1e-4, "{family}");
    }
}

#[test]
fn an_answer_is_judged_by_the_token_that_tells_it_apart() {
    let model = open("llama");
    let own = greedy_continuations(&model, &[(&TOKENS, 2)]).unwrap().concat();
    let other = [own[0], (own[1] + 1) % 200];
    let followed = AnswerTrajectory::follow(&model, &TOKENS, &other, true).unwrap();
    assert_eq!((followed.deciding, followed.deciding_position), (1, TOKENS.len()));
    assert!(followed.deciding_waypoints().last().unwrap().rank > 1);
    assert_eq!(followed.waypoints.len(), TOKENS.len() + 1);
    assert!(matches!(AnswerTrajectory::follow(&model, &TOKENS, &[], true), Err(TraceError::EmptyAnswer)));
    let without_prompt = AnswerTrajectory::follow(&model, &[], &[1, 2], false);
    assert!(matches!(without_prompt, Err(TraceError::Pass(PassError::NoTokens))));
    let beyond = Trace::record(&model, &TOKENS, &Positions::Some(vec![0, 7]));
    assert!(matches!(beyond, Err(TraceError::NoSuchPosition { position: 7, tokens: 7 })));
}

#[test]
fn heads_and_features_share_the_logit() {
    for family in ["llama", "gemma3_text", "granite"] {
        let model = open(family);
        let trace = Trace::record(&model, &TOKENS, &Positions::Last).unwrap();
        let stream = trace.position(0);
        let last = stream.residual(trace.layers());
        let token = greedy(trace.last_logits());
        let direction = model.logit_direction(token, last).unwrap();
        let heads = head_contributions(&model, &TOKENS, token).unwrap();
        for (layer, heads) in heads.iter().enumerate() {
            let all = dot(&direction, stream.attention_delta(layer + 1));
            let sum: f32 = heads.iter().sum();
            let scale = norm(&direction) * norm(stream.attention_delta(layer + 1));
            assert!((all - sum).abs() < 1e-4 * scale, "{family}, layer {layer}: {all}, {sum}");
        }
    }
}

#[test]
fn vectors_are_read_in_token_space() {
    let model = open("llama");
    let mut row = vec![0.0; model.spec().hidden_size];
    let trace = Trace::record(&model, &[30], &Positions::Last).unwrap();
    row.copy_from_slice(trace.position(0).residual(0));
    let nearest = embedding_neighbours(&model, &row, 3).unwrap();
    assert_eq!(nearest[0].token, 30);
    assert!((nearest[0].score - 1.0).abs() < 1e-5);
    let best = unembedding_projection(&model, &row, 1).unwrap()[0];
    assert!((best.score - model.head_product(best.token, &row).unwrap()).abs() < 1e-4);
    let readings = read_lens(&model, &row, 1, &[3], Precision::Exact).unwrap();
    assert!(readings[0].target.unwrap().rank >= 1 && readings[0].top.len() == 1);
}
