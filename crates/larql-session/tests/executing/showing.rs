//! SHOW LAYERS, FEATURES, ENTITIES and RELATIONS.

use insta::assert_snapshot;

use super::*;

#[test]
fn layers() {
    assert_snapshot!(shown(&ask(ALL, "SHOW LAYERS")), @"
     layer  band       features  gate_norm  labelled
    ─────────────────────────────────────────────────
         0  knowledge       512       1.00     0.00%
         1  knowledge       512       1.00     0.00%
         2  knowledge       512       1.00     0.00%
    ");
    let Output::Layers(layers) = ask(ALL, "SHOW LAYERS 1-2") else { panic!() };
    assert_eq!(layers.rows.iter().map(|row| row.layer).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn gate_norms_do_not_depend_on_how_floats_are_stored() {
    let norms = |fixture| match ask(fixture, "SHOW LAYERS") {
        Output::Layers(layers) => layers.rows.iter().map(|row| row.gate_norm.unwrap()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    for (half, single) in norms(ALL).into_iter().zip(norms(BROWSE)) {
        assert!((half - single).abs() < 1e-3 * single, "{half} and {single}");
    }
}

#[test]
fn a_layer_that_is_not_there() {
    assert_snapshot!(refused(&mut open(ALL), "SHOW LAYERS 1-3"), @"
     × layer 3 does not exist: the model has layers 0 to 2
      ╭─[lql:1:13]
    1 │ SHOW LAYERS 1-3
      ·             ─┬─
      ·              ╰── no such layer
      ╰────
    ");
    for statement in [
        "SHOW FEATURES 3",
        "SHOW ENTITIES AT LAYER 3",
        "SHOW RELATIONS AT LAYER 3",
        "DESCRIBE 'x' AT LAYER 3",
    ] {
        let error = run(&mut open(ALL), statement).unwrap_err();
        assert!(
            matches!(error, ExecuteError::Query(QueryError::NoSuchLayer { layer: 3, last: 2, .. })),
            "{statement}: {error}"
        );
    }
}

#[test]
fn features() {
    assert_snapshot!(shown(&ask(ALL, "SHOW FEATURES 1 LIMIT 3")), @r#"
     layer  feature   score  tokens
    ─────────────────────────────────────────────────────────────────────────────────────────
         1        0  0.1359  it, [, ?, <0xE4>, Frenc, <0xC1>, <0xD0>, <0xEC>, <0xFE>, <0xDE>
         1        1  0.1184  Jap, <0xE7>, t, ), \u{4}, <0xA2>, f, ', ar, <0xEB>
         1        2  0.1266  A, of, N, <0xD7>, b, @, tis, <0xB2>, e, \u{1d}
    "#);
    let Output::Features(all) = ask(ALL, "SHOW FEATURES 0 LIMIT 1000") else { panic!() };
    assert_eq!(all.rows.len(), 512);
    let Output::Features(some) = ask(ALL, "SHOW FEATURES 0 WHERE feature >= 100 AND feature < 104") else {
        panic!()
    };
    assert_eq!(some.rows, all.rows[100..104]);
}

#[test]
fn entities() {
    assert_snapshot!(shown(&ask(ALL, "SHOW ENTITIES LIMIT 5")), @"
     entity  count  layer  layer_max
    ─────────────────────────────────
     Frenc       7      0          2
     France      6      0          2
     Jap         6      1          2
     Ber         4      0          2
     Par         4      0          2
    ");
    let Output::Entities(all) = ask(ALL, "SHOW ENTITIES LIMIT 1000") else { panic!() };
    let Output::Entities(first) = ask(ALL, "SHOW ENTITIES AT LAYER 0 LIMIT 1000") else { panic!() };
    assert!(all.rows.windows(2).all(|pair| pair[0].count >= pair[1].count));
    assert!(first.rows.iter().all(|row| (row.layer, row.layer_max) == (0, 0)));
    let count = |rows: &[larql_lql::output::EntityRow]| rows.iter().map(|row| row.count).sum::<usize>();
    assert!(count(&first.rows) < count(&all.rows));
}

#[test]
fn relations_of_a_vindex_without_labels() {
    assert_snapshot!(shown(&ask(ALL, "SHOW RELATIONS")), @"
    (no relations)
    `larql probe fixtures/llama-f16-all.vindex` finds relations
    ");
}

/// A copy of the browse vindex in which three features have a label.
fn labelled(folder: &std::path::Path) -> Session {
    let target = folder.join("labelled.vindex");
    copy(BROWSE, &target);
    let labels = r#"{"L0_F3": "capital", "L2_F7": "capital", "L1_F5": "language"}"#;
    std::fs::write(target.join("feature_labels.json"), labels).unwrap();
    let mut session = session();
    session.open_path(&target).unwrap();
    session
}

#[test]
fn labels_make_relations() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = labelled(folder.path());
    assert_snapshot!(shown(&run(&mut session, "SHOW RELATIONS WITH EXAMPLES").unwrap()), @"
     relation  count  layers  source  examples
    ───────────────────────────────────────────
     capital       2  L0-2    probe   H, Fr
     language      1  L1      probe   W
    ");
    let text = "SELECT relation, layer, feature FROM EDGES WHERE relation = capital ORDER BY layer DESC";
    assert_snapshot!(shown(&run(&mut session, text).unwrap()), @"
     relation  layer  feature
    ──────────────────────────
     capital       2        7
     capital       0        3
    ");
    let Output::Features(features) = run(&mut session, "SHOW FEATURES 1 WHERE label = language").unwrap()
    else {
        panic!()
    };
    assert_eq!(features.rows.iter().map(|row| row.feature).collect::<Vec<_>>(), [5]);
    let Output::Stats(stats) = run(&mut session, "STATS").unwrap() else { panic!() };
    assert_eq!(stats.labels.iter().map(|row| row.count).sum::<usize>(), 3);
}
