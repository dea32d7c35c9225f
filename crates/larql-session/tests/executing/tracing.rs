//! TRACE, and INFER with a declared intervention.

use larql_lql::output::{Inferred, TraceDifference, TraceView, Traced};
use larql_trace::{BoundaryStore, ChainStore, Component, ContextStore, Tier};

use super::*;

const PROMPT: &str = "The capital of France is";

fn traced(session: &mut Session, clauses: &str) -> Traced {
    match run(session, &format!("TRACE '{PROMPT}' {clauses}")).unwrap() {
        Output::Trace(traced) => traced,
        other => panic!("TRACE answers {other:?}"),
    }
}

fn inferred(session: &mut Session, clauses: &str) -> Inferred {
    match run(session, &format!("INFER '{PROMPT}' {clauses}")).unwrap() {
        Output::Infer(inferred) => inferred,
        other => panic!("INFER answers {other:?}"),
    }
}

#[test]
fn a_trace_ends_with_what_infer_predicts() {
    for fixture in [ALL, GEMMA, CHECKPOINT] {
        let mut session = open(fixture);
        let traced = traced(&mut session, "");
        let first = &inferred(&mut session, "TOP 1").runs[0].predictions[0];
        let last = traced.rows.last().unwrap();
        assert_eq!((traced.view, last.top1_token_id), (TraceView::Summary, first.token_id), "{fixture}");
        assert!((f64::from(last.top1_prob) - first.probability).abs() < 1e-4);
        assert_eq!(traced.rows.len(), traced.n_layers + 1);
        assert_eq!((traced.rows[0].layer, traced.tokens.len()), (-1, traced.token_ids.len()));
    }
}

#[test]
fn an_answer_is_followed_with_contributions_that_add_up() {
    let mut session = open(ALL);
    let token = traced(&mut session, "").rows.last().unwrap().top1_token.clone();
    let followed = traced(&mut session, &format!("FOR '{}'", token.replace('\'', "''")));
    let figures: Vec<_> = followed.rows.iter().map(|row| row.answer.clone().unwrap()).collect();
    for pair in figures.windows(2) {
        let parts = pair[1].attn_logit + pair[1].ffn_logit + pair[1].norm_logit;
        assert!((pair[1].logit - pair[0].logit - parts).abs() < 1e-3, "{pair:?}");
    }
    let decomposed = traced(&mut session, "DECOMPOSE LAYERS 0-0");
    assert_eq!(decomposed.view, TraceView::Decomposition);
    assert!(decomposed.rows.iter().all(|row| row.layer == 0 && row.answer.is_some()));
    let everywhere = traced(&mut session, "POSITIONS ALL");
    assert_eq!(everywhere.rows.len(), everywhere.tokens.len() * (everywhere.n_layers + 1));
}

#[test]
fn edits_show_in_a_trace() {
    let mut session = open(ALL);
    let before = traced(&mut session, "");
    run(&mut session, "DELETE FROM FEATURES WHERE layer = 0 AND feature = 0").unwrap();
    let after = traced(&mut session, "");
    assert_eq!(before.rows[0].residual_norm, after.rows[0].residual_norm);
    assert_ne!(before.rows[1].residual_norm, after.rows[1].residual_norm);
}

#[test]
fn two_prompts_are_compared_layer_by_layer() {
    let mut session = open(ALL);
    let of = |session: &mut Session, other: &str| -> TraceDifference {
        match run(session, &format!("TRACE '{PROMPT}' DIFF '{other}'")).unwrap() {
            Output::TraceDifference(difference) => difference,
            other => panic!("TRACE … DIFF answers {other:?}"),
        }
    };
    let same = of(&mut session, PROMPT);
    assert!(same.rows.iter().all(|row| row.delta_norm == 0.0 && (row.cosine - 1.0).abs() < 1e-5));
    let other = of(&mut session, "The capital of Germany is");
    assert!(other.rows.last().unwrap().delta_norm > 0.0);
}

