//! `lql`: statements from the argument, a file or standard input, in three formats.

use insta::assert_snapshot;
use predicates::prelude::*;
use serde_json::Value;

use super::*;

const STATEMENT: &str = "SELECT layer, feature FROM FEATURES WHERE feature IN (3, 4) LIMIT 3";

/// `larql lql` on the full vindex.
fn lql<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = larql(["lql", "--use"]);
    command.arg(fixture("llama-f16-all.vindex")).args(arguments);
    command
}

#[test]
fn a_table_for_people() {
    assert_snapshot!(stdout(&lql([STATEMENT]).assert().success().stderr("")), @"
     layer  feature
    ────────────────
         0        3
         0        4
         1        3
    ");
}

#[test]
fn json_and_csv_for_programs() {
    let json = stdout(&lql(["--format", "json", STATEMENT]).assert().success().stderr(""));
    let answer: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(answer["kind"], "select");
    assert_eq!(answer["rows"][2], serde_json::json!({ "layer": 1, "feature": 3 }));
    lql(["--format", "csv", STATEMENT])
        .assert()
        .success()
        .stdout("layer,feature\n0,3\n0,4\n1,3\n")
        .stderr("");
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_enough_is_no_error() {
    let larql = env!("CARGO_BIN_EXE_larql");
    let vindex = fixture("llama-f16-all.vindex");
    let pipe = format!("{larql} lql --use {} 'SELECT * FROM FEATURES LIMIT 1000' | head -n 1", text(&vindex));
    let output = Command::new("sh").args(["-c", &pipe]).assert().success().stderr("");
    assert_eq!(stdout(&output).lines().count(), 1);
}

#[test]
fn each_answer_is_a_line_of_json() {
    let lines = stdout(&lql(["--format", "json", "STATS; SHOW LAYERS; WALK 'x' TOP 1;"]).assert().success());
    let kinds: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].take()).collect();
    assert_eq!(kinds, ["stats", "layers", "walk"]);
}

#[test]
fn statements_come_from_three_places() {
    let expected = stdout(&lql([STATEMENT]).assert().success());
    lql([]).write_stdin(STATEMENT).assert().success().stdout(expected.clone());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("questions.lql");
    std::fs::write(&file, format!("-- a comment\n{STATEMENT};\n")).unwrap();
    lql(["--file", text(&file)]).assert().success().stdout(expected);
}

#[test]
fn a_mistake_is_underlined_and_nothing_is_carried_out() {
    let mistake = lql(["STATS; DESCRIBE \"France\" VERBSE"]).assert().code(1).stdout("");
    assert_snapshot!(stderr(&mistake), @r#"
     × expected ALL, AT, BRIEF, KNOWLEDGE, LIMIT, OUTPUT, RAW, RELATIONS, STREAM, SYNTAX, VERBOSE, |>
     │ or the end of the statement, found `VERBSE`
      ╭─[argument:1:26]
    1 │ STATS; DESCRIBE "France" VERBSE
      ·                          ───┬──
      ·                             ╰── not expected here
      ╰────
     help: did you mean VERBOSE?
    "#);
}

#[test]
fn a_failure_is_underlined_and_ends_the_run() {
    let failure = lql(["SHOW LAYERS 0; WALK 'France' LAYERS 1-7; STATS"]).assert().code(1);
    assert_eq!(stdout(&failure).lines().count(), 3);
    assert_snapshot!(stderr(&failure), @"
     × layer 7 does not exist: the model has layers 0 to 2
      ╭─[argument:1:37]
    1 │ SHOW LAYERS 0; WALK 'France' LAYERS 1-7; STATS
      ·                                     ─┬─
      ·                                      ╰── no such layer
      ╰────
    ");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    larql(["lql", "USE 'no-such.vindex'"])
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains("there is no file or model named no-such.vindex"));
    lql(["--file", "no-such.lql"])
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains("no-such.lql"));
    larql(["lql", "--use", "no-such.vindex", "STATS"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("no-such.vindex"));
}

#[test]
fn the_walk_can_be_narrowed() {
    let predictions = |options: &[&'static str]| {
        let statement = "INFER 'The capital of France is' TOP 3";
        let arguments = options.iter().copied().chain(["--format", "json", "--threads", "1", statement]);
        let json = stdout(&lql(arguments).assert().success());
        serde_json::from_str::<Value>(&json).unwrap()["runs"][0]["predictions"].take()
    };
    let all = predictions(&[]);
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(predictions(&["--walk-k", "512"]), all);
    assert_ne!(predictions(&["--walk-k", "4"]), all);
}

#[test]
fn edits_that_no_file_has_are_told_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let (vindex, file) = (fixture("llama-f16-all.vindex"), folder.path().join("kept.vlp"));
    let insert =
        "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Poseidon') MODE KNN;";
    let told = |command: &str, options: &[&str], input: &str| {
        let arguments = [command, "--use", text(&vindex)].into_iter().chain(options.iter().copied());
        stderr(&larql(arguments).write_stdin(input.to_owned()).assert().success())
    };
    for command in ["lql", "repl"] {
        let note = told(command, &[], insert);
        assert!(note.starts_with("note: 1 edit in patch automatic not saved; SAVE PATCH"), "{note}");
        let saving = format!("{insert} SAVE PATCH '{}';", folder.path().join(command).display());
        assert_eq!(told(command, &[], &saving), "");
        let kept = folder.path().join(format!("{command}.vlp"));
        assert!(told(command, &["--save", text(&kept)], insert).contains("kept") || kept.is_file());
        assert!(kept.is_file());
        let using = format!("{insert} USE '{}';", vindex.display());
        assert!(told(command, &[], &using).contains("not saved"));
    }
    assert!(told("lql", &["--save", text(&file)], "STATS;").contains("no edits to save"));
    assert!(!file.exists());
}

#[test]
fn a_statement_over_lines_is_the_same_in_a_pipe_of_each_command() {
    let vindex = fixture("llama-f16-all.vindex");
    let input = "SELECT *\nFROM FEATURES WHERE layer = 0\n\n  AND feature = 3 LIMIT 2;\nSHOW LAYERS;\n";
    let said = |command: &str| {
        stdout(&larql([command, "--use", text(&vindex)]).write_stdin(input).assert().success())
    };
    assert_eq!(said("repl"), said("lql"));
}

#[test]
#[cfg(unix)]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let vindex = fixture("llama-f16-all.vindex");
    let mut child = std::process::Command::new(assert_cmd::cargo_bin!("larql"))
        .args(["lql", "--format", "csv", "--use", text(&vindex), "SELECT * FROM FEATURES"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}
