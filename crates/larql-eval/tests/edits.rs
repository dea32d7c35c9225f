//! Evaluation of edges that are inserted into the bundled model, updated and deleted.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::progress::{CancelToken, NoProgress};
use larql_edit::{ComposeOptions, DEFAULT_LAMBDA};
use larql_eval::{EditEvaluation, EditKind, EditMethod, EditSet, EditedGroup, evaluate_edits};
use larql_knowledge::LanguageModel;

fn atlas() -> LanguageModel {
    let path = larql_testing::shipped("atlas");
    LanguageModel::open(&path, Arc::new(Pool::new(2))).unwrap()
}

#[test]
fn edges_of_the_shipped_set_are_scored() {
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/edits/tune.json");
    let set = EditSet::open(&set).unwrap();
    let evaluation = EditEvaluation {
        kind: EditKind::Insert,
        edits: 4,
        together: 2,
        compose: ComposeOptions::default(),
        method: EditMethod::Features,
        layer: None,
    };
    let (mut done, mut said) = (Vec::new(), Vec::new());
    let mut note = |group: EditedGroup<'_>| {
        assert_eq!(group.written.len(), 2);
        done.push(group.done);
        said.extend(group.questions.iter().map(|asked| (asked.paraphrase, asked.answered)));
    };
    let scores = evaluate_edits(&atlas(), &set, &evaluation, &NoProgress, &mut note).unwrap();
    assert_eq!((scores.edits, scores.together, done), (4, 2, vec![2, 4]));
    assert_eq!(said.iter().filter(|question| **question == (false, true)).count(), 4);
    let answered = said.iter().filter(|question| **question == (true, true)).count();
    let paraphrases = said.iter().filter(|(paraphrase, _)| *paraphrase).count();
    assert_eq!(scores.paraphrase, answered as f64 / paraphrases as f64);
    assert_eq!(scores.efficacy, 1.0);
    assert!(scores.paraphrase > 0.8 && scores.specificity > 0.9 && scores.retention > 0.8, "{scores:?}");
    assert!(scores.drawdown.abs() < 5e-3, "{scores:?}");
    assert!(scores.features >= 1.0 && scores.bytes == scores.features * 3.0 * 256.0 * 4.0, "{scores:?}");
    let together =
        EditEvaluation { together: 4, method: EditMethod::ClosedForm(DEFAULT_LAMBDA), ..evaluation };
    let solved = evaluate_edits(&atlas(), &set, &together, &NoProgress, &mut |_| ()).unwrap();
    assert_eq!((solved.efficacy, solved.features * 4.0), (1.0, 768.0));
    assert!(solved.paraphrase > 0.8 && solved.specificity > 0.6 && solved.retention > 0.6, "{solved:?}");
    let nowhere = EditEvaluation { layer: Some(4), ..evaluation };
    let error = evaluate_edits(&atlas(), &set, &nowhere, &NoProgress, &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "layer is 4, expected the number of a layer of the model");
    let cancelled = CancelToken::new();
    cancelled.cancel();
    let stopped = evaluate_edits(&atlas(), &set, &evaluation, &cancelled, &mut |_| ()).unwrap_err();
    assert!(stopped.is_cancelled(), "{stopped}");
    assert_eq!(EditSet::shipped().unwrap().edits.len(), 1000);
    let missing = EditSet::open(Path::new("no such file")).unwrap_err();
    assert!(missing.to_string().starts_with("no such file: "), "{missing}");
}

#[test]
fn known_edges_are_deleted_and_updated() {
    let set = EditSet::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/edits/tune.json")).unwrap();
    for (kind, compose) in
        [(EditKind::Delete, ComposeOptions::unlearning()), (EditKind::Update, ComposeOptions::default())]
    {
        let evaluation = EditEvaluation {
            kind,
            edits: 3,
            together: 1,
            compose,
            method: EditMethod::Features,
            layer: None,
        };
        let mut said = Vec::new();
        let mut note = |group: EditedGroup<'_>| {
            let usual = group.questions.iter().find(|asked| !asked.paraphrase).unwrap();
            said.push(usual.answered);
        };
        let scores = evaluate_edits(&atlas(), &set, &evaluation, &NoProgress, &mut note).unwrap();
        assert_eq!((scores.kind, scores.edits, scores.efficacy), (kind, 3, 1.0));
        // Deleted targets no longer come out, updated ones do.
        assert_eq!(said, [kind == EditKind::Update; 3]);
        assert!(scores.paraphrase > 0.8 && scores.specificity > 0.9 && scores.retention > 0.8, "{scores:?}");
        assert!(scores.drawdown.abs() < 1e-3, "{scores:?}");
    }
}