#[test]
fn residuals_are_saved_in_every_format_and_appended() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let mut session = open(ALL);
    let shown = traced(&mut session, "POSITIONS ALL");
    let tokens = shown.tokens.len();
    for round in 1..=2 {
        let saved = traced(&mut session, &format!("SAVE '{}'", file("chains.bin").display())).saved.unwrap();
        assert_eq!((saved.added, saved.entries), (tokens, tokens * round));
    }
    let chains = ChainStore::open(&file("chains.bin")).unwrap();
    assert!(!chains.model().is_unknown());
    let residual = chains.vector(0, 1, Component::Residual).unwrap();
    let norm = residual.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((norm - shown.rows[1].residual_norm).abs() < 1e-4 * norm);

    let save = |session: &mut Session, name: &str, clauses: &str| {
        traced(session, &format!("SAVE '{}' {clauses}", file(name).display())).saved.unwrap()
    };
    let windows = tokens.div_ceil(2);
    assert_eq!(save(&mut session, "w.bndx", "FORMAT BOUNDARY WINDOW 2").added, windows);
    save(&mut session, "w.bndx", "FORMAT BOUNDARY WINDOW 2");
    let boundaries = BoundaryStore::open(&file("w.bndx")).unwrap();
    assert_eq!((boundaries.boundaries(), boundaries.total_tokens()), (2 * windows, 2 * tokens));
    assert_eq!(boundaries.last_token(0), Some(shown.token_ids[1]));
    for (tier, expected) in [(1, Tier::Residual), (3, Tier::Full), (4, Tier::FullInt8)] {
        let name = format!("{tier}.ctxt");
        let saved = save(&mut session, &name, &format!("FORMAT CONTEXT TIER {tier} WINDOW 3"));
        assert_eq!(saved.worst_error.is_some(), tier == 4);
        let store = ContextStore::open(&file(&name)).unwrap();
        assert_eq!((store.tier(), store.boundaries()), (&expected, tokens.div_ceil(3)));
    }
    let error = run(&mut session, &format!("TRACE 'x' SAVE '{}' FORMAT CONTEXT TIER 5", file("5").display()));
    assert_eq!(error.unwrap_err().to_string(), "tier 5 does not exist; expected 1 to 4");
    // The same file for another model.
    let mut other = open(GEMMA);
    let error = run(&mut other, &format!("TRACE 'x' SAVE '{}'", file("chains.bin").display())).unwrap_err();
    assert!(error.to_string().contains("was made with another model"), "{error}");
}

#[test]
fn a_declared_intervention_changes_the_prediction_and_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zero.json");
    std::fs::write(
        &file,
        r#"{"capture": [{"layer": 0, "stage": "layer_output"}],
            "interventions": [{"at": {"layer": 1, "stage": "feed_forward_output", "positions": "all"}, "zero": true}]}"#,
    )
    .unwrap();
    let mut session = open(ALL);
    let plain = inferred(&mut session, "");
    let changed = inferred(&mut session, &format!("WITH INTERVENTION '{}'", file.display()));
    assert_ne!(plain.runs[0].predictions, changed.runs[0].predictions);
    let receipt = changed.intervention.unwrap();
    assert_eq!(receipt.fired.len(), 1);
    assert_eq!(receipt.fired[0], traced(&mut session, "").tokens.len());
    assert_eq!((receipt.captured.len(), receipt.digest.len()), (1, 64));
    // Both feed-forward steps run with it.
    let compared = inferred(&mut session, &format!("COMPARE WITH INTERVENTION '{}'", file.display()));
    let [walk, dense] = &compared.runs[..] else { panic!("{compared:?}") };
    assert_eq!(walk.predictions[0].token_id, dense.predictions[0].token_id);
    assert!((walk.predictions[0].probability - dense.predictions[0].probability).abs() < 1e-4);
    assert_eq!(compared.intervention.unwrap().fired, receipt.fired);
    // The hook ended with the statement.
    assert_eq!(inferred(&mut session, "").runs[0].predictions, plain.runs[0].predictions);

    std::fs::write(&file, r#"{"interventions": [{"at": {"layer": 9, "stage": "keys"}, "zero": true}]}"#)
        .unwrap();
    let error = run(&mut session, &format!("INFER 'x' WITH INTERVENTION '{}'", file.display())).unwrap_err();
    assert!(error.to_string().starts_with("part 1: layer 9 does not exist"), "{error}");
    let error = run(&mut session, "INFER 'x' WITH INTERVENTION 'no-such-file.json'").unwrap_err();
    assert!(error.to_string().starts_with("no-such-file.json cannot be read"), "{error}");
}
