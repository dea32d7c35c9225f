//! REBALANCE, COMPACT MINOR and SHOW COMPACT STATUS, on the bundled model.

use insta::assert_snapshot;
use larql_lql::output::{BalancedEdge, Change, CompactStatus, Inferred, Rebalanced, Stored};

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
    COMPACT MINOR; turns edges beside the weights into features
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
