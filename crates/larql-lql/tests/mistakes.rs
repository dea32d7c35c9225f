//! Error messages of typical mistakes.

use insta::assert_snapshot;
use larql_lql::{parse, render};

fn mistake(text: &str) -> String {
    match parse(text) {
        Ok(pipes) => panic!("{text} parses as {pipes:?}"),
        Err(error) => render::diagnostic(&error, "lql", text, false),
    }
}

#[test]
fn an_unknown_statement() {
    assert_snapshot!(mistake(r#"FOO "bar""#), @r#"
     × expected a statement, found `FOO`
      ╭─[lql:1:1]
    1 │ FOO "bar"
      · ─┬─
      ·  ╰── not expected here
      ╰────
    "#);
}

#[test]
fn a_mistyped_statement() {
    assert_snapshot!(mistake(r#"DESCRIB "France""#), @r#"
     × expected a statement, found `DESCRIB`
      ╭─[lql:1:1]
    1 │ DESCRIB "France"
      · ───┬───
      ·    ╰── not expected here
      ╰────
     help: did you mean DESCRIBE?
    "#);
}

#[test]
fn a_mistyped_clause() {
    assert_snapshot!(mistake(r#"WALK "The capital of France is" TPO 5"#), @r#"
     × expected COMPARE, LAYERS, MODE, TOP, |> or the end of the statement, found `TPO`
      ╭─[lql:1:33]
    1 │ WALK "The capital of France is" TPO 5
      ·                                 ─┬─
      ·                                  ╰── not expected here
      ╰────
     help: did you mean TOP?
    "#);
}

#[test]
fn a_clause_of_another_statement() {
    assert_snapshot!(mistake(r#"INFER "The capital of France is" LIMIT 5"#), @r#"
     × expected COMPARE, TOP, WITH, |> or the end of the statement, found `LIMIT`
      ╭─[lql:1:34]
    1 │ INFER "The capital of France is" LIMIT 5
      ·                                  ──┬──
      ·                                    ╰── not expected here
      ╰────
    "#);
}

#[test]
fn a_singular_for_a_plural() {
    assert_snapshot!(mistake(r#"WALK "x" LAYER 3-5"#), @r#"
     × expected COMPARE, LAYERS, MODE, TOP, |> or the end of the statement, found `LAYER`
      ╭─[lql:1:10]
    1 │ WALK "x" LAYER 3-5
      ·          ──┬──
      ·            ╰── not expected here
      ╰────
     help: did you mean LAYERS?
    "#);
}

#[test]
fn a_name_without_quotes() {
    assert_snapshot!(mistake("DESCRIBE France"), @r#"
     × expected a string in quotes, found `France`
      ╭─[lql:1:10]
    1 │ DESCRIBE France
      ·          ───┬──
      ·             ╰── not expected here
      ╰────
     help: put it in quotes: "France"
    "#);
}

#[test]
fn a_missing_subject() {
    assert_snapshot!(mistake("DESCRIBE;"), @"
     × expected a string in quotes, found `;`
      ╭─[lql:1:9]
    1 │ DESCRIBE;
      ·         ┬
      ·         ╰── not expected here
      ╰────
    ");
}

#[test]
fn a_string_without_end() {
    assert_snapshot!(mistake("SELECT *\nFROM EDGES\nWHERE entity = \"France LIMIT 5;"), @r#"
     × this string has no closing "
      ╭─[lql:3:16]
    2 │ FROM EDGES
    3 │ WHERE entity = "France LIMIT 5;
      ·                ┬
      ·                ╰── opened here
      ╰────
     help: close it with "; a quote inside is doubled or follows a backslash
    "#);
}

#[test]
fn curly_quotes() {
    assert_snapshot!(mistake("DESCRIBE “France”"), @r#"
     × expected a string in quotes, found `“`
      ╭─[lql:1:10]
    1 │ DESCRIBE “France”
      ·          ┬
      ·          ╰── not expected here
      ╰────
     help: strings take straight quotes: "…" or '…'
    "#);
}

#[test]
fn a_bad_escape() {
    assert_snapshot!(mistake(r"USE 'C:\models\gemma.vindex'"), @r#"
     × \m is no escape
      ╭─[lql:1:8]
    1 │ USE 'C:\models\gemma.vindex'
      ·        ─┬
      ·         ╰── not an escape
      ╰────
     help: the escapes are \\ \" \' \n \r \t and \u{…}; a backslash itself is written \\
    "#);
}

#[test]
fn a_clause_given_twice() {
    assert_snapshot!(mistake(r#"WALK "x" TOP 5 LAYERS 0-3 TOP 6"#), @r#"
     × TOP is given twice
      ╭─[lql:1:10]
    1 │ WALK "x" TOP 5 LAYERS 0-3 TOP 6
      ·          ──┬──            ─┬─
      ·            │               ╰── and here again
      ·            ╰── given here first
      ╰────
     help: each clause may be given once
    "#);
}

#[test]
fn clauses_that_exclude_one_another() {
    assert_snapshot!(mistake(r#"DESCRIBE "France" VERBOSE LIMIT 3 RAW"#), @r#"
     × RAW and VERBOSE exclude one another
      ╭─[lql:1:19]
    1 │ DESCRIBE "France" VERBOSE LIMIT 3 RAW
      ·                   ───┬───         ─┬─
      ·                      │             ╰── contradicts it
      ·                      ╰── given here
      ╰────
     help: keep one of the two
    "#);
}

#[test]
fn a_negative_count() {
    assert_snapshot!(mistake(r#"WALK "x" TOP -5"#), @r#"
     × expected a count from 1 to 1000000000, found -5
      ╭─[lql:1:14]
    1 │ WALK "x" TOP -5
      ·              ─┬
      ·               ╰── out of range
      ╰────
    "#);
}

#[test]
fn no_rows() {
    assert_snapshot!(mistake("SELECT * FROM EDGES LIMIT 0"), @"
     × expected a count from 1 to 1000000000, found 0
      ╭─[lql:1:27]
    1 │ SELECT * FROM EDGES LIMIT 0
      ·                           ┬
      ·                           ╰── out of range
      ╰────
    ");
}

#[test]
fn an_absurd_layer() {
    assert_snapshot!(mistake(r#"DESCRIBE "France" AT LAYER 99999999999999999999999"#), @r#"
     × expected a layer from 0 to 9999, found 99999999999999999999999
      ╭─[lql:1:28]
    1 │ DESCRIBE "France" AT LAYER 99999999999999999999999
      ·                            ───────────┬───────────
      ·                                       ╰── out of range
      ╰────
    "#);
}

#[test]
fn a_fraction_of_a_layer() {
    assert_snapshot!(mistake(r#"DESCRIBE "France" AT LAYER 1.5"#), @r#"
     × expected a whole number, found `1.5`
      ╭─[lql:1:28]
    1 │ DESCRIBE "France" AT LAYER 1.5
      ·                            ─┬─
      ·                             ╰── not expected here
      ╰────
    "#);
}

#[test]
fn a_malformed_number() {
    assert_snapshot!(mistake(r#"WALK "x" TOP 5x"#), @r#"
     × expected a whole number, found `5x`
      ╭─[lql:1:14]
    1 │ WALK "x" TOP 5x
      ·              ─┬
      ·               ╰── not expected here
      ╰────
    "#);
}

#[test]
fn a_backward_range() {
    assert_snapshot!(mistake(r#"WALK "x" LAYERS 27-14"#), @r#"
     × expected a range from low to high, found 27-14
      ╭─[lql:1:17]
    1 │ WALK "x" LAYERS 27-14
      ·                 ──┬──
      ·                   ╰── runs backwards
      ╰────
     help: write 14-27
    "#);
}

#[test]
fn half_a_range() {
    assert_snapshot!(mistake(r#"WALK "x" LAYERS 14-"#), @r#"
     × expected a whole number, found the end of the text
      ╭─[lql:1:20]
    1 │ WALK "x" LAYERS 14- 
      ·                    ▲
      ·                    ╰── something is missing here
      ╰────
    "#);
}

#[test]
fn an_unknown_field() {
    assert_snapshot!(mistake("SELECT entty FROM EDGES"), @"
     × expected a field or *, found `entty`
      ╭─[lql:1:8]
    1 │ SELECT entty FROM EDGES
      ·        ──┬──
      ·          ╰── not expected here
      ╰────
     help: did you mean entity?
    ");
}

#[test]
fn a_field_of_nothing() {
    assert_snapshot!(mistake("SELECT colour FROM EDGES"), @"
     × expected a field or *, found `colour`
      ╭─[lql:1:8]
    1 │ SELECT colour FROM EDGES
      ·        ───┬──
      ·           ╰── not expected here
      ╰────
     help: the fields are entity, relation, target, layer, layer_max, feature, confidence, score,
           gate, distance, also, source, via, count, label, tokens
    ");
}

#[test]
fn an_unknown_table() {
    assert_snapshot!(mistake("SELECT * FROM EDGE"), @"
     × expected EDGES, ENTITIES, EVIDENCE or FEATURES, found `EDGE`
      ╭─[lql:1:15]
    1 │ SELECT * FROM EDGE
      ·               ──┬─
      ·                 ╰── not expected here
      ╰────
     help: did you mean EDGES?
    ");
}

#[test]
fn a_double_equals() {
    assert_snapshot!(mistake("SELECT * FROM EDGES WHERE layer == 5"), @"
     × expected a string, number or word, found `=`
      ╭─[lql:1:34]
    1 │ SELECT * FROM EDGES WHERE layer == 5
      ·                                  ┬
      ·                                  ╰── not expected here
      ╰────
     help: equality is a single =
    ");
}

#[test]
fn inequality_in_another_style() {
    assert_snapshot!(mistake("SELECT * FROM EDGES WHERE layer <> 5"), @"
     × expected a string, number or word, found `>`
      ╭─[lql:1:34]
    1 │ SELECT * FROM EDGES WHERE layer <> 5
      ·                                  ┬
      ·                                  ╰── not expected here
      ╰────
     help: inequality is !=
    ");
}

#[test]
fn a_condition_without_value() {
    assert_snapshot!(mistake("SELECT * FROM EDGES WHERE layer >"), @"
     × expected a string, number or word, found the end of the text
      ╭─[lql:1:34]
    1 │ SELECT * FROM EDGES WHERE layer > 
      ·                                  ▲
      ·                                  ╰── something is missing here
      ╰────
    ");
}

#[test]
fn an_empty_list() {
    assert_snapshot!(mistake("SELECT * FROM EDGES WHERE layer IN ()"), @"
     × expected a string, number or word, found `)`
      ╭─[lql:1:37]
    1 │ SELECT * FROM EDGES WHERE layer IN ()
      ·                                     ┬
      ·                                     ╰── not expected here
      ╰────
    ");
}

#[test]
fn deleting_everything() {
    assert_snapshot!(mistake("DELETE FROM EDGES"), @"
     × expected WHERE, found the end of the text
      ╭─[lql:1:18]
    1 │ DELETE FROM EDGES 
      ·                  ▲
      ·                  ╰── something is missing here
      ╰────
    ");
}

#[test]
fn a_bar_for_a_pipe() {
    assert_snapshot!(mistake("SELECT entity FROM ENTITIES | DESCRIBE"), @"
     × expected GROUP, LIMIT, NEAREST, OFFSET, ORDER, WHERE, |> or the end of the statement, found
     │ `|`
      ╭─[lql:1:29]
    1 │ SELECT entity FROM ENTITIES | DESCRIBE
      ·                             ┬
      ·                             ╰── not expected here
      ╰────
     help: statements are joined by |>
    ");
}

#[test]
fn a_missing_semicolon() {
    assert_snapshot!(mistake("USE \"a.vindex\"\nSTATS"), @r#"
     × expected |> or the end of the statement, found `STATS`
      ╭─[lql:2:1]
    1 │ USE "a.vindex"
    2 │ STATS
      · ──┬──
      ·   ╰── not expected here
      ╰────
     help: end the statement before it with ;
    "#);
}

#[test]
fn an_incomplete_edge() {
    assert_snapshot!(mistake(r#"INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis", "capital")"#), @r#"
     × expected a comma, found `)`
      ╭─[lql:1:75]
    1 │ INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis", "capital")
      ·                                                                           ┬
      ·                                                                           ╰── not expected here
      ╰────
    "#);
}

#[test]
fn a_confidence_over_one() {
    assert_snapshot!(mistake(r#"INSERT INTO EDGES (entity, relation, target) VALUES ("a", "b", "c") CONFIDENCE 90"#), @r#"
     × expected a confidence from 0 to 1, found 90
      ╭─[lql:1:80]
    1 │ INSERT INTO EDGES (entity, relation, target) VALUES ("a", "b", "c") CONFIDENCE 90
      ·                                                                                ─┬
      ·                                                                                 ╰── out of range
      ╰────
    "#);
}

#[test]
fn an_unknown_mode() {
    assert_snapshot!(mistake(r#"WALK "x" MODE FAST"#), @r#"
     × expected DENSE, HYBRID or PURE, found `FAST`
      ╭─[lql:1:15]
    1 │ WALK "x" MODE FAST
      ·               ──┬─
      ·                 ╰── not expected here
      ╰────
    "#);
}

#[test]
fn a_wide_line() {
    assert_snapshot!(mistake(r#"DESCRIBE "日本" VERBOS"#), @r#"
     × expected ALL, AT, BRIEF, KNOWLEDGE, LIMIT, OUTPUT, RAW, RELATIONS, STREAM, SYNTAX, VERBOSE, |>
     │ or the end of the statement, found `VERBOS`
      ╭─[lql:1:19]
    1 │ DESCRIBE "日本" VERBOS
      ·                 ───┬──
      ·                    ╰── not expected here
      ╰────
     help: did you mean VERBOSE?
    "#);
}

#[test]
fn nothing_to_explain() {
    assert_snapshot!(mistake(r#"EXPLAIN DESCRIBE "France""#), @r#"
     × expected INFER or WALK, found `DESCRIBE`
      ╭─[lql:1:9]
    1 │ EXPLAIN DESCRIBE "France"
      ·         ────┬───
      ·             ╰── not expected here
      ╰────
    "#);
}
