//! `bench`, alone and beside a peer. What it measures is nobody's business here; that it measures everything is.

use predicates::prelude::*;
use serde_json::Value;

use super::*;

/// Options that make it quick.
const QUICK: [&str; 10] =
    ["--prompts", "4", "--contexts", "3,5", "--decode", "2", "--rounds", "2", "--threads", "1"];

/// The figures of a run by name.
fn figures(arguments: &[&str]) -> Vec<Value> {
    let json = ["--format", "json"];
    let arguments = ["bench"].iter().chain(arguments).chain(&QUICK).chain(&json).copied();
    let lines = stdout(&larql(arguments).assert().success());
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(figures: &[Value]) -> Vec<&str> {
    figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect()
}

#[test]
fn every_figure_has_a_name_a_unit_and_a_spread() {
    let model = larql_testing::repository("conformance/llama");
    let figures = figures(&[text(&model), "--sequences", "3"]);
    let mut names = names(&figures);
    names.retain(|name| !name.starts_with("resident memory"));
    insta::assert_snapshot!(names.join("\n"), @r"
    load to first token
    prefill 4
    memory, reading 1 GiB
    weights that a token reads
    memory, reading as many bytes
    decode after 3
    decode after 5
    decode of 3 sequences
    decode after 3, share of bandwidth
    decode after 5, share of bandwidth
    ");
    for figure in &figures {
        let [lowest, median, highest] =
            ["lowest", "median", "highest"].map(|part| figure[part].as_f64().unwrap());
        assert!(lowest <= median && median <= highest, "{figure}");
        assert!(figure["unit"].is_string() && figure.get("peer").is_none(), "{figure}");
    }
}

#[test]
fn a_vindex_is_measured_as_a_database_too() {
    let model = fixture("llama-f16-all.vindex");
    let figures = figures(&[text(&model)]);
    let names = names(&figures);
    for name in
        ["prefill 4", "decode after 5", "open", "gate knn, knowledge band", "describe", "infer, exact"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn another_larql_is_measured_as_a_process() {
    let model = fixture("llama-f16-all.vindex");
    let own = assert_cmd::cargo_bin!("larql");
    let peer = format!("larql-reference={}", own.display());
    let figures = figures(&[text(&model), "--peer", &peer]);
    assert_eq!(names(&figures), ["load to first token, as a process", "decode, each of 2 tokens"]);
    assert!(figures[0]["ratio"]["median"].as_f64().unwrap() > 0.0);
    assert!(figures[0]["peer"]["lowest"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_peer_that_is_not_there_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let model = larql_testing::repository("conformance/llama");
    larql(["bench", text(&model), "--peer", "llama-cpp"])
        .env("XDG_CACHE_HOME", folder.path())
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains("scripts/reference-environment.sh"));
    let model = fixture("llama-f16-all.vindex");
    larql(["bench", text(&model), "--peer", "larql-reference=no-such-program"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("no-such-program does not start"));
    larql(["bench", text(&model), "--peer", "ollama"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("expected llama-cpp, or larql-reference=PATH"));
}

#[test]
fn a_prompt_that_does_not_fit_is_refused() {
    let model = larql_testing::repository("conformance/gpt2");
    larql(["bench", text(&model), "--prompts", "100000"])
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains("cannot do it: "));
}
