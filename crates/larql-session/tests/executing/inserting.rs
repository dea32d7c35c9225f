//! INSERT: the bundled model learns edges, as features of an open patch.

use larql_lql::output::{Change, Changed, Inferred, InsertedEdge, Stored};

use super::atlas::{atlas, atlas_in};
use super::*;

fn insert(session: &mut Session, text: &str) -> Changed {
    match run(session, text).unwrap() {
        Output::Changed(changed) => changed,
        other => panic!("{text} answers {other:?}"),
    }
}

fn probability(edge: &InsertedEdge) -> f32 {
    match edge.stored {
        Stored::Compose { probability } => probability,
        Stored::Knn { .. } => panic!("{edge:?}"),
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
    assert!(matches!(&changed.inserted[..], [edge] if edge.target == "Rome" && probability(edge) > 0.5));
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
    assert!(described.contains("capital   Rome") && described.contains("inserted"), "{described}");

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
fn what_was_measured_is_kept_and_measured_again_if_it_is_damaged() {
    let library = tempfile::tempdir().unwrap();
    let inserted = || {
        let mut session = atlas_in(&Library::new(library.path().into()));
        let inserted = insert(&mut session, ROME).inserted;
        (probability(&inserted[0]), says(&mut session, "The capital of France is"))
    };
    let first = inserted();
    let kept: Vec<_> = std::fs::read_dir(library.path().join(".measured"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let contents: Vec<Vec<u8>> = kept.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(inserted(), first);
    // It is what is kept that counts.
    let layer = kept.iter().find(|path| path.extension().is_some_and(|ending| ending == "layer")).unwrap();
    std::fs::write(layer, "1").unwrap();
    assert_ne!(inserted().0, first.0);
    for damage in ["", "99"] {
        kept.iter().for_each(|path| std::fs::write(path, damage).unwrap());
        assert_eq!(inserted(), first);
        assert!(kept.iter().zip(&contents).all(|(path, content)| std::fs::read(path).unwrap() == *content));
    }
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
    assert!(probability(&changed.inserted[0]) < 0.1, "{changed:?}");
    let table = shown(&weak);
    assert!(table.contains("France [capital] → Rome  <0.01% → "), "{table}");
}

#[test]
fn what_cannot_be_inserted_is_said() {
    let mut session = atlas();
    let error = run(&mut session, &format!("{ROME} AT LAYER 4")).unwrap_err().to_string();
    assert!(error.contains("layer 4"), "{error}");
    assert_eq!(says(&mut session, "The capital of France is"), "Paris");
}

fn infer(session: &mut Session, prompt: &str) -> Inferred {
    match run(session, &format!("INFER '{prompt}' TOP 3 COMPARE")).unwrap() {
        Output::Infer(inferred) => inferred,
        other => panic!("INFER answers {other:?}"),
    }
}

const POSEIDONIS: &str = "INSERT INTO EDGES (entity, relation, target) VALUES \
                          ('France', 'capital', 'New Poseidonis on Sea'), ('Peru', 'currency', 'shell') MODE KNN";

#[test]
fn an_edge_is_remembered_beside_the_weights_until_the_patch_goes() {
    let mut session = atlas();
    let prompt = "The capital of France is";
    let before = infer(&mut session, prompt);
    let changed = insert(&mut session, POSEIDONIS);
    assert_eq!((changed.change, changed.count), (Change::Inserted, 2));
    let Stored::Knn { layer: 2, threshold } = changed.inserted[0].stored else { panic!("{changed:?}") };

    let after = infer(&mut session, prompt);
    let edge = after.overridden.as_ref().unwrap();
    assert_eq!((&*edge.relation, &*edge.target, edge.layer), ("capital", "New Poseidonis on Sea", 2));
    assert!(edge.cosine > 0.999 && edge.threshold == threshold && threshold > 0.5, "{edge:?}");
    let predictions =
        |inferred: &Inferred| inferred.runs.iter().map(|run| run.predictions.clone()).collect::<Vec<_>>();
    assert_eq!(predictions(&after), predictions(&before));
    let table = shown(&Output::Infer(after));
    assert!(
        table.starts_with("  1. New Poseidonis on Sea  (inserted: capital of France, L2, cosine 1.00"),
        "{table}"
    );
    assert!(table.contains("the model alone says:\n"), "{table}");
    for other in
        ["The capital of Spain is", "The currency of France is the", "The capital of Peru is", "France"]
    {
        assert_eq!(infer(&mut session, other).overridden, None, "{other}");
    }
    for (text, expected) in [
        ("DESCRIBE 'France' LIMIT 1", "capital   New Poseidonis on Sea"),
        ("SELECT relation, target FROM EDGES WHERE entity = 'Peru' AND via = 'patch'", "currency  shell"),
    ] {
        let table = shown(&run(&mut session, text).unwrap());
        assert!(table.contains(expected), "{table}");
    }

    // The same question again is answered with what was said last, in whatever way it is stored.
    insert(
        &mut session,
        "INSERT INTO EDGES (entity, relation, target) VALUES ('France', 'capital', 'Oslo') MODE KNN",
    );
    assert_eq!(infer(&mut session, prompt).overridden.unwrap().target, "Oslo");
    insert(&mut session, ROME);
    assert_eq!(infer(&mut session, prompt).overridden, None);
    assert_eq!(says(&mut session, prompt), "Rome");
    run(&mut session, "DELETE FROM EDGES WHERE entity = 'Peru' AND relation = 'currency'").unwrap();
    assert_eq!(infer(&mut session, "The currency of Peru is").overridden, None);
    run(&mut session, "REMOVE PATCH 'automatic'").unwrap();
    assert_eq!(predictions(&infer(&mut session, prompt)), predictions(&before));
}

#[test]
fn what_is_beside_the_weights_is_in_them_once_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut session = atlas();
    let text = "INSERT INTO EDGES (entity, relation, target) VALUES ('France', 'capital', 'Rome') MODE KNN";
    insert(&mut session, text);
    let compile = |session: &mut Session, text: String| match run(session, &text).unwrap() {
        Output::Compile(compiled) => compiled,
        other => panic!("COMPILE answers {other:?}"),
    };
    let carried =
        compile(&mut session, format!("COMPILE CURRENT INTO VINDEX '{}' SNAPSHOT", path("carried")));
    assert_eq!((carried.entries, carried.lowered.len()), (1, 0));
    let lowered = compile(&mut session, format!("COMPILE CURRENT INTO VINDEX '{}'", path("lowered")));
    assert_eq!((lowered.entries, lowered.lowered.len(), lowered.features > 0), (0, 1, true));
    let table = shown(&Output::Compile(lowered));
    assert!(
        table.contains(
            "1 edge of the lookup entries became features:\n  France [capital] → Rome  (lowest wording"
        ),
        "{table}"
    );
    let model = compile(&mut session, format!("COMPILE CURRENT INTO MODEL '{}'", path("model")));
    assert_eq!(model.lowered.len(), 1);

    for (name, remembered) in [("carried", true), ("lowered", false), ("model", false)] {
        session.open_path(path(name).as_ref()).unwrap();
        let inferred = infer(&mut session, "The capital of France is");
        assert_eq!(inferred.overridden.is_some(), remembered, "{name}");
        let own = inferred.runs[0].predictions[0].token.trim() == "Rome";
        assert_eq!(own, !remembered, "{name}: {inferred:?}");
    }
    let again = format!("COMPILE '{}' INTO VINDEX '{}'", path("carried"), path("again"));
    assert_eq!(compile(&mut session, again).lowered.len(), 1);
}

#[test]
fn what_the_model_knows_is_unlearned_and_updated_and_undone() {
    let mut session = atlas();
    let question = "The capital of France is";
    let before = infer(&mut session, question).runs[0].predictions.clone();
    let delete = "DELETE FROM EDGES WHERE entity = 'France' AND relation = 'capital'";
    let Output::Changed(deleted) = run(&mut session, delete).unwrap() else { panic!() };
    assert_eq!((deleted.change, deleted.count), (Change::Deleted, 1));
    let effect = &deleted.effects[0];
    assert_eq!((&*effect.relation, &*effect.target), ("capital", "Paris"));
    assert!(effect.before > 0.5 && effect.after < 0.05, "{effect:?}");
    assert!(deleted.neighbours.as_ref().is_some_and(|answers| answers.asked > 5), "{deleted:?}");
    for prompt in [question, "The capital city of France is called", "The name of the capital of France is"] {
        assert_ne!(says(&mut session, prompt), "Paris", "{prompt}");
    }
    for (prompt, answer) in [("The capital of Germany is", "Berlin"), ("The capital of Italy is", "Rome")] {
        assert_eq!(says(&mut session, prompt), answer);
    }
    let inserted = shown(&run(&mut session, "SELECT * FROM EDGES WHERE source = 'inserted'").unwrap());
    assert!(!inserted.contains("capital"), "{inserted}");
    // Nothing was inserted about Atlantis, and nothing is known of it.
    let delete = "DELETE FROM EDGES WHERE entity = 'Atlantis' AND relation = 'mascot'";
    let Output::Changed(nothing) = run(&mut session, delete).unwrap() else { panic!() };
    assert_eq!((nothing.count, &nothing.patch), (0, &None));
    let told = shown(&Output::Changed(nothing));
    assert!(told.contains("too uncertain") || told.contains("DESCRIBE shows those that are"), "{told}");

    let update = "UPDATE EDGES SET target = 'Lyon' WHERE entity = 'France' AND relation = 'capital'";
    let Output::Changed(updated) = run(&mut session, update).unwrap() else { panic!() };
    assert_eq!((updated.change, updated.count, &*updated.inserted[0].target), (Change::Updated, 1, "Lyon"));
    assert!(updated.effects[0].after > 0.5, "{updated:?}");
    assert_eq!(says(&mut session, "The capital of Germany is"), "Berlin");
    run(&mut session, "UNDO; UNDO").unwrap();
    assert_eq!(infer(&mut session, question).runs[0].predictions, before);
}

#[test]
fn edges_of_one_statement_are_no_neighbours_of_each_other() {
    let mut session = atlas();
    let entities = ["France", "Germany", "Italy", "Spain"];
    let edges = entities.map(|entity| format!("('{entity}', 'capital', 'Oslo')")).join(", ");
    let insert = format!("INSERT INTO EDGES (entity, relation, target) VALUES {edges}");
    let Output::Changed(changed) = run(&mut session, &insert).unwrap() else { panic!() };
    let neighbours = changed.neighbours.unwrap();
    assert!(neighbours.asked > 5, "{neighbours:?}");
    for answer in neighbours.changed {
        assert!(
            !entities.iter().any(|entity| answer.prompt == format!("The capital of {entity} is")),
            "{answer:?}"
        );
    }
}

#[test]
fn an_edge_needs_text_in_every_field() {
    let mut session = atlas();
    for (values, field) in [
        ("('', 'capital', 'Rome')", "entity"),
        ("('a', ' ', 'b')", "relation"),
        ("('a', 'b', '\t')", "target"),
    ] {
        let insert = format!("INSERT INTO EDGES (entity, relation, target) VALUES {values}");
        let error = run(&mut session, &insert).unwrap_err().to_string();
        assert_eq!(error, format!("the {field} has no text; give at least one word"));
    }
}

#[test]
fn a_second_deletion_leaves_the_first_one_in_place() {
    let mut session = atlas();
    let question = "The capital of France is";
    let delete = "DELETE FROM EDGES WHERE entity = 'France' AND relation = 'capital' AND target";
    let deleted = |session: &mut Session, target: &str| match run(session, &format!("{delete} = '{target}'"))
    {
        Ok(Output::Changed(changed)) => changed.count,
        other => panic!("DELETE answers {other:?}"),
    };
    assert_eq!(deleted(&mut session, "Paris"), 1);
    let second = says(&mut session, question);
    assert_ne!(second, "Paris");
    // Paris is forgotten already, so that nothing is left to do.
    assert_eq!(deleted(&mut session, "Paris"), 0);
    deleted(&mut session, &second);
    assert_ne!(says(&mut session, question), "Paris");
}
