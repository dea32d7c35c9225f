//! SELECT.

use insta::assert_snapshot;
use larql_lql::ast::Field;

use super::*;

fn integers(selected: &Selected, field: Field) -> Vec<usize> {
    let cells = column(selected, field).into_iter();
    cells
        .map(|datum| match datum {
            Some(Datum::Integer(integer)) => *integer,
            other => panic!("{} is {other:?}", field.name()),
        })
        .collect()
}

fn numbers(selected: &Selected, field: Field) -> Vec<f32> {
    let cells = column(selected, field).into_iter();
    cells
        .map(|datum| match datum {
            Some(Datum::Number(number)) => *number,
            other => panic!("{} is {other:?}", field.name()),
        })
        .collect()
}

fn texts(selected: &Selected, field: Field) -> Vec<&str> {
    let cells = column(selected, field).into_iter();
    cells
        .map(|datum| match datum {
            Some(Datum::Text(text)) => text.as_str(),
            other => panic!("{} is {other:?}", field.name()),
        })
        .collect()
}

#[test]
fn edges_of_an_entity() {
    let edges = select(BROWSE, "SELECT * FROM EDGES WHERE entity = 'France' ORDER BY gate DESC LIMIT 1000");
    assert!(!edges.rows.is_empty());
    assert!(texts(&edges, Field::Entity).iter().all(|entity| *entity == "France"));
    assert!(numbers(&edges, Field::Gate).is_sorted_by(|a, b| a >= b));
    // This vindex has one band, so DESCRIBE asks the same layers.
    let Output::Describe(described) = ask(BROWSE, "DESCRIBE 'France' VERBOSE LIMIT 5") else { panic!() };
    let described: Vec<&str> = described.bands[0].edges.iter().map(|edge| &*edge.target).collect();
    assert_eq!(texts(&edges, Field::Target)[..5], described);
}

