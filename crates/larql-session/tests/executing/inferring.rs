//! INFER and EXPLAIN INFER.

use insta::assert_snapshot;
use larql_lql::output::{ExplainedInference, Inferred, Prediction};
use serde_json::Value;

use super::*;

/// Largest difference of the logits of two tokens between f16 weights here and in the reference.
const TOLERANCE: f64 = 1e-3;

fn inferred(session: &mut Session, text: &str) -> Inferred {
    match run(session, text).unwrap() {
        Output::Infer(inferred) => inferred,
        other => panic!("INFER answers {other:?}"),
    }
}

fn explained(clauses: &str) -> ExplainedInference {
    match ask(ALL, &format!("EXPLAIN INFER 'The capital of France is' {clauses}")) {
        Output::ExplainInfer(explained) => explained,
        other => panic!("EXPLAIN INFER answers {other:?}"),
    }
}

/// Prompts of a model, each with the ten likeliest tokens and their logits.
fn expected(model: &str) -> Vec<(String, Vec<(u64, f64)>)> {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    let facts: Value = serde_json::from_str(&text).unwrap();
    let pair = |pair: &Value| (pair[0].as_u64().unwrap(), pair[1].as_f64().unwrap());
    let prompts = facts[model].as_object().unwrap().iter();
    prompts
        .map(|(prompt, facts)| {
            (prompt.clone(), facts["top10"].as_array().unwrap().iter().map(pair).collect())
        })
        .collect()
}

/// The tokens are the expected ones, and their probabilities stand in the ratio that the expected logits say.
fn agrees(predictions: &[Prediction], expected: &[(u64, f64)]) {
    let ratio = |prediction: &Prediction| (prediction.probability / predictions[0].probability).ln();
    for (prediction, (token, logit)) in predictions.iter().zip(expected) {
        assert_eq!(u64::from(prediction.token_id), *token);
        let difference = ratio(prediction) - (logit - expected[0].1);
        assert!(difference.abs() < TOLERANCE, "token {token} is {difference} off");
    }
    assert_eq!(predictions.len(), expected.len());
}

#[test]
fn a_prompt_past_the_context_is_refused() {
    let mut session = open(ALL);
    let prompt = "France ".repeat(3000);
    for statement in ["INFER", "EXPLAIN INFER", "TRACE"] {
        let said = refused(&mut session, &format!("{statement} '{prompt}'"));
        assert!(said.contains("expected a prompt of at most") && said.contains("larql tokenize"), "{said}");
    }
}

#[test]
fn vindexes_predict_what_the_reference_does() {
    for (fixture, model) in [(ALL, "llama"), (GEMMA, "gemma3"), (CHECKPOINT, "llama")] {
        let mut session = open(fixture);
        for (prompt, expected) in expected(model) {
            let inferred = inferred(&mut session, &format!("INFER '{prompt}' TOP 10"));
            agrees(&inferred.runs[0].predictions, &expected);
        }
    }
}

#[test]
fn the_walk_over_all_features_is_the_dense_step() {
    for fixture in [ALL, GEMMA, BLOCKS] {
        let inferred = inferred(&mut open(fixture), "INFER 'The capital of France is' TOP 320 COMPARE");
        let [walk, dense] = &inferred.runs[..] else { panic!("two runs") };
        assert_eq!((&*walk.ffn, &*dense.ffn), ("walk", "dense"));
        assert_eq!(walk.predictions, dense.predictions, "{fixture}");
    }
}

#[test]
fn a_walk_over_few_features_is_another() {
    let mut session = open(ALL);
    session.set_walk_k(Some(8));
    let inferred = inferred(&mut session, "INFER 'The capital of France is' TOP 320 COMPARE");
    assert_ne!(inferred.runs[0].predictions, inferred.runs[1].predictions);
}

#[test]
fn probabilities_of_all_tokens_are_one() {
    let inferred = inferred(&mut open(GEMMA), "INFER 'The' TOP 1000");
    let predictions = &inferred.runs[0].predictions;
    assert_eq!(predictions.len(), 320);
    let sum: f64 = predictions.iter().map(|prediction| prediction.probability).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    assert!(predictions.is_sorted_by(|a, b| a.probability >= b.probability));
}

