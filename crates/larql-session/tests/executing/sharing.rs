//! Many sessions on one vindex: what they share, and what is each one's own.

use std::sync::{Arc, Barrier};

use larql_core::progress::CancelToken;
use larql_hub::Library;
use larql_lql::output::Output;
use larql_lql::parse_statement;
use larql_session::{Catalog, Database, ExecuteError, Session, View};

use super::{ALL, catalog, fixture, open, run};

/// A session of a catalog with a fixture open.
fn open_in(catalog: &Arc<Catalog>, name: &str) -> Session {
    let mut session = Session::new(Arc::clone(catalog));
    session.open_path(fixture(name).as_ref()).unwrap();
    session
}

fn view(session: &Session) -> &Arc<View> {
    session.view().unwrap()
}

/// Number of features that differ between the session and the vindex.
fn differences(session: &mut Session) -> usize {
    match run(session, &format!("DIFF {:?} CURRENT", fixture(ALL))).unwrap() {
        Output::Diff(differences) => differences.count,
        other => panic!("DIFF answers {other:?}"),
    }
}

/// The likeliest tokens and their probabilities.
fn predicted(session: &Session) -> Vec<(String, f64)> {
    match session.query(&parse_statement("INFER \"The capital of France is\"").unwrap()).unwrap() {
        Output::Infer(inferred) => {
            let run = &inferred.runs[0];
            run.predictions.iter().map(|p| (p.token.clone(), p.probability)).collect()
        }
        other => panic!("INFER answers {other:?}"),
    }
}

#[test]
fn everything_shared_can_go_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Catalog>();
    check::<Database>();
    check::<View>();
    check::<Session>();
}

#[test]
fn sessions_share_the_base_and_see_their_own_edits_alone() {
    const THREADS: usize = 16;
    let catalog = catalog(Library::default());
    let alone = predicted(&open(ALL));
    let barrier = Barrier::new(THREADS);
    let mut sessions: Vec<Session> = std::thread::scope(|scope| {
        let work = |thread: usize| {
            let (catalog, barrier, alone) = (&catalog, &barrier, &alone);
            move || {
                barrier.wait();
                let mut session = open_in(catalog, ALL);
                let own = if thread.is_multiple_of(2) { thread / 2 + 1 } else { 0 };
                for feature in 0..own {
                    let text = format!("DELETE FROM FEATURES WHERE layer = 0 AND feature = {feature}");
                    run(&mut session, &text).unwrap();
                }
                barrier.wait();
                assert_eq!(differences(&mut session), own, "{thread}");
                let same = predicted(&session) == *alone;
                assert_eq!(same, own == 0, "{thread}");
                session
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let database = Arc::clone(view(&sessions[0]).database());
    for session in &sessions {
        assert!(Arc::ptr_eq(view(session).database(), &database));
        assert!(Arc::ptr_eq(view(session).overlay().base(), database.base()));
    }
    // Who has not edited sees one and the same view.
    assert!(Arc::ptr_eq(view(&sessions[1]), view(&sessions[3])));
    run(&mut sessions[0], "REMOVE PATCH \"automatic\"").unwrap();
    assert_eq!(differences(&mut sessions[0]), 0);
}

#[test]
fn a_write_leaves_the_view_before_it_as_it_was() {
    let mut session = open(ALL);
    let before = Arc::clone(view(&session));
    let language_before = before.language().unwrap().model().clone();
    run(&mut session, "DELETE FROM FEATURES WHERE layer = 0 AND feature = 1").unwrap();
    assert_eq!((before.overlay().edits().len(), view(&session).overlay().edits().len()), (0, 1));
    let hidden = vec![0.1; language_before.spec().hidden_size];
    let scores = |view: &View| view.language().unwrap().model().gate_scores(0, &hidden);
    assert_eq!(scores(&before), language_before.gate_scores(0, &hidden));
    assert_ne!(scores(&before), scores(view(&session)));
}

#[test]
fn a_query_changes_nothing_and_says_so_of_what_would() {
    let session = open(ALL);
    std::thread::scope(|scope| {
        for text in ["STATS", "SHOW PATCHES", "DESCRIBE \"France\"", "WALK \"France\"", "SHOW RELATIONS"] {
            let session = &session;
            scope.spawn(move || session.query(&parse_statement(text).unwrap()).unwrap());
        }
    });
    let writing = parse_statement("DELETE FROM FEATURES WHERE layer = 0 AND feature = 1").unwrap();
    let error = session.query(&writing).unwrap_err();
    assert!(matches!(error, ExecuteError::ChangesSession { statement: "DELETE" }), "{error}");
}

#[test]
fn what_is_opened_again_is_shared_until_its_files_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.vindex");
    super::copy(ALL, &path);
    let catalog = catalog(Library::default());
    let mut session = Session::new(Arc::clone(&catalog));
    session.open_path(&path).unwrap();
    let first = Arc::clone(view(&session).database());
    let mut other = Session::new(Arc::clone(&catalog));
    other.open_path(&folder.path().join(".").join("model.vindex")).unwrap();
    assert!(Arc::ptr_eq(view(&other).database(), &first));
    std::fs::write(path.join("feature_labels.json"), "{}").unwrap();
    other.open_path(&path).unwrap();
    assert!(!Arc::ptr_eq(view(&other).database(), &first));
    assert!(Arc::ptr_eq(view(&session).database(), &first));
}

#[test]
fn checkpoints_are_loaded_once_too() {
    let catalog = catalog(Library::default());
    let path = fixture(super::CHECKPOINT);
    let [one, other] = [(); 2].map(|()| catalog.checkpoint(path.as_ref()).unwrap());
    assert!(Arc::ptr_eq(&one, &other));
}

#[test]
fn cancelled_statements_end() {
    let token = CancelToken::new();
    let mut session = Session::new(catalog(Library::default())).with_progress(Arc::new(token.clone()));
    session.open_path(fixture(ALL).as_ref()).unwrap();
    let statements = [
        "DESCRIBE \"France\"",
        "INFER \"The capital of France is\"",
        "EXPLAIN INFER \"The capital of France is\"",
        "WALK \"France\"",
        "INSERT INTO EDGES (entity, relation, target) VALUES (\"Atlantis\", \"capital\", \"Paris\")",
    ];
    token.cancel();
    for text in statements {
        let error = run(&mut session, text).unwrap_err();
        assert!(matches!(error, ExecuteError::Interrupted), "{text}: {error}");
    }
    token.reset();
    run(&mut session, statements[0]).unwrap();
    assert_eq!(view(&session).overlay().edits().len(), 0);
}
