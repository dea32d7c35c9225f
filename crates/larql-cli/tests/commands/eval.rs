//! `eval`: what is measured, as a table and as JSON.

use predicates::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn edits_are_scored_from_any_folder() {
    let cache = tempfile::tempdir().unwrap();
    let eval = |options: &[&'static str]| {
        let arguments = ["eval", "edits", "atlas", "--n", "2"].into_iter().chain(options.iter().copied());
        let mut command = larql(arguments);
        command.env("XDG_CACHE_HOME", cache.path()).current_dir(cache.path());
        command.assert().success().stderr("")
    };
    let table = stdout(&eval(&[]));
    assert!(table.starts_with("atlas: 2 false edges inserted, 1 at a time\n"), "{table}");
    let figures: Vec<&str> =
        table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(
        figures,
        ["measure", "efficacy", "paraphrase", "specificity", "retention", "drawdown", "cost"]
    );

    let json = stdout(&eval(&["--together", "2", "--format", "json"]));
    let scores: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&scores["model"], &scores["edits"]), (&"atlas".into(), &2.into()));
    assert_eq!((&scores["together"], scores["efficacy"].as_f64()), (&2.into(), Some(1.0)));
}

#[test]
fn a_set_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facts.json");
    std::fs::write(&file, r#"{"definite": [], "relations": []}"#).unwrap();
    let checkpoint = fixture("llama-checkpoint");
    larql(["eval", "edits", text(&checkpoint), "--facts", text(&file)])
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains("facts.json: missing field `edits`"));
}

#[test]
fn edges_beside_the_weights_answer_their_own_questions_and_no_others() {
    let cache = tempfile::tempdir().unwrap();
    let mut command = larql(["eval", "recall", "atlas", "--n", "300", "--format", "json"]);
    command.env("XDG_CACHE_HOME", cache.path()).current_dir(cache.path());
    let scores: Value = serde_json::from_str(&stdout(&command.assert().success().stderr(""))).unwrap();
    assert_eq!((&scores["entries"], &scores["retrieved"]), (&300.into(), &1.0.into()));
    assert_eq!((&scores["unrelated"], &scores["overridden"]), (&1000.into(), &0.into()));
    assert!(scores["specificity"].as_f64().unwrap() > 0.97, "{scores}");
}

#[test]
fn answers_do_not_survive_without_the_nodes_of_their_graphs() {
    let cache = tempfile::tempdir().unwrap();
    let mut command = larql(["eval", "attribution", "atlas", "--n", "8", "--format", "json"]);
    command.env("XDG_CACHE_HOME", cache.path()).current_dir(cache.path());
    let scores: Value = serde_json::from_str(&stdout(&command.assert().success().stderr(""))).unwrap();
    let score = |name: &str| scores[name].as_f64().unwrap();
    assert_eq!(scores["facts"], 8);
    assert!(score("probability") > 0.9, "{scores}");
    assert!(score("without_nodes") < score("without_others"), "{scores}");
    assert!(score("explained") > 0.5 && score("explained") <= 1.0, "{scores}");
}
