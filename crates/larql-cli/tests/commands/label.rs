//! `label`: what groups of features are named after, on the bundled model.

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use super::*;

/// A table of `data/facts`.
fn facts(name: &str) -> PathBuf {
    larql_test_data::repository("../../data/facts").join(name)
}

#[test]
fn groups_are_named_written_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let vindex = folder.path().join("atlas.vindex");
    let atlas = larql_test_data::repository("../../assets/atlas");
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
