//! One suite of statements, here and on a server: the results are the same.

use larql_lql::output::{Output, PatchAction};
use larql_lql::{Engine, parse};
use larql_remote::Switching;
use larql_session::Session;

use super::*;

const STATEMENTS: [&str; 12] = [
    "DESCRIBE 'France' VERBOSE LIMIT 5",
    "DESCRIBE 'France' ALL LAYERS STREAM",
    "WALK 'France' TOP 2",
    "EXPLAIN WALK 'France' LAYERS 1-2 TOP 2",
    "SELECT entity, target FROM EDGES WHERE relation = 'capital' ORDER BY entity LIMIT 3",
    "SHOW RELATIONS",
    "SHOW FEATURES 2 LIMIT 3",
    "SHOW PATCHES",
    "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Rome') MODE KNN",
    "SELECT target FROM EDGES WHERE entity = 'Atlantis' AND relation = 'capital'",
    "SHOW PATCHES",
    "UNDO",
];

fn run(engine: &mut dyn Engine, text: &str) -> Result<Vec<Output>, String> {
    let mut outputs = Vec::new();
    for pipe in parse(text).unwrap() {
        engine.execute(&pipe, &mut |output| outputs.push(output)).map_err(|error| error.to_string())?;
    }
    Ok(outputs)
}

fn local() -> Switching<Session> {
    let mut session = Session::new(Arc::new(Catalog::new(Arc::new(Pool::new(2)), Library::default())));
    session.open_path(&atlas()).unwrap();
    Switching::new(session)
}

#[test]
fn statements_have_the_same_results_here_and_there() {
    let server = TestServer::start(options());
    let (mut here, mut there) = (local(), local());
    let connected = run(&mut there, &format!("USE REMOTE '{}'", server.url)).unwrap();
    let Output::Use(opened) = &connected[0] else { panic!("{connected:?}") };
    assert_eq!((&*opened.path, opened.layers), (&*server.url, 4));
    for statement in STATEMENTS {
        let expected = run(&mut here, statement);
        assert_eq!(run(&mut there, statement), expected, "{statement}");
        assert!(expected.is_ok_and(|outputs| !outputs.is_empty()), "{statement}");
    }
    let refused = "DESCRIBE 'France' AT LAYER 99";
    assert!(run(&mut there, refused).unwrap_err().contains(&run(&mut here, refused).unwrap_err()));
}

#[test]
fn patches_lie_on_this_machine() {
    let server = TestServer::start(options());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facts.vlp").display().to_string();
    let mut there = local();
    run(&mut there, &format!("USE REMOTE '{}'", server.url)).unwrap();
    run(
        &mut there,
        "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Rome') MODE KNN",
    )
    .unwrap();
    assert_eq!(there.unsaved().len(), 1);
    let saved = run(&mut there, &format!("SAVE PATCH '{file}'")).unwrap();
    assert!(
        matches!(&saved[0], Output::Patch(patch) if patch.action == PatchAction::Saved && patch.operations == 1)
    );
    let mut other = local();
    run(&mut other, &format!("USE REMOTE '{}'", server.url)).unwrap();
    let found = |engine: &mut Switching<Session>| {
        run(
            engine,
            "SELECT target FROM EDGES WHERE entity = 'Atlantis' AND relation = 'capital' AND via = 'patch'",
        )
        .map(|outputs| match &outputs[0] {
            Output::Select(selected) => selected.rows.len(),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(found(&mut other), Ok(0));
    run(&mut other, &format!("APPLY PATCH '{file}'")).unwrap();
    assert_eq!(found(&mut other), Ok(1));
    // The same file fits the model of this machine.
    let mut here = local();
    run(&mut here, &format!("APPLY PATCH '{file}'")).unwrap();
    assert_eq!(found(&mut here), Ok(1));
}
