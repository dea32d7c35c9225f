//! DESCRIBE.

use insta::assert_snapshot;
use larql_lql::output::{Band, Described, Via};

use super::*;

fn described(fixture: &str, text: &str) -> Described {
    match ask(fixture, text) {
        Output::Describe(described) => described,
        other => panic!("DESCRIBE answers {other:?}"),
    }
}

#[test]
fn by_running_the_model() {
    assert_snapshot!(shown(&ask(ALL, "DESCRIBE 'France' ALL LAYERS VERBOSE LIMIT 2")), @"
    France
      Edges (L0-2)
       target  gate  layers  features  also
      ────────────────────────────────────────────
       U       5.14  L0-2           3  u, of
       4       3.39  L0-2           3  the, ce, v
      183 features fire too, without a known relation; LIMIT n shows more
    `larql probe fixtures/llama-f16-all.vindex` finds relations
    ");
    let described = described(ALL, "DESCRIBE 'France' ALL LAYERS VERBOSE");
    let edges: Vec<_> = described.bands.iter().flat_map(|band| &band.edges).collect();
    assert!(!edges.is_empty());
    assert!(edges.iter().all(|edge| edge.via == Via::Residual));
}

#[test]
fn by_the_embedding_where_there_is_no_model_to_run() {
    let described = described(BROWSE, "DESCRIBE 'France' ALL LAYERS VERBOSE");
    let edges: Vec<_> = described.bands.iter().flat_map(|band| &band.edges).collect();
    assert!(!edges.is_empty());
    assert!(edges.iter().all(|edge| edge.via == Via::Embedding));
}

#[test]
fn bands() {
    let bands = |clauses: &str| {
        let described = described(BROWSE, &format!("DESCRIBE 'France' {clauses}"));
        described.bands.iter().map(|band| (band.band, band.layer, band.layer_max)).collect::<Vec<_>>()
    };
    let all = bands("ALL LAYERS");
    assert!(all.windows(2).all(|pair| pair[0].2 + 1 == pair[1].1), "{all:?}");
    assert_eq!((all.first().unwrap().1, all.last().unwrap().2), (0, 2));
    for (scope, clauses) in
        [(Band::Syntax, "SYNTAX"), (Band::Knowledge, "KNOWLEDGE"), (Band::Output, "OUTPUT")]
    {
        let expected: Vec<_> = all.iter().copied().filter(|band| band.0 == scope).collect();
        assert_eq!(bands(clauses), expected, "{clauses}");
    }
    assert_eq!(bands("AT LAYER 1").iter().map(|band| (band.1, band.2)).collect::<Vec<_>>(), [(1, 1)]);
}

#[test]
fn the_strongest_first_and_no_more_than_asked_for() {
    for band in described(ALL, "DESCRIBE 'France' ALL LAYERS VERBOSE LIMIT 3").bands {
        assert!(band.edges.len() <= 3);
        assert!(band.edges.windows(2).all(|pair| pair[0].gate >= pair[1].gate));
        assert!(band.edges.iter().all(|edge| !edge.target.eq_ignore_ascii_case("France")));
    }
}

#[test]
fn layer_by_layer() {
    for fixture in [ALL, BROWSE] {
        let streamed = run_all(&mut open(fixture), "DESCRIBE 'France' ALL LAYERS VERBOSE STREAM").unwrap();
        let answers = streamed.iter().map(|output| match output {
            Output::Describe(described) => described.bands[0].clone(),
            other => panic!("DESCRIBE answers {other:?}"),
        });
        let layers: Vec<_> = answers.collect();
        assert_eq!(
            layers.iter().map(|band| (band.layer, band.layer_max)).collect::<Vec<_>>(),
            [(0, 0), (1, 1), (2, 2)]
        );
        for band in layers {
            let alone = described(fixture, &format!("DESCRIBE 'France' AT LAYER {} VERBOSE", band.layer));
            assert_eq!(band.edges, alone.bands[0].edges);
        }
    }
    assert_eq!(run_all(&mut open(ALL), "DESCRIBE '' STREAM").unwrap().len(), 1);
}

#[test]
fn without_labels_no_relations() {
    assert_snapshot!(shown(&ask(ALL, "DESCRIBE 'France' RELATIONS ONLY")), @"
    France
      (no edges found)
    `larql probe fixtures/llama-f16-all.vindex` finds relations
    ");
}

#[test]
fn nobody_in_particular() {
    assert_snapshot!(shown(&ask(ALL, "DESCRIBE ''")), @r#"
    ""
      (no edges found)
    `larql probe fixtures/llama-f16-all.vindex` finds relations
    "#);
}

#[test]
fn what_no_evidence_names_is_counted() {
    assert_snapshot!(shown(&ask(ALL, "DESCRIBE 'France'")), @"
    France
      Edges (L0-2)
      189 features fire too, without a known relation; VERBOSE shows them
    `larql probe fixtures/llama-f16-all.vindex` finds relations
    ");
    let features = |text: &str| {
        let bands = described(ALL, text).bands;
        bands
            .iter()
            .map(|band| band.unlabelled + band.edges.iter().map(|edge| edge.count).sum::<usize>())
            .sum::<usize>()
    };
    assert_eq!(features("DESCRIBE 'France'"), features("DESCRIBE 'France' VERBOSE LIMIT 3"));
}

#[test]
fn surest_first() {
    let Output::Describe(described) = run(&mut atlas::atlas(), "DESCRIBE 'France'").unwrap() else {
        panic!()
    };
    let confidences: Vec<f32> =
        described.bands.iter().flat_map(|band| &band.edges).map(|edge| edge.confidence.unwrap()).collect();
    assert!(confidences.len() > 4 && confidences.is_sorted_by(|a, b| a >= b), "{confidences:?}");
}
