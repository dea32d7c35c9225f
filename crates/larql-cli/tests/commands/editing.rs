//! From INSERT to a vindex that says it by itself, and back.

use super::*;

/// What the model says after prompts about two places, with probabilities.
const QUESTIONS: &str = "INFER 'The capital of Atlantis is' TOP 1; INFER 'The capital of France is' TOP 1";

/// `larql lql` on atlas and vindexes in one folder.
struct Place(tempfile::TempDir);

impl Place {
    fn larql(&self, arguments: &[&str]) -> String {
        let mut command = larql(arguments.iter().copied());
        command.env("XDG_CACHE_HOME", self.0.path()).current_dir(self.0.path());
        stdout(&command.assert().success().stderr(""))
    }

    /// The answers of statements, a line for each.
    fn ask(&self, model: &str, statements: &str) -> String {
        self.larql(&["lql", "--use", model, "--format", "json", statements])
    }
}

/// The words and probabilities of predictions in lines of JSON.
fn predictions<'a>(answers: impl IntoIterator<Item = &'a str>) -> Vec<(String, f64)> {
    let prediction = |line: &str| {
        let answer: serde_json::Value = serde_json::from_str(line).unwrap();
        let first = &answer["runs"][0]["predictions"][0];
        Some((first["token"].as_str()?.trim().to_owned(), first["probability"].as_f64()?))
    };
    answers.into_iter().filter_map(prediction).collect()
}

#[test]
fn an_edge_is_inserted_saved_compiled_and_taken_off() {
    let place = Place(tempfile::tempdir().unwrap());
    let before = predictions(place.ask("atlas", QUESTIONS).lines());
    assert_eq!(before[1].0, "Paris");

    let insert = "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Poseidon')";
    let statements = format!(
        "BEGIN PATCH 'sea.vlp'; {insert}; {QUESTIONS}; SAVE PATCH; REMOVE PATCH 'sea.vlp'; {QUESTIONS}"
    );
    let answers = predictions(place.ask("atlas", &statements).lines());
    let (edited, after) = answers.split_at(before.len());
    assert_eq!(after, before, "a patch that was removed leaves nothing");
    assert_ne!(edited[0].0, before[0].0);
    assert_eq!(edited[1].0, "Paris");

    place.larql(&["compile", "atlas", "--patch", "sea.vlp", "-o", "sea.vindex"]);
    let compiled = predictions(place.ask("sea.vindex", QUESTIONS).lines());
    for ((word, probability), (expected, as_patch)) in compiled.iter().zip(edited) {
        assert_eq!(word, expected);
        // Written features are rounded to f16.
        assert!((probability - as_patch).abs() < 0.01, "{word}: {probability} and {as_patch}");
    }
    let completed = place.larql(&["run", "sea.vindex", "-n", "8", "The capital of Atlantis is"]);
    assert!(completed.starts_with(" Poseidon"), "{completed}");
}