#[test]
fn browsing_does_not_predict() {
    let error = run(&mut open(BROWSE), "INFER 'France'").unwrap_err().to_string();
    assert_snapshot!(error.replace(&fixture(""), "fixtures/"), @"predicting is not in fixtures/llama-f32-browse.vindex, which holds level browse; extract the model at level inference to have it");
}

#[test]
fn nothing_predicts_nothing() {
    for text in ["INFER ''", "EXPLAIN INFER ''"] {
        let error = run(&mut open(ALL), text).unwrap_err();
        assert!(matches!(error, ExecuteError::Knowledge(_)), "{text}: {error}");
    }
}

#[test]
fn explained_layer_by_layer() {
    let text = "EXPLAIN INFER 'The capital of France is' LAYERS 1-2 TOP 2 WITH ATTENTION";
    assert_snapshot!(shown(&ask(ALL, text)), @r#"
    The capital of France is
      1. <0xF2>    3.02%
      2. \u{1e}    1.82%
      3. <0xDD>    1.41%
      4. Z         1.35%
      5. <0xC8>    1.34%
    Contributions are to the logit of <0xF2> 3.02%
    L1 (lens \u{5} 2.59%, answer 1.81%)
       feature  gate  activation  contribution   score  tokens
      ────────────────────────────────────────────────────────────────────
           396  1.40        2.40       -0.1139  0.1246  \u{0}, <0xA8>, al
            86  2.06       -3.43        0.0963  0.1303  <0xF8>, M, <0xBB>
       head  first              second             third
      ──────────────────────────────────────────────────────────────
          0  2 ␣of 33.17%       4 ␣is 23.17%       0 The 18.42%
          1  4 ␣is 57.55%       3 ␣France 28.74%   0 The 8.42%
          2  1 ␣capital 33.18%  0 The 23.77%       3 ␣France 21.54%
          3  4 ␣is 45.19%       1 ␣capital 17.70%  2 ␣of 15.63%

    L2 (lens <0xF2> 3.02%, answer 3.02%)
       feature  gate  activation  contribution   score  tokens
      ─────────────────────────────────────────────────────────────────────
           174  1.47        3.75        0.1675  0.1367  \u{1e}, <0xCE>, ap
           112  1.06        2.38       -0.1514  0.1209  \u{8}, i, <0x99>
       head  first         second             third
      ──────────────────────────────────────────────────────────
          0  4 ␣is 26.81%  1 ␣capital 20.36%  2 ␣of 19.09%
          1  0 The 25.94%  4 ␣is 24.46%       1 ␣capital 22.16%
          2  4 ␣is 37.70%  1 ␣capital 28.58%  2 ␣of 16.01%
          3  2 ␣of 32.32%  1 ␣capital 32.16%  0 The 18.77%
    "#);
}

#[test]
fn explaining_predicts_the_same() {
    let inferred = inferred(&mut open(ALL), "INFER 'The capital of France is' COMPARE");
    let explained = explained("");
    assert_eq!(explained.predictions, inferred.runs[1].predictions);
    assert_eq!(explained.layers.len(), 3);
    // The logit lens after the last layer is the prediction.
    let last = explained.layers.last().unwrap();
    assert_eq!(last.lens_token, explained.predictions[0].token);
    assert!((last.answer_probability - explained.predictions[0].probability).abs() < 1e-6);
    assert!(explained.layers.iter().all(|layer| layer.attention.is_empty() && layer.rows.len() == 10));
}

#[test]
fn attention_of_every_head_to_the_positions_that_it_looks_at_most() {
    for layer in explained("WITH ATTENTION").layers {
        let heads: Vec<usize> = layer.attention.iter().map(|attended| attended.head).collect();
        assert_eq!(heads, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
        for head in layer.attention.chunks(3) {
            assert!(head.is_sorted_by(|a, b| a.weight >= b.weight));
            assert!(head.iter().map(|attended| attended.weight).sum::<f32>() <= 1.0 + 1e-5);
            assert!(head.iter().all(|attended| attended.position < 5 && attended.weight > 0.0));
        }
    }
}

#[test]
fn contributions_strongest_first() {
    for layer in explained("TOP 512").layers {
        let contributions: Vec<f32> = layer.rows.iter().map(|row| row.contribution.unwrap().abs()).collect();
        assert_eq!(contributions.len(), 512);
        assert!(contributions.is_sorted_by(|a, b| a >= b));
    }
}
