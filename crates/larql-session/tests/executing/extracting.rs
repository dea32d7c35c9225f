//! EXTRACT and USE MODEL … AUTO_EXTRACT.

use larql_lql::output::Extracted;
use larql_vindex_spec::ExtractLevel;

use super::*;

const PROMPT: &str = "INFER 'The capital of France is' TOP 320";

fn extract(session: &mut Session, into: &Path, clauses: &str) -> Extracted {
    let text = format!("EXTRACT MODEL '{}' INTO '{}' {clauses}", fixture(CHECKPOINT), into.display());
    match run(session, &text).unwrap() {
        Output::Extract(extracted) => extracted,
        other => panic!("EXTRACT answers {other:?}"),
    }
}

fn predictions(session: &mut Session) -> Vec<(u32, f64)> {
    let Output::Infer(inferred) = run(session, PROMPT).unwrap() else { panic!() };
    let predictions = inferred.runs.into_iter().flat_map(|run| run.predictions);
    predictions.map(|prediction| (prediction.token_id, prediction.probability)).collect()
}

/// Total variation between two distributions, 0 to 1.
fn distance(a: &[(u32, f64)], b: &[(u32, f64)]) -> f64 {
    let of = |token| b.iter().find(|(other, _)| *other == token).map_or(0.0, |(_, p)| *p);
    a.iter().map(|(token, p)| (p - of(*token)).abs()).sum::<f64>() / 2.0
}

fn open_at(path: &Path) -> Session {
    let mut session = session();
    run(&mut session, &format!("USE '{}'", path.display())).unwrap();
    session
}

#[test]
fn each_level_does_what_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = 0;
    for (clauses, level) in [
        ("", ExtractLevel::Browse),
        ("WITH ATTENTION", ExtractLevel::Attention),
        ("WITH INFERENCE", ExtractLevel::Inference),
        ("WITH ALL", ExtractLevel::All),
    ] {
        let into = folder.path().join(format!("{}.vindex", level.name()));
        let extracted = extract(&mut session(), &into, clauses);
        assert_eq!((extracted.level, extracted.layers, extracted.features), (level, 3, 1536));
        assert!(extracted.bytes >= bytes, "{clauses} holds all of the level before");
        bytes = extracted.bytes;

        let mut session = open_at(&into);
        for text in ["WALK 'France' MODE PURE", "DESCRIBE 'France'", "SELECT * FROM ENTITIES", "STATS"] {
            run(&mut session, text).unwrap();
        }
        if level >= ExtractLevel::Inference {
            let distance = distance(&predictions(&mut session), &predictions(&mut open(CHECKPOINT)));
            assert!(distance < 1e-4, "{clauses}: {distance}");
        } else {
            assert!(run(&mut session, PROMPT).is_err(), "{clauses}");
        }
    }
}

#[test]
fn floats_in_32_bits_predict_what_the_checkpoint_does() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("single.vindex");
    extract(&mut session(), &into, "WITH INFERENCE F32");
    assert_eq!(predictions(&mut open_at(&into)), predictions(&mut open(CHECKPOINT)));
}

#[test]
fn blocks_predict_much_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("blocks.vindex");
    extract(&mut session(), &into, "WITH INFERENCE QUANT Q4K");
    let exact = predictions(&mut open(CHECKPOINT));
    let blocks = predictions(&mut open_at(&into));
    let distance = distance(&exact, &blocks);
    assert!(distance < 0.1, "{distance}");
}

#[test]
fn a_vindex_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("once.vindex");
    extract(&mut session(), &into, "");
    let text = format!("EXTRACT MODEL '{}' INTO '{}'", fixture(CHECKPOINT), into.display());
    let error = run(&mut session(), &text).unwrap_err().to_string();
    assert_eq!(error, format!("{} exists; choose another name, or delete it first", into.display()));
}

#[test]
fn layers_and_parts_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let some = folder.path().join("some.vindex");
    extract(&mut session(), &some, "LAYERS 1-2");
    let whole = folder.path().join("whole.vindex");
    extract(&mut session(), &whole, "");
    let walk = |path: &Path| run(&mut open_at(path), "WALK 'France' LAYERS 1-2 MODE PURE").unwrap();
    assert_eq!(walk(&some), walk(&whole));
}

#[test]
fn automatic_extraction_happens_once() {
    let folder = tempfile::tempdir().unwrap();
    // With a dot in its name, as versions have.
    let model = folder.path().join("llama-3.2");
    copy(CHECKPOINT, &model);
    let text = format!("USE MODEL '{}' AUTO_EXTRACT", model.display());
    let Output::Use(first) = run(&mut session(), &text).unwrap() else { panic!() };
    assert_eq!((first.level, &*first.model), (Some(ExtractLevel::All), "llama-3.2"));
    assert!(first.path.ends_with("llama-3.2.vindex"));
    let written =
        || std::fs::metadata(Path::new(&first.path).join("index.json")).unwrap().modified().unwrap();
    let before = written();
    assert_eq!(run(&mut session(), &text).unwrap(), Output::Use(first.clone()));
    assert_eq!(written(), before);

    let Output::Use(live) = run(&mut session(), &format!("USE MODEL '{}'", model.display())).unwrap() else {
        panic!()
    };
    assert_eq!(live.model, "llama-3.2");
}
