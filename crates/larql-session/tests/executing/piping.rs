//! Pipes.

use insta::assert_snapshot;
use larql_lql::ast::Field;
use larql_lql::output::Several;

use super::*;

fn several(text: &str) -> Several {
    match ask(ALL, text) {
        Output::Several(several) => several,
        other => panic!("{text} answers {other:?}"),
    }
}

#[test]
fn each_row_becomes_a_subject() {
    let Output::Entities(entities) = ask(ALL, "SHOW ENTITIES LIMIT 3") else { panic!() };
    let asked: Vec<Output> = several("SHOW ENTITIES LIMIT 3 |> DESCRIBE VERBOSE LIMIT 2").outputs;
    let direct =
        entities.rows.iter().map(|row| ask(ALL, &format!("DESCRIBE '{}' VERBOSE LIMIT 2", row.entity)));
    assert_eq!(asked, direct.collect::<Vec<_>>());
}

#[test]
fn rows_of_every_kind_go_on() {
    for text in [
        "DESCRIBE 'France' VERBOSE LIMIT 2 |> WALK TOP 1",
        "WALK 'France' TOP 1 |> DESCRIBE LIMIT 1",
        "SELECT target FROM FEATURES WHERE target LIKE 'a%' LIMIT 2 |> INFER TOP 1",
        "INFER 'The capital of France is' TOP 3 |> EXPLAIN WALK TOP 1",
        "EXPLAIN INFER 'The capital of France is' TOP 1 |> DESCRIBE LIMIT 1",
        "SHOW FEATURES 1 LIMIT 2 |> EXPLAIN INFER TOP 1",
    ] {
        assert!(!several(text).outputs.is_empty(), "{text}");
    }
}

#[test]
fn a_statement_that_would_pass_over_the_rows_is_refused() {
    assert_snapshot!(refused(&mut open(ALL), "SHOW ENTITIES LIMIT 2 |> WALK 'France' TOP 1"), @"
     × WALK takes no rows from the statement before |>
      ╭─[lql:1:26]
    1 │ SHOW ENTITIES LIMIT 2 |> WALK 'France' TOP 1
      ·                          ─────────┬─────────
      ·                                   ╰── takes no rows
      ╰────
     help: leave its entity or prompt out, so that each row is one in turn; or separate the two
           statements by ;
    ");
    assert_snapshot!(refused(&mut open(ALL), "SHOW ENTITIES LIMIT 2 |> SHOW LAYERS"), @"
     × SHOW LAYERS takes no rows from the statement before |>
      ╭─[lql:1:26]
    1 │ SHOW ENTITIES LIMIT 2 |> SHOW LAYERS
      ·                          ─────┬─────
      ·                               ╰── takes no rows
      ╰────
     help: separate the two statements by ;
    ");
    // Nothing is carried out before that is known.
    let mut session = open(ALL);
    run(&mut session, "USE 'no such model' |> STATS").unwrap_err();
    run(&mut session, "BEGIN PATCH 'facts.vlp' |> STATS").unwrap_err();
    let Output::Patches(patches) = run(&mut session, "SHOW PATCHES").unwrap() else { panic!() };
    assert!(patches.rows.is_empty());
}

#[test]
fn select_keeps_the_rows_that_agree_with_one_of_those_piped() {
    let features = "SELECT layer, feature, target FROM FEATURES";
    let some = format!("{features} WHERE layer = 1 AND feature IN (3, 7)");
    let expected = select(ALL, &some);
    assert_eq!(select(ALL, &format!("{some} |> {features}")), expected);
    assert_eq!(select(ALL, &format!("{some} |> {features} WHERE feature > 5")).rows, expected.rows[1..]);
    // Features of a walk, and names.
    let Output::Walk(walked) = ask(ALL, "WALK 'France' TOP 2 LAYERS 2") else { panic!() };
    let mut fired: Vec<usize> = walked.rankings[0].rows.iter().map(|row| row.feature).collect();
    fired.sort_unstable();
    let selected = select(ALL, "WALK 'France' TOP 2 LAYERS 2 |> SELECT feature FROM FEATURES");
    assert_eq!(
        column(&selected, Field::Feature),
        fired
            .iter()
            .map(|f| Some(Datum::from(*f)))
            .collect::<Vec<_>>()
            .iter()
            .map(Option::as_ref)
            .collect::<Vec<_>>()
    );
    let error = run(&mut open(ALL), "SHOW ENTITIES LIMIT 2 |> SELECT * FROM FEATURES").unwrap_err();
    assert!(matches!(error, ExecuteError::Query(QueryError::NothingShared { .. })), "{error}");
}

#[test]
fn piped_entities_are_asked_about() {
    let mut session = atlas::atlas();
    let text = "SELECT entity FROM EDGES WHERE relation = 'capital' AND entity IN ('France', 'Spain') \
                |> SELECT entity, target FROM EDGES WHERE relation = 'language' ORDER BY entity";
    assert_snapshot!(shown(&run(&mut session, text).unwrap()), @"
     entity  target
    ─────────────────
     France  French
     Spain   Spanish
    ");
}

#[test]
fn more_rows_than_a_model_is_asked_for_are_refused() {
    assert_snapshot!(refused(&mut open(ALL), "SHOW ENTITIES |> SELECT target FROM FEATURES |> INFER"), @"
    × the statement before |> gives no column that names something in the table which SELECT asks:
    │ entity, relation, target, layer or feature
    ");
    assert_snapshot!(refused(&mut open(ALL), "SELECT target FROM FEATURES |> INFER TOP 1"), @"
    × expected at most 100 different rows before |>, since INFER asks the model for each, found 109
    help: end the statement before it with LIMIT 100
    ");
}

#[test]
fn no_rows_nothing_to_do() {
    for text in ["STATS |> DESCRIBE", "SELECT * FROM FEATURES WHERE target = 'no such word' |> INFER"] {
        let error = run(&mut open(ALL), text).unwrap_err();
        assert!(matches!(error, ExecuteError::Query(QueryError::NothingPiped)), "{text}: {error}");
    }
}

#[test]
fn the_first_failure_ends_the_pipe() {
    let error = run(&mut open(BROWSE), "SHOW ENTITIES LIMIT 2 |> INFER").unwrap_err();
    assert!(matches!(error, ExecuteError::Vindex(_)), "{error}");
}