#[test]
fn fields_in_the_order_that_they_are_asked_for() {
    let text = "SELECT feature, layer, target FROM FEATURES WHERE layer = 1 LIMIT 3";
    assert_snapshot!(shown(&ask(ALL, text)), @"
     feature  layer  target
    ────────────────────────
           0      1  it
           1      1  Jap
           2      1  A
    ");
}

#[test]
fn features_by_condition() {
    let all = "SELECT feature FROM FEATURES WHERE layer = 1 LIMIT 1000";
    assert_eq!(integers(&select(ALL, all), Field::Feature), (0..512).collect::<Vec<_>>());
    let some = "SELECT layer, feature FROM FEATURES WHERE feature IN (7, 3) AND layer != 1";
    let some = select(ALL, some);
    assert_eq!(integers(&some, Field::Layer), [0, 0, 2, 2]);
    assert_eq!(integers(&some, Field::Feature), [3, 7, 3, 7]);
}

#[test]
fn order_goes_both_ways_with_the_missing_last() {
    let confidences = |direction| {
        let text = format!("SELECT score FROM FEATURES ORDER BY score {direction} LIMIT 1000");
        numbers(&select(ALL, &text), Field::Score)
    };
    assert!(confidences("ASC").is_sorted());
    assert!(confidences("DESC").is_sorted_by(|a, b| a >= b));
    for direction in ["ASC", "DESC"] {
        let text = format!("SELECT target FROM FEATURES ORDER BY target {direction} LIMIT 10000");
        let selected = select(ALL, &text);
        let targets = column(&selected, Field::Target);
        assert_eq!(targets.len(), 3 * 512);
        assert!(targets.contains(&None), "a token that is no text has no target");
        assert!(targets.is_sorted_by_key(Option::is_none), "{direction}");
    }
}

#[test]
fn like_and_equal_disregard_case() {
    let selected = select(ALL, "SELECT target FROM FEATURES WHERE target LIKE '%AN%' LIMIT 1000");
    assert!(!selected.rows.is_empty());
    for target in texts(&selected, Field::Target) {
        assert!(target.to_lowercase().contains("an"), "{target}");
        let equal = format!("SELECT target FROM FEATURES WHERE target = '{}'", target.to_uppercase());
        assert!(!select(ALL, &equal).rows.is_empty(), "{equal}");
    }
}

#[test]
fn entities_as_show_lists_them() {
    let selected = select(ALL, "SELECT entity, count FROM ENTITIES LIMIT 1000");
    let Output::Entities(shown) = ask(ALL, "SHOW ENTITIES LIMIT 1000") else { panic!() };
    let names: Vec<&str> = shown.rows.iter().map(|row| &*row.entity).collect();
    assert_eq!(texts(&selected, Field::Entity), names);
}

#[test]
fn nearest_gates_first() {
    let text = "SELECT feature, gate, distance FROM FEATURES NEAREST TO 'France' AT LAYER 1 LIMIT 1000";
    let nearest = select(ALL, text);
    assert_eq!(nearest.rows.len(), 512);
    assert!(numbers(&nearest, Field::Gate).is_sorted_by(|a, b| a >= b));
    assert!(numbers(&nearest, Field::Distance).iter().all(|distance| (0.0..=2.0).contains(distance)));
    let edges = select(ALL, &text.replace("FROM FEATURES", "FROM EDGES"));
    assert_eq!(edges.rows, nearest.rows);
    let error = run(&mut open(ALL), &text.replace("FROM FEATURES", "FROM ENTITIES")).unwrap_err();
    assert!(matches!(error, ExecuteError::NotAvailable { .. }), "{error}");
    let error = run(&mut open(ALL), &text.replace("LAYER 1", "LAYER 3")).unwrap_err();
    assert!(matches!(error, ExecuteError::Query(QueryError::NoSuchLayer { layer: 3, .. })), "{error}");
}

#[test]
fn nothing_found() {
    assert_snapshot!(shown(&ask(ALL, "SELECT * FROM FEATURES WHERE target = 'no such word'")), @"(no rows)");
}

#[test]
fn edges_of_nobody_need_labels() {
    assert_snapshot!(refused(&mut open(ALL), "SELECT * FROM EDGES"), @r#"
    × no feature of this vindex is labelled, so there are no edges to list but those of an entity
    help: add WHERE entity = "France", or ask FROM FEATURES; `larql probe` finds edges of many
          entities
    "#);
}

#[test]
fn edges_of_several_entities() {
    let one =
        |entity| select(BROWSE, &format!("SELECT * FROM EDGES WHERE entity = '{entity}' LIMIT 1000")).rows;
    let both = select(BROWSE, "SELECT * FROM EDGES WHERE entity IN ('France', 'Paris') LIMIT 1000").rows;
    assert!(!one("Paris").is_empty());
    assert_eq!(both, [one("France"), one("Paris")].concat());
}

#[test]
fn relations_need_labels() {
    assert_snapshot!(refused(&mut open(ALL), "SELECT entity FROM EDGES WHERE relation = capital"), @"
     × no feature of this vindex is labelled with a relation, so none can be asked for
      ╭─[lql:1:32]
    1 │ SELECT entity FROM EDGES WHERE relation = capital
      ·                                ────┬───
      ·                                    ╰── relation
      ╰────
     help: ask for a target or an entity instead; `larql probe` finds relations
    ");
}

#[test]
fn fields_that_the_table_does_not_have() {
    assert_snapshot!(refused(&mut open(ALL), "SELECT entity, gate FROM ENTITIES"), @"
     × entities have no field gate; they have entity, count, layer, layer_max
      ╭─[lql:1:16]
    1 │ SELECT entity, gate FROM ENTITIES
      ·                ──┬─
      ·                  ╰── no such field
      ╰────
    ");
}

#[test]
fn texts_are_neither_more_nor_less() {
    let text = "SELECT * FROM FEATURES WHERE layer = 0 AND feature > three";
    assert_snapshot!(refused(&mut open(ALL), text), @"
     × feature is a number, and the value a text
      ╭─[lql:1:54]
    1 │ SELECT * FROM FEATURES WHERE layer = 0 AND feature > three
      ·                                                      ──┬──
      ·                                                        ╰── compared here
      ╰────
    ");
}

#[test]
fn every_row_unless_a_page_is_to_be_filled() {
    let count = |text: &str| select(ALL, text).rows.len();
    assert_eq!(count("SELECT * FROM FEATURES"), 3 * 512);
    assert_eq!(count("SELECT * FROM FEATURES LIMIT 7 OFFSET 1533"), 3);
    let mut session = open(ALL);
    session.set_most_rows(Some(2));
    assert_snapshot!(shown(&run(&mut session, "SELECT layer, feature FROM FEATURES WHERE feature < 4").unwrap()), @"
     layer  feature
    ────────────────
         0        0
         0        1
    2 of 12 rows; LIMIT n shows more
    ");
    assert_snapshot!(shown(&run(&mut session, "SHOW ENTITIES AT LAYER 0").unwrap()), @"
     entity  count  layer  layer_max
    ─────────────────────────────────
     Ber         3      0          0
     France      3      0          0
    2 of 7 rows; LIMIT n shows more
    ");
    assert_snapshot!(shown(&run(&mut session, "SHOW FEATURES 1 WHERE feature < 4 OR feature = 9").unwrap()), @r#"
     layer  feature   score  tokens
    ─────────────────────────────────────────────────────────────────────────────────────────
         1        0  0.1359  it, [, ?, <0xE4>, Frenc, <0xC1>, <0xD0>, <0xEC>, <0xFE>, <0xDE>
         1        1  0.1184  Jap, <0xE7>, t, ), \u{4}, <0xA2>, f, ', ar, <0xEB>
    2 of 5 rows; LIMIT n shows more
    "#);
    // What a pipe hands on is not for the page.
    let piped = run(&mut session, "SELECT * FROM FEATURES WHERE layer = 0 |> SELECT COUNT(*) FROM FEATURES");
    let Output::Select(counted) = piped.unwrap() else { panic!() };
    assert_eq!(integers(&counted, Field::Count), [512]);
}

#[test]
fn features_of_each_layer_are_counted() {
    let text =
        "SELECT layer, COUNT(*) FROM FEATURES WHERE layer = 0 OR (layer = 2 AND feature < 5) GROUP BY layer";
    let selected = select(ALL, text);
    assert_eq!(integers(&selected, Field::Layer), [0, 2]);
    assert_eq!(integers(&selected, Field::Count), [512, 5]);
}

#[test]
fn edges_have_the_same_columns_whatever_is_asked_of_them() {
    let mut session = atlas::atlas();
    let mut selected = |text: &str| match run(&mut session, text).unwrap() {
        Output::Select(selected) => selected,
        other => panic!("SELECT answers {other:?}"),
    };
    let of_an_entity = selected("SELECT * FROM EDGES WHERE entity = 'France'");
    for filter in ["WHERE relation = 'capital'", "WHERE entity LIKE 'Fr%'", "WHERE layer = 3", ""] {
        let edges = selected(&format!("SELECT * FROM EDGES {filter}"));
        assert_eq!(edges.fields, of_an_entity.fields, "{filter}");
        assert!(!edges.rows.is_empty(), "{filter}");
        for row in &edges.rows {
            let confidence = row.get(Field::Confidence);
            assert!(
                confidence.is_none_or(|c| matches!(c, Datum::Number(c) if (0.0..=1.0).contains(c))),
                "{row:?}"
            );
        }
    }
    // LIKE without a sign is equality, so it asks the model too; and an edge is listed once.
    assert_eq!(selected("SELECT * FROM EDGES WHERE entity LIKE 'France'"), of_an_entity);
    let known = "SELECT entity, relation, target FROM EDGES WHERE relation = 'capital'";
    let all = selected(known);
    assert_eq!(all, selected(&known.replace("SELECT", "SELECT DISTINCT")));
    // Each comes from a feature that carries it.
    let evidence = selected(&known.replace("EDGES", "EVIDENCE").replace("SELECT", "SELECT DISTINCT"));
    assert_eq!(evidence.rows, all.rows);
}

#[test]
fn names_that_nobody_knows_have_a_likely_spelling() {
    let mut session = atlas::atlas();
    for (filter, next) in [
        ("relation = 'capitol'", r#"no relation "capitol"; did you mean "capital"?"#),
        ("relation = 'zzzzzzzz'", r#"no relation "zzzzzzzz"; SHOW RELATIONS; lists them"#),
        ("relation = 'capital' AND entity LIKE 'Frnace%'", ""),
    ] {
        let Output::Select(selected) =
            run(&mut session, &format!("SELECT * FROM EDGES WHERE {filter}")).unwrap()
        else {
            panic!()
        };
        assert_eq!(
            (selected.rows.len(), selected.next.as_deref().unwrap_or_default()),
            (0, next),
            "{filter}"
        );
    }
}

#[test]
fn a_number_is_no_word() {
    assert_snapshot!(refused(&mut open(ALL), "SHOW FEATURES 1 WHERE layer = 'abc'"), @"
     × layer is a number, and the value a text
      ╭─[lql:1:31]
    1 │ SHOW FEATURES 1 WHERE layer = 'abc'
      ·                               ──┬──
      ·                                 ╰── compared here
      ╰────
    ");
}
