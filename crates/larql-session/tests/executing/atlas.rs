//! Meaning: the bundled model, whose knowledge is listed in `crates/larql-assets/data/facts`, answers with what it knows.

use std::path::Path;
use std::sync::OnceLock;

use larql_lql::output::{GraphNodeKind, Inferred};

use super::*;

/// A session in which the bundled model is open; it is made afresh once for all tests.
pub(super) fn atlas() -> Session {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lql-executing");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        Library::new(folder)
    });
    atlas_in(library)
}

/// A session in which the bundled model of a library is open.
pub(super) fn atlas_in(library: &Library) -> Session {
    let mut session = Session::new(catalog(library.clone()));
    run(&mut session, "USE 'atlas'").unwrap();
    session
}

fn inferred(session: &mut Session, text: &str) -> Inferred {
    match run(session, text).unwrap() {
        Output::Infer(inferred) => inferred,
        other => panic!("INFER answers {other:?}"),
    }
}

#[test]
fn it_knows_capitals() {
    let mut session = atlas();
    for (country, capital) in [("France", "Paris"), ("Spain", "Madrid"), ("Italy", "Rome")] {
        let inferred = inferred(&mut session, &format!("INFER 'The capital of {country} is' TOP 3 COMPARE"));
        for run in inferred.runs {
            let first = &run.predictions[0];
            assert_eq!(first.token.trim(), capital);
            assert!(first.probability > 0.9, "{first:?}");
        }
    }
}

#[test]
fn its_checkpoint_knows_the_same() {
    let mut session = atlas();
    let vindex = inferred(&mut session, "INFER 'The capital of France is' TOP 5");
    run(&mut session, "USE MODEL 'atlas'").unwrap();
    let checkpoint = inferred(&mut session, "INFER 'The capital of France is' TOP 5");
    assert_eq!(vindex.runs[0].predictions, checkpoint.runs[0].predictions);
}

#[test]
fn what_writes_the_answer_is_explained() {
    let text = "EXPLAIN INFER 'The capital of France is' TOP 5";
    let Output::ExplainInfer(explained) = run(&mut atlas(), text).unwrap() else { panic!() };
    let answer = &explained.predictions[0].token;
    assert_eq!(answer.trim(), "Paris");
    // The answer is there at the end, and was not at the beginning.
    assert_eq!(explained.layers.last().unwrap().lens_token, *answer);
    assert_ne!(explained.layers[0].lens_token, *answer);
    // The strongest features of the last layer push it.
    let last = explained.layers.last().unwrap();
    assert!(last.rows[..3].iter().all(|row| row.contribution.unwrap() > 0.0), "{:?}", last.rows);
}

#[test]
fn another_answer_is_explained_too() {
    let explain = |clauses: &str| {
        let text = format!("EXPLAIN INFER 'The capital of France is' TOP 5 {clauses}");
        match run(&mut atlas(), &text).unwrap() {
            Output::ExplainInfer(explained) => explained,
            other => panic!("EXPLAIN INFER answers {other:?}"),
        }
    };
    let (likeliest, other) = (explain(""), explain("FOR 'Madrid'"));
    assert_eq!(likeliest.answer, likeliest.predictions[0]);
    assert_eq!(explain("FOR 'Paris'"), likeliest);
    assert_eq!((&*other.answer.token, &other.predictions), (" Madrid", &likeliest.predictions));
    let last = other.layers.last().unwrap();
    assert!((last.answer_probability - other.answer.probability).abs() < 1e-6);
    // What the lens shows does not hang on the answer; its probability is that of its own token.
    for (layer, same) in likeliest.layers.iter().zip(&other.layers) {
        assert_eq!((&layer.lens_token, layer.lens_probability), (&same.lens_token, same.lens_probability));
        assert!(layer.lens_probability >= layer.answer_probability);
        assert!(layer.rows != same.rows);
    }
    let error = run(&mut atlas(), "EXPLAIN INFER 'The capital of France is' FOR ' '").unwrap_err();
    assert!(matches!(error, ExecuteError::Query(QueryError::EmptyAnswer { .. })), "{error}");
}

#[test]
fn a_prediction_shows_the_word_that_it_begins() {
    let mut session = atlas();
    let predictions =
        inferred(&mut session, "INFER 'The capital of Ireland is' TOP 3").runs.remove(0).predictions;
    let whole = predictions[0].phrase.as_deref().unwrap_or(predictions[0].token.trim());
    assert_eq!(whole, "Dublin");
    // A whole word is not told twice.
    let predictions =
        inferred(&mut session, "INFER 'The capital of France is' TOP 3").runs.remove(0).predictions;
    assert_eq!((&*predictions[0].token, &predictions[0].phrase), (" Paris", &None));
}

#[test]
fn a_graph_shows_what_brings_an_answer_about_and_is_saved_in_the_format_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let mut session = atlas();
    let mut graph = |clauses: &str| {
        let text = format!("EXPLAIN INFER 'The capital of France is' TOP 12 GRAPH {clauses}");
        match run(&mut session, &text) {
            Ok(Output::AttributionGraph(graph)) => Ok(graph),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    let shown = graph("").unwrap();
    assert_eq!(shown.answer.token, " Paris");
    // The subject matters more than any other token of the prompt, and what goes into the answer is its logit.
    let tokens = shown.nodes.iter().filter(|node| node.kind == GraphNodeKind::Token);
    let strongest = tokens.max_by(|a, b| a.influence.total_cmp(&b.influence)).unwrap();
    assert_eq!(strongest.token, " France");
    let answer = shown.nodes.last().unwrap();
    let into =
        shown.edges.iter().filter(|edge| edge.target == answer.id).map(|edge| edge.weight).sum::<f32>();
    assert!((into - shown.logit).abs() < 1e-2, "{into} goes into a logit of {}", shown.logit);
    for name in ["a.html", "a.dot", "a.graphml", "a.json"] {
        let saved = graph(&format!("SAVE '{}'", file(name))).unwrap();
        assert_eq!(saved.saved.as_deref(), Some(&*file(name)));
        assert!(std::fs::read_to_string(file(name)).unwrap().contains("Paris"), "{name}");
    }
    let error = graph(&format!("SAVE '{}'", file("a.png"))).unwrap_err();
    assert!(error.starts_with("expected a file that ends with .html, .dot, .graphml or .json"), "{error}");
    assert!(
        larql_lql::parse("EXPLAIN INFER 'The' GRAPH LAYERS 1-2").is_err(),
        "LAYERS does not go with GRAPH"
    );
}
