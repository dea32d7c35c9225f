//! From INSERT to a vindex that says it by itself, and back.

use super::*;

/// Prompts about two places, whose answers are shown with probabilities.
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

/// Writes a patch of one operation.
fn patch(folder: &Path, name: &str, operation: &str, checksum: &str) -> String {
    let path = folder.join(name);
    let text = format!(
        r#"{{"version": 1, "base_model": "llama", "base_checksum": {checksum}, "created_at": "",
            "operations": [{operation}]}}"#
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn bad_edits_are_told_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (all, browse) = (fixture("llama-f16-all.vindex"), fixture("llama-f32-browse.vindex"));
    let insert = |layer: usize, vector: &str| {
        format!(
            r#"{{"op": "insert", "layer": {layer}, "feature": 1, "relation": "r", "entity": "e", "target": "t",
                "confidence": 0.5, "gate_vector_b64": "{vector}"}}"#
        )
    };
    // Base64 of one f32 and of 256, which is the width of the model.
    let (one, nans, sound) =
        ("AACAPw==", "AADAfwAAwH8AAMB/".repeat(85) + "AADAfw==", "AAAA".repeat(341) + "AA==");
    let gate = insert(0, &sound);
    let down = gate.replace("gate_vector", "down_vector");
    let patches = [
        ("other", gate.clone(), r#""12ab""#, "does not fit"),
        (
            "short",
            insert(0, one),
            "null",
            "patch FILE, operation 1: gate vector: expected 256 values, found 1",
        ),
        (
            "layer",
            insert(9, &sound),
            "null",
            "patch FILE, operation 1: layer: expected a layer below 3, found 9",
        ),
        ("nan", insert(0, &nans), "null", "gate vector: expected finite numbers, found NaN at place 0"),
        (
            "garbage",
            insert(0, "%%%"),
            "null",
            "operation 1: `gate_vector_b64`: expected base64 of f32 values",
        ),
        ("torn", gate[..40].to_owned(), "null", "content: expected JSON, found"),
    ];
    let output = folder.path().join("compiled.vindex");
    let compile = |vindex: &Path, patch: &str| {
        let arguments = ["compile", text(vindex), "--patch", patch, "-o", text(&output)];
        stderr(&larql(arguments).assert().code(1).stdout(""))
    };
    for (name, operation, checksum, expected) in patches {
        let file = patch(folder.path(), name, &operation, checksum);
        let said = compile(&all, &file);
        assert!(said.contains(&expected.replace("FILE", &file)), "{name}: {said}");
        let apply = format!("APPLY PATCH '{file}'");
        let said = stderr(&larql(["lql", "--use", text(&all), &apply]).assert().code(1).stdout(""));
        let said = said.replace("\n  │ ", " ");
        assert!(said.contains(&expected.replace("FILE", &file)), "{name}: {said}");
        assert!(!output.exists());
    }
    // A browse vindex has gate rows, but no down projections.
    let said = compile(&browse, &patch(folder.path(), "down", &down, "null"));
    assert!(said.contains("of which feature 1 is edited, is not in"), "{said}");
    assert!(said.contains("extract the model at level inference"), "{said}");
    assert!(!output.exists());
    std::fs::create_dir(&output).unwrap();
    let said = compile(&all, &patch(folder.path(), "sound", &gate, "null"));
    assert!(said.contains("compiled.vindex exists; choose another name, or delete it first"), "{said}");
    assert_eq!(std::fs::read_dir(&output).unwrap().count(), 0);

    for (statement, expected) in [
        ("DELETE FROM EDGES WHERE relation = 'capital'", "no inserted edge matches"),
        ("COMPILE CURRENT INTO MODEL 'never'", "a model to write is not in"),
        ("INSERT INTO EDGES (entity, relation, target) VALUES ('a', 'b', 'c')", "which holds level browse"),
    ] {
        let said = stderr(&larql(["lql", "--use", text(&browse), statement]).assert().code(1).stdout(""));
        assert!(said.contains(expected), "{statement}: {said}");
    }
    for vindex in [&all, &browse] {
        larql(["verify", text(vindex)]).assert().success();
    }
}

#[test]
fn what_is_inserted_can_be_kept_to_ask_other_programs() {
    let place = Place(tempfile::tempdir().unwrap());
    let scores = place.larql(&["eval", "edits", "atlas", "--n", "2", "--keep", "kept", "--format", "json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&scores).unwrap()["efficacy"], 1.0);
    let questions = std::fs::read(place.0.path().join("kept/002.json")).unwrap();
    let questions: Vec<serde_json::Value> = serde_json::from_slice(&questions).unwrap();
    let usual = questions.iter().find(|question| question["paraphrase"] == false).unwrap();
    assert_eq!(usual["answered"], true);
    place.larql(&["compile", "atlas", "--patch", "kept/002.vlp", "-o", "second.gguf", "--to", "gguf"]);
    let said = place.larql(&["run", "second.gguf", "-n", "6", usual["prompt"].as_str().unwrap()]);
    assert!(said.trim_start().starts_with(usual["edge"]["target"].as_str().unwrap()), "{said}");
}

#[test]
fn an_edge_beside_the_weights_answers_and_is_told_of() {
    let place = Place(tempfile::tempdir().unwrap());
    let insert = "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'New Poseidonis') MODE KNN";
    place.ask("atlas", &format!("{insert}; COMPILE CURRENT INTO VINDEX 'sea.vindex' SNAPSHOT"));
    let mut command = larql(["run", "sea.vindex", "-n", "8", "The capital of Atlantis is"]);
    let said = command.current_dir(place.0.path()).assert().success();
    assert!(stdout(&said).starts_with(" New Poseidonis"));
    said.stderr(predicates::str::starts_with(
        "inserted edge: capital of Atlantis → New Poseidonis (L2, cosine 1.00, answers from 0.",
    ));
}
