//! Pipes.

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
    let asked: Vec<Output> = several("SHOW ENTITIES LIMIT 3 |> DESCRIBE LIMIT 2").outputs;
    let direct = entities.rows.iter().map(|row| ask(ALL, &format!("DESCRIBE '{}' LIMIT 2", row.entity)));
    assert_eq!(asked, direct.collect::<Vec<_>>());
}

#[test]
fn rows_of_every_kind_go_on() {
    for text in [
        "DESCRIBE 'France' LIMIT 2 |> WALK TOP 1",
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
fn a_statement_with_a_subject_of_its_own_stands_alone() {
    let alone = ask(ALL, "WALK 'France' TOP 1");
    assert_eq!(ask(ALL, "STATS |> WALK 'France' TOP 1"), alone);
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
