//! REBALANCE, COMPACT and SHOW COMPACT STATUS, on the bundled model.

use insta::assert_snapshot;
use larql_lql::output::{BalancedEdge, Change, CompactStatus, Inferred, Rebalanced, Solved, Stored};

use super::atlas::atlas;
use super::*;

fn infer(session: &mut Session, prompt: &str) -> Inferred {
    match run(session, &format!("INFER '{prompt}' TOP 1")).unwrap() {
        Output::Infer(inferred) => inferred,
        other => panic!("INFER answers {other:?}"),
    }
}

fn status(session: &mut Session) -> CompactStatus {
    match run(session, "SHOW COMPACT STATUS").unwrap() {
        Output::CompactStatus(status) => status,
        other => panic!("SHOW COMPACT STATUS answers {other:?}"),
    }
}

#[test]
fn edges_beside_the_weights_become_features_of_the_open_patch() {
    let mut session = atlas();
    let insert = "INSERT INTO EDGES (entity, relation, target) VALUES ('France', 'capital', 'Rome'), \
                  ('Atlantis', 'capital', 'Lima') MODE KNN";
    run(&mut session, insert).unwrap();
    assert_snapshot!(shown(&run(&mut session, "SHOW COMPACT STATUS").unwrap()), @"
    Beside the weights: 2 edges, 2.0 kB
    In features: 0 edges, 0 of them compacted; 0 edited features, 0 B
    COMPACT MINOR; turns edges of the edge memory into features
    ");
    let Output::Changed(compacted) = run(&mut session, "COMPACT MINOR").unwrap() else { panic!() };
    assert_eq!((compacted.change, compacted.count), (Change::Compacted, 2));
    assert!(
        compacted
            .inserted
            .iter()
            .all(|edge| matches!(edge.stored, Stored::Compose { probability } if probability > 0.5))
    );
    for (prompt, target) in
        [("The capital of France is", "Rome"), ("The name of the capital of Atlantis is", "Lima")]
    {
        let inferred = infer(&mut session, prompt);
        assert_eq!((inferred.overridden, inferred.runs[0].predictions[0].token.trim()), (None, target));
    }
    let after = status(&mut session);
    assert_eq!((after.entries, after.edges, after.compacted), (0, 2, 2));
    assert!(after.features >= 2 && after.feature_bytes >= 2 * 3 * 256 * 4, "{after:?}");
    let Output::Changed(again) = run(&mut session, "COMPACT MINOR").unwrap() else { panic!() };
    assert_eq!((again.count, again.patch), (0, None));
    run(&mut session, "REMOVE PATCH 'automatic'").unwrap();
    assert_eq!(status(&mut session).features, 0);
    assert_eq!(infer(&mut session, "The capital of France is").runs[0].predictions[0].token.trim(), "Paris");
}

fn major(session: &mut Session, text: &str) -> Solved {
    match run(session, text).unwrap() {
        Output::Solved(solved) => solved,
        other => panic!("{text} answers {other:?}"),
    }
}

/// The model itself says the target, or its first token.
fn assert_says(session: &mut Session, prompt: &str, target: &str) {
    let inferred = infer(session, prompt);
    assert_eq!(inferred.overridden, None);
    let said = inferred.runs[0].predictions[0].token.trim();
    assert!(!said.is_empty() && target.starts_with(said), "{prompt} {said}, not {target}");
}

#[test]
fn edges_are_solved_for_together() {
    let error = run(&mut open(BROWSE), "COMPACT MAJOR").unwrap_err();
    assert!(error.to_string().contains("level browse"), "{error}");
    let mut session = atlas();
    assert_snapshot!(shown(&run(&mut session, "COMPACT MAJOR").unwrap()), @"(no inserted edges)");
    let insert = "INSERT INTO EDGES (entity, relation, target) VALUES";
    let folder = tempfile::tempdir().unwrap();
    let edges = folder.path().join("edges.vlp");
    run(
        &mut session,
        &format!(
            "BEGIN PATCH '{}'; {insert} ('France', 'capital', 'Rome'), ('Atlantis', 'capital', 'Lima'); \
             {insert} ('Peru', 'language', 'Greek') MODE KNN; SAVE PATCH; BEGIN PATCH 'solved.vlp'",
            edges.display()
        ),
    )
    .unwrap();
    let solved = major(&mut session, "COMPACT MAJOR WITH LAMBDA = 0.01");
    assert_eq!((solved.rows.len(), solved.layers.len(), solved.lambda), (3, 1, 0.01));
    assert_eq!(solved.patch.as_deref(), Some("solved.vlp"));
    assert!(solved.rows.iter().all(|row| row.before > 0.5 && row.after > 0.5), "{solved:?}");
    assert!(solved.layers.iter().all(|layer| layer.change > 0.0), "{solved:?}");
    for (prompt, target) in [
        ("The capital of France is", "Rome"),
        ("The name of the capital of Atlantis is", "Lima"),
        ("The language of Peru is", "Greek"),
        ("The capital of Italy is", "Rome"),
        ("The capital of Japan is", "Tokyo"),
        ("The language of Japan is", "Japanese"),
    ] {
        assert_says(&mut session, prompt, target);
    }
    let after = status(&mut session);
    assert_eq!((after.entries, after.edges, after.compacted, after.solved), (0, 3, 1, 3));
    let described = shown(&run(&mut session, "DESCRIBE 'Atlantis'").unwrap());
    assert!(described.contains("Lima") && described.contains("inserted"), "{described}");

    // One of them can be unlearned alone, and another answer takes the place of one.
    run(&mut session, "DELETE FROM EDGES WHERE entity = 'Atlantis'").unwrap();
    let inferred = infer(&mut session, "The capital of Atlantis is");
    assert!(!"Lima".starts_with(inferred.runs[0].predictions[0].token.trim()), "{inferred:?}");
    assert_says(&mut session, "The capital of France is", "Rome");
    assert_eq!(status(&mut session).edges, 2);
    run(&mut session, "UNDO").unwrap();
    assert_says(&mut session, "The capital of Atlantis is", "Lima");
    run(&mut session, &format!("{insert} ('Atlantis', 'capital', 'Oslo')")).unwrap();
    assert_says(&mut session, "The capital of Atlantis is", "Oslo");
    assert_says(&mut session, "The capital of France is", "Rome");
    let edges = status(&mut session);
    assert_eq!((edges.edges, edges.solved), (3, 2));

    // What was solved for before stays, with the new edge and once more with all.
    let again = major(&mut session, "COMPACT MAJOR");
    assert_eq!(again.rows.iter().map(|row| &*row.target).collect::<Vec<_>>(), ["Oslo"]);
    let full = major(&mut session, "COMPACT MAJOR FULL");
    assert!(full.rows.len() <= 3, "{full:?}");
    for (prompt, target) in [
        ("The capital of Atlantis is", "Oslo"),
        ("The capital of France is", "Rome"),
        ("The language of Peru is", "Greek"),
    ] {
        assert_says(&mut session, prompt, target);
    }

    run(&mut session, "REMOVE PATCH 'solved.vlp'").unwrap();
    let before = status(&mut session);
    assert_eq!((before.entries, before.edges, before.solved), (1, 2, 0));
    run(&mut session, "REMOVE PATCH 'edges.vlp'").unwrap();
    assert_says(&mut session, "The capital of France is", "Paris");
    assert_eq!(status(&mut session).features, 0);
}

#[test]
fn what_was_solved_for_is_shown() {
    let mut session = atlas();
    let insert = "INSERT INTO EDGES (entity, relation, target) VALUES ('France', 'capital', 'Rome')";
    run(&mut session, insert).unwrap();
    let mut solved = major(&mut session, "COMPACT MAJOR");
    // Figures of the solver may differ in their last digits.
    (solved.rows[0].before, solved.rows[0].after, solved.layers[0].change) = (0.987, 0.876, 0.0123);
    assert_snapshot!(shown(&Output::Solved(solved)), @r#"
     entity  relation  target  before   after
    ──────────────────────────────────────────
     France  capital   Rome    98.70%  87.60%
    L2: what its features write changed by 1.23%
    Solved for 1 edge together in patch automatic
    Not saved yet. Keep it: SAVE PATCH "edits.vlp";  Undo it: UNDO;
    "#);
    let mut status = status(&mut session);
    (status.features, status.feature_bytes) = (768, 786_432);
    assert_snapshot!(shown(&Output::CompactStatus(status)), @"
    Beside the weights: 0 edges, 0 B
    In features: 1 edge, 0 of them compacted; 768 edited features, 786.4 kB
    Solved for together: 1 edge
    ");
}

fn rebalance(session: &mut Session, text: &str) -> Rebalanced {
    match run(session, text).unwrap() {
        Output::Rebalance(rebalanced) => rebalanced,
        other => panic!("{text} answers {other:?}"),
    }
}

#[test]
fn targets_are_brought_into_a_range_of_probabilities() {
    let mut session = atlas();
    assert_snapshot!(shown(&run(&mut session, "REBALANCE").unwrap()), @"(no inserted edges)");
    let weak = "INSERT INTO EDGES (entity, relation, target) VALUES ('France', 'capital', 'Rome') ALPHA 0.3";
    let strong = "INSERT INTO EDGES (entity, relation, target) VALUES ('Peru', 'capital', 'Madrid')";
    run(&mut session, &format!("{weak}; {strong}")).unwrap();
    let rebalanced = rebalance(&mut session, "REBALANCE FLOOR 0.4 CEILING 0.8");
    let [france, peru] = &rebalanced.rows[..] else { panic!("{rebalanced:?}") };
    assert_eq!((&*france.target, &*peru.target), ("Rome", "Madrid"));
    assert!(rebalanced.rounds > 0 && rebalanced.patch.is_some(), "{rebalanced:?}");
    let in_range = |edge: &BalancedEdge| edge.converged && (0.4..=0.8).contains(&edge.after);
    assert!(in_range(france) && in_range(peru), "{rebalanced:?}");
    assert!(peru.before > 0.8 && peru.scale < 1.0, "{peru:?}");
    let said = &infer(&mut session, "The capital of Peru is").runs[0].predictions[0];
    assert!(
        said.token.trim() == "Madrid" && (said.probability - f64::from(peru.after)).abs() < 1e-3,
        "{said:?}"
    );

    let again = rebalance(&mut session, "REBALANCE UNTIL CONVERGED FLOOR 0.4 CEILING 0.8");
    assert_eq!((again.rounds, again.patch), (0, None));
    let table = shown(&Output::Rebalance(rebalanced));
    assert!(table.contains("2 of 2 edges in 40.00% to 80.00% after"), "{table}");
}
