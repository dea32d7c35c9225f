//! WALK and EXPLAIN WALK.

use insta::assert_snapshot;
use larql_lql::ast::WalkMode;
use larql_lql::output::{FeatureRow, Ranked};

use super::*;

const PROMPT: &str = "The capital of France is";

fn rankings(fixture: &str, clauses: &str) -> Vec<Ranked> {
    match ask(fixture, &format!("WALK '{PROMPT}' {clauses}")) {
        Output::Walk(walked) => walked.rankings,
        other => panic!("WALK answers {other:?}"),
    }
}

fn descends(rows: &[FeatureRow], score: impl Fn(&FeatureRow) -> f32) -> bool {
    rows.windows(2).all(|pair| pair[0].layer < pair[1].layer || score(&pair[0]) >= score(&pair[1]))
}

#[test]
fn a_walk_layer_by_layer() {
    assert_snapshot!(shown(&ask(ALL, &format!("WALK '{PROMPT}' TOP 2"))), @r#"
    The capital of France is (last token: ␣is)
     layer  feature  gate  activation   score  tokens
    ─────────────────────────────────────────────────────────────
         0      216  1.95       -3.90  0.1421  J, \, F
         0      237  2.39       -3.75  0.1613  <0x90>, os, G
         1       38  2.42       -4.74  0.1054  <0xD3>, \u{18}, u
         1      140  1.68       -3.39  0.1203  he, <0x88>, en
         2      321  2.31        4.92  0.1367  F, U, <0xD4>
         2      195  1.54       -4.59  0.1118  is, yen, <0xD3>
    "#);
}

#[test]
fn each_mode_ranks_by_its_own_score() {
    let [pure] = &rankings(ALL, "TOP 8 MODE PURE")[..] else { panic!() };
    assert_eq!((pure.mode, pure.rows.len()), (WalkMode::Pure, 24));
    assert!(descends(&pure.rows, |row| row.gate.unwrap()));
    let [dense] = &rankings(ALL, "TOP 8 MODE DENSE")[..] else { panic!() };
    assert!(descends(&dense.rows, |row| row.activation.unwrap().abs()));
    let [hybrid] = &rankings(ALL, "TOP 8")[..] else { panic!() };
    assert_eq!((hybrid.mode, &hybrid.rows), (WalkMode::Hybrid, &dense.rows));
    // Without what activations take, by the gate.
    let [browsed] = &rankings(BROWSE, "TOP 8")[..] else { panic!() };
    assert!(descends(&browsed.rows, |row| row.gate.unwrap()));
    assert!(browsed.rows.iter().all(|row| row.activation.is_none()));
}

#[test]
fn features_that_do_not_fire_are_not_shown() {
    for clauses in ["TOP 512", "TOP 512 MODE PURE", "TOP 512 MODE DENSE"] {
        let rows = &rankings(ALL, clauses)[0].rows;
        assert!(rows.len() > 100 && rows.len() < 3 * 512);
        assert!(rows.iter().all(|row| row.gate.unwrap() > 0.0), "{clauses}");
    }
}

#[test]
fn compare_shows_both_rankings() {
    let modes: Vec<WalkMode> = rankings(ALL, "COMPARE").iter().map(|ranked| ranked.mode).collect();
    assert_eq!(modes, [WalkMode::Pure, WalkMode::Dense]);
}

#[test]
fn a_walk_stays_in_its_layers() {
    let layers = |clauses| {
        let rows = &rankings(ALL, clauses)[0].rows;
        rows.iter().map(|row| row.layer).collect::<Vec<_>>()
    };
    assert_eq!(layers("TOP 1 LAYERS 1-2"), [1, 2]);
    assert_eq!(layers("TOP 1 LAYERS 2"), [2]);
    assert_eq!(layers("TOP 1 LAYERS ALL"), [0, 1, 2]);
    assert_snapshot!(refused(&mut open(ALL), "WALK 'France' LAYERS 2-9"), @"
     × layer 9 does not exist: the model has layers 0 to 2
      ╭─[lql:1:22]
    1 │ WALK 'France' LAYERS 2-9
      ·                      ─┬─
      ·                       ╰── no such layer
      ╰────
    ");
}

#[test]
fn all_features_at_most() {
    let all = &rankings(BROWSE, "TOP 100000 MODE PURE")[0].rows;
    assert_eq!(*all, rankings(BROWSE, "TOP 512 MODE PURE")[0].rows);
}

#[test]
fn activations_take_up_projections() {
    // Level browse holds gates only, so they alone can be ranked by.
    assert!(rankings(BROWSE, "MODE PURE")[0].rows.iter().all(|row| row.activation.is_none()));
    let error = run(&mut open(BROWSE), "WALK 'France' MODE DENSE").unwrap_err().to_string();
    assert!(
        error.ends_with("which holds level browse; extract the model at level inference to have it"),
        "{error}"
    );
}

#[test]
fn blocks_fire_the_same_features() {
    let strongest = |fixture| {
        let rows = rankings(fixture, "TOP 1 MODE PURE").remove(0).rows;
        rows.into_iter().map(|row| (row.layer, row.feature)).collect::<Vec<_>>()
    };
    assert_eq!(strongest(BLOCKS), strongest(ALL));
}

#[test]
fn explained() {
    assert_snapshot!(shown(&ask(ALL, "EXPLAIN WALK 'France' LAYERS 1 TOP 2")), @r#"
    France (last token: ance)
    L1 knowledge (query norm 16.20, 512 features asked)
       feature  gate  activation   score  tokens
      ───────────────────────────────────────────────────────────
           201  2.14        3.50  0.1002  ", is, <0xD4>
           445  1.58        2.75  0.1261  <0xED>, <0x8F>, <0xDC>
    "#);
    let tokens = |text| match ask(ALL, text) {
        Output::ExplainWalk(walked) => walked.layers[0].rows[0].tokens.len(),
        other => panic!("EXPLAIN WALK answers {other:?}"),
    };
    assert!(tokens("EXPLAIN WALK 'France' VERBOSE") > tokens("EXPLAIN WALK 'France'"));
}

#[test]
fn a_text_without_tokens() {
    assert_snapshot!(refused(&mut open(ALL), "WALK ''"), @"  × the text has no tokens; give at least one");
}
