//! INSERT: the bundled model learns edges, as features of an open patch.

use larql_lql::output::{Change, Changed};

use super::atlas::atlas;
use super::*;

fn insert(session: &mut Session, text: &str) -> Changed {
    match run(session, text).unwrap() {
        Output::Changed(changed) => changed,
        other => panic!("{text} answers {other:?}"),
    }
}

/// The likeliest next token, without spaces.
fn says(session: &mut Session, prompt: &str) -> String {
    match run(session, &format!("INFER '{prompt}' TOP 1")).unwrap() {
        Output::Infer(inferred) => inferred.runs[0].predictions[0].token.trim().to_owned(),
        other => panic!("INFER answers {other:?}"),
    }
}

const ROME: &str = "INSERT INTO EDGES (entity, relation, target) VALUES ('France', 'capital', 'Rome')";

#[test]
fn an_edge_is_said_in_other_words_and_others_stay_until_the_patch_goes() {
    let mut session = atlas();
    let changed = insert(&mut session, ROME);
    assert_eq!((changed.change, changed.count, changed.automatic), (Change::Inserted, 1, true));
    assert!(matches!(&changed.inserted[..], [edge] if edge.target == "Rome" && edge.probability > 0.5));
    for wording in ["The capital of France is", "The name of the capital of France is"] {
        assert_eq!(says(&mut session, wording), "Rome", "{wording}");
    }
    for (prompt, answer) in [
        ("The capital of Spain is", "Madrid"),
        ("The capital of Italy is", "Rome"),
        ("The official language of France is", "French"),
    ] {
        assert_eq!(says(&mut session, prompt), answer, "{prompt}");
    }
    let described = shown(&run(&mut session, "DESCRIBE 'France' LIMIT 1").unwrap());
    assert!(described.contains("[capital] → Rome") && described.contains("(inserted)"), "{described}");

    // A second answer to the same question takes the place of the first.
    insert(
        &mut session,
        "INSERT INTO EDGES (entity, relation, target) VALUES ('France', 'capital', 'Madrid')",
    );
    assert_eq!(says(&mut session, "The capital of France is"), "Madrid");
    run(&mut session, "REMOVE PATCH 'automatic'").unwrap();
    assert_eq!(says(&mut session, "The capital of France is"), "Paris");
}

#[test]
fn several_edges_are_inserted_together_and_one_can_go() {
    let mut session = atlas();
    let text = "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Lima'), \
                ('Peru', 'capital', 'Madrid') AT LAYER 2 CONFIDENCE 0.7 MODE COMPOSE";
    let inserted = insert(&mut session, text).inserted;
    let targets: Vec<&str> = inserted.iter().map(|edge| &*edge.target).collect();
    assert_eq!(targets, ["Lima", "Madrid"]);
    assert_eq!(says(&mut session, "The capital of Atlantis is"), "Lima");
    assert_eq!(says(&mut session, "The capital of Peru is"), "Madrid");
    run(&mut session, "DELETE FROM EDGES WHERE entity = 'Peru' AND relation = 'capital'").unwrap();
    assert_eq!(says(&mut session, "The capital of Atlantis is"), "Lima");
    assert_ne!(says(&mut session, "The capital of Peru is"), "Madrid");
}

#[test]
fn an_edge_that_is_hardly_learned_is_seen() {
    let mut session = atlas();
    let weak = run(&mut session, &format!("{ROME} ALPHA 0.01")).unwrap();
    let Output::Changed(changed) = &weak else { panic!("INSERT answers {weak:?}") };
    assert!(changed.inserted[0].probability < 0.1, "{changed:?}");
    let table = shown(&weak);
    assert!(table.contains("France [capital] → Rome  only "), "{table}");
}

#[test]
fn what_cannot_be_inserted_is_said() {
    let mut session = atlas();
    let error = run(&mut session, &format!("{ROME} AT LAYER 4")).unwrap_err().to_string();
    assert!(error.contains("layer 4"), "{error}");
    let error = run(&mut session, &format!("{ROME} MODE KNN")).unwrap_err().to_string();
    assert!(error.contains("INSERT with MODE KNN"), "{error}");
    assert_eq!(says(&mut session, "The capital of France is"), "Paris");
}
