//! `label`: what groups of features are named after, on the bundled model.

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use super::*;

/// A table of `crates/larql-assets/data/facts`.
fn facts(name: &str) -> PathBuf {
    larql_testing::shipped("facts").join(name)
}

#[test]
fn groups_are_named_written_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let vindex = folder.path().join("atlas.vindex");
    let atlas = larql_testing::shipped("atlas");
    larql(["extract", text(&atlas), "-o", text(&vindex), "--level", "browse"]).assert().success();
    // The bundled model comes with labels of a probe, which win over those of groups.
    for probed in ["feature_labels.json", "feature_evidence.jsonl"] {
        std::fs::remove_file(vindex.join(probed)).unwrap();
    }
    let (countries, words) = (facts("countries.tsv"), facts("words.tsv"));
    let label = |options: &[&str]| {
        let arguments =
            ["label", text(&vindex), "--clusters", "--facts", text(&countries), "--facts", text(&words)];
        let json = larql(arguments.into_iter().chain(options.iter().copied()).chain(["--format", "json"]));
        serde_json::from_str::<Value>(&stdout(&{ json }.assert().success())).unwrap()
    };
    let count = |report: &Value, field: &str| report[field].as_u64().unwrap();
    let report = label(&[]);
    assert!(count(&report, "groups") > 100 && count(&report, "features") > 3_000);
    for (relation, found) in report["relations"].as_object().unwrap() {
        assert!(count(found, "confirmed") >= 2 * count(found, "groups"), "{relation}: {found}");
        assert!(count(found, "confirmed") * 4 >= count(found, "features"), "{relation}: {found}");
    }
    assert_eq!(label(&[]), report, "the same seed gives the same groups");

    // Each label is read back as what a group found.
    let shown = larql(["lql", "--use", text(&vindex), "--format", "json", "SHOW RELATIONS WITH EXAMPLES"]);
    let shown: Value = serde_json::from_str(&stdout(&{ shown }.assert().success())).unwrap();
    let rows = shown["rows"].as_array().unwrap();
    assert_eq!(rows.len(), report["relations"].as_object().unwrap().len());
    assert_eq!(rows.iter().map(|row| count(row, "count")).sum::<u64>(), count(&report, "named_features"));
    assert!(
        rows.iter().all(|row| row["source"] == "cluster" && !row["examples"].as_array().unwrap().is_empty())
    );

    // A group that nothing belongs to is left out.
    assert!((2..=20).contains(&count(&label(&["--groups", "20"]), "groups")));
    larql(["verify", text(&vindex)]).assert().success();
}

#[test]
fn a_line_that_is_no_fact_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.tsv");
    std::fs::write(&table, "subject\trelation\tobject\nFrance\tcapital\n").unwrap();
    larql(["label", "no-such", "--clusters", "--facts", text(&table)]).assert().code(1).stderr(
        contains("table.tsv, line 2: expected subject, relation and object")
            .and(contains("`France\tcapital`")),
    );
}

#[test]
fn patterns_and_files_add_labels() {
    let folder = tempfile::tempdir().unwrap();
    let vindex = folder.path().join("atlas.vindex");
    let atlas = larql_testing::shipped("atlas");
    larql(["extract", text(&atlas), "-o", text(&vindex), "--level", "browse"]).assert().success();
    std::fs::remove_file(vindex.join("feature_labels.json")).unwrap();
    let labels = folder.path().join("labels.json");
    std::fs::write(&labels, r#"{"3:0": "capital", "L3_F1": "language"}"#).unwrap();

    let label = |options: &[&str]| {
        let all = ["label", text(&vindex)].into_iter().chain(options.iter().copied());
        let json = larql(all.chain(["--format", "json"])).assert().success();
        serde_json::from_str::<Value>(&stdout(&json)).unwrap()
    };
    let report = label(&["--patterns", "--from", text(&labels)]);
    assert_eq!(report["added"], 2);
    let numbers = report["patterns"]["number"].as_u64().unwrap();
    assert!(numbers > 0, "{report}");
    // A second time nothing is new.
    assert_eq!(label(&["--from", text(&labels)])["added"], 0);

    let shown = larql(["lql", "--use", text(&vindex), "--format", "json", "SHOW RELATIONS"]);
    let shown: Value = serde_json::from_str(&stdout(&{ shown }.assert().success())).unwrap();
    let row = |relation: &str| {
        let rows = shown["rows"].as_array().unwrap();
        rows.iter().find(|row| row["relation"] == relation).unwrap().clone()
    };
    assert_eq!(
        (row("number")["source"].as_str(), row("number")["count"].as_u64()),
        (Some("pattern"), Some(numbers))
    );
    assert_eq!(row("capital")["source"], "probe");

    std::fs::write(&labels, r#"{"99:0": "capital"}"#).unwrap();
    larql(["label", text(&vindex), "--from", text(&labels)])
        .assert()
        .code(1)
        .stderr(contains("labels.json").and(contains("`99:0`")));
    larql(["label", text(&vindex)]).assert().code(2).stderr(contains("--clusters|--patterns|--from"));
}
