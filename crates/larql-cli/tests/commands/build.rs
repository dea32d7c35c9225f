//! `larql build` and `larql history`.

use std::collections::BTreeMap;

use insta::assert_snapshot;

use super::*;

const VINDEXFILE: &str = r#"FROM atlas
PATCH sea.vlp
INSERT ("Atlantis", "capital", "Poseidon")   # by a song
DELETE entity = "France" AND relation = "currency"
LABELS labels.json
STAGE small
EXPOSE browse
STAGE large
EXPOSE browse inference compile
"#;

/// A patch that deletes one feature of any vindex.
const PATCH: &str = r#"{"version": 1, "base_model": "atlas", "base_checksum": null, "created_at": "",
    "operations": [{"op": "delete", "layer": 1, "feature": 3, "reason": null}]}"#;

/// A folder with a Vindexfile, and a cache of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn with(vindexfile: &str) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for (name, text) in
            [("Vindexfile", vindexfile), ("sea.vlp", PATCH), ("labels.json", r#"{"1:5": "ocean"}"#)]
        {
            std::fs::write(place.path(name), text).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn larql(&self, arguments: &[&str]) -> Assert {
        let mut command = larql(arguments.iter().copied());
        command.env("XDG_CACHE_HOME", self.path("cache")).current_dir(self.0.path()).assert()
    }

    /// Files in the folder, but for the cache.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "cache").collect();
        names.sort();
        names
    }
}

/// Every file of a vindex by name.
fn content(vindex: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(vindex).unwrap().map(Result::unwrap);
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn the_same_instructions_give_the_same_bytes_from_a_cold_cache_and_a_warm_one() {
    let (one, other) = (Place::with(VINDEXFILE), Place::with(VINDEXFILE));
    let built = stderr(&one.larql(&["build", "--stage", "large"]).success().stdout(""));
    assert_eq!(built.matches("(cached)").count(), 0);
    other.larql(&["build", ".", "--stage", "large", "-o", "b.vindex"]).success();
    let again = stderr(&other.larql(&["build", "--stage", "large", "-o", "c.vindex"]).success());
    assert_snapshot!(again.rsplit_once("c.vindex").unwrap().0, @r#"
    [1/6] FROM atlas
    [2/6] PATCH sea.vlp
    [3/6] INSERT ("Atlantis", "capital", "Poseidon") (cached)
    [4/6] DELETE entity = "France" AND relation = "currency" (cached)
    [5/6] LABELS labels.json
    [6/6] EXPOSE browse inference compile
    "#);
    let first = content(&one.path("large.vindex"));
    for vindex in ["b.vindex", "c.vindex"] {
        let second = content(&other.path(vindex));
        assert!(first.keys().eq(second.keys()));
        first.iter().for_each(|(name, bytes)| assert!(second[name] == *bytes, "{vindex}: {name} differs"));
    }
    one.larql(&["verify", "large.vindex"]).success();

    let question = "INFER 'The capital of Atlantis is' TOP 1";
    let answer = stdout(&one.larql(&["lql", "--use", "large.vindex", question]).success());
    assert!(answer.contains("1. ␣P"), "{answer}");
    let history = stdout(&one.larql(&["history", "large.vindex"]).success().stderr(""));
    assert!(history.lines().all(|line| line.len() > 12));
    let changed: Vec<&str> = history.lines().map(|line| line[12..].trim()).collect();
    assert_snapshot!(changed.join("\n"), @r#"
    features   edges       bytes  instruction
    3072       0      9.8 MB  FROM atlas
    1       0         0 B  PATCH sea.vlp
    4       1     12.3 kB  INSERT ("Atlantis", "capital", "Poseidon")
    1       1      3.1 kB  DELETE entity = "France" AND relation = "currency"
    1       0         0 B  LABELS labels.json
    0       0         0 B  EXPOSE browse inference compile
    "#);
}

#[test]
fn a_stage_exposes_no_more_than_it_says_and_builds_go_on_from_builds() {
    let place = Place::with(VINDEXFILE);
    place.larql(&["build", "--stage", "small"]).success();
    let shown = stdout(&place.larql(&["show", "small.vindex"]).success());
    assert!(shown.contains("vindex of level browse") && !shown.contains("weights.bin"), "{shown}");
    let refused = place.larql(&["lql", "--use", "small.vindex", "INFER 'The capital of France is'"]);
    refused.code(1).stdout("");
    let labelled = ["lql", "--use", "small.vindex", "SHOW FEATURES 1 WHERE label = 'ocean'"];
    assert!(stdout(&place.larql(&labelled).success()).contains("ocean"));

    std::fs::write(place.path("Vindexfile"), "FROM small.vindex\nDELETE FEATURES layer = 0 AND feature = 1")
        .unwrap();
    place.larql(&["build", "-o", "next.vindex"]).success();
    let history = stdout(&place.larql(&["history", "--format", "json", "next.vindex"]).success());
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let instructions = history["layers"].as_array().unwrap().iter();
    let instructions: Vec<_> = instructions.filter_map(|layer| layer["instruction"].as_str()).collect();
    assert_eq!(instructions.len(), 8);
    assert_eq!(
        &instructions[5..],
        ["EXPOSE browse", "FROM small.vindex", "DELETE FEATURES layer = 0 AND feature = 1"]
    );
}

#[test]
fn a_model_for_other_programs_is_built_where_that_is_exposed() {
    let place = Place::with(VINDEXFILE);
    let refused = stderr(&place.larql(&["build", "--stage", "small", "--compile", "gguf"]).code(1));
    assert!(refused.contains("EXPOSE does not name compile"), "{refused}");
    place.larql(&["build", "--stage", "large", "--compile", "gguf"]).success();
    assert_eq!(&std::fs::read(place.path("large.gguf")).unwrap()[..4], b"GGUF");
    let completed = stdout(&place.larql(&["run", "large.gguf", "-n", "6", "The capital of Atlantis is"]));
    assert!(completed.starts_with(" Poseidon"), "{completed}");
}

#[test]
fn what_cannot_be_built_is_told_and_leaves_nothing() {
    let cases = [
        ("FROM atlas\nINSRET x", &[][..], "STAGE (did you mean INSERT?), found \"INSRET\""),
        ("FROM hf://owner/name", &[], "line 1, FROM hf://owner/name: hf://owner/name is not on this machine"),
        (
            "FROM atlas\nPATCH https://example.com/x.vlp",
            &[],
            "line 2, PATCH https://example.com/x.vlp: https://example.com/x.vlp is not on this machine",
        ),
        ("FROM atlas\nLABELS hf://owner/labels", &[], "hf://owner/labels is not on this machine"),
        ("FROM atlas", &["--publish", "hf://owner/name"], "larql publish VINDEX hf://owner/name"),
        ("FROM no-such", &[], "line 1, FROM no-such: there is no file or model named no-such"),
        ("FROM atlas\nPATCH no-such.vlp", &[], "no-such.vlp cannot be read: "),
        ("FROM atlas\nPATCH labels.json", &[], "labels.json: patch: `version`"),
        ("FROM atlas\nLABELS sea.vlp", &[], "sea.vlp: content: expected relations by feature"),
        ("FROM atlas\nSTAGE a", &["--stage", "b"], "there is no stage b; the Vindexfile has a"),
        (
            "FROM atlas\nINSERT (\"a\", \"b\", \"c\") AT LAYER 77",
            &[],
            "AT LAYER 77: layer 77 does not exist: the model has layers 0 to 3",
        ),
        ("FROM atlas", &["-o", "sea.vlp"], "sea.vlp exists"),
        ("FROM atlas", &["-o", "sea.vlp", "--force"], "sea.vlp is neither a vindex nor a model"),
    ];
    for (vindexfile, options, expected) in cases {
        let place = Place::with(vindexfile);
        let arguments: Vec<&str> = std::iter::once("build").chain(options.iter().copied()).collect();
        let message = stderr(&place.larql(&arguments).code(1).stdout(""));
        assert!(message.contains(expected), "{vindexfile}: {message}");
        assert_eq!(place.names(), ["Vindexfile", "labels.json", "sea.vlp"], "{vindexfile}");
    }
    let place = Place::with("");
    let message = stderr(&place.larql(&["build", "no-such-folder"]).code(1).stdout(""));
    assert!(message.contains("no-such-folder/Vindexfile cannot be read"), "{message}");
}

#[test]
fn a_build_of_a_model_file_is_repeated_by_force() {
    let place = Place::with("FROM model.gguf\nINSERT (\"Atlantis\", \"capital\", \"Poseidon\")\n");
    place.larql(&["compile", "atlas", "-o", "model.gguf"]).success();
    assert_eq!(&std::fs::read(place.path("model.gguf")).unwrap()[..4], b"GGUF");
    place.larql(&["build", "-o", "one.vindex"]).success();
    let before = content(&place.path("one.vindex"));
    let refused = stderr(&place.larql(&["build", "-o", "one.vindex"]).code(1));
    assert!(refused.contains("one.vindex exists") && refused.contains("--force"), "{refused}");
    place.larql(&["build", "-o", "one.vindex", "--force"]).success();
    assert!(content(&place.path("one.vindex")) == before, "the same again");
    // A build that fails leaves the earlier one.
    std::fs::write(place.path("Vindexfile"), "FROM model.gguf\nPATCH none.vlp\n").unwrap();
    place.larql(&["build", "-o", "one.vindex", "--force"]).code(1);
    assert!(content(&place.path("one.vindex")) == before, "as it was");
    assert_eq!(place.names(), ["Vindexfile", "labels.json", "model.gguf", "one.vindex", "sea.vlp"]);
}

#[test]
fn a_vindex_that_was_not_built_has_no_history() {
    let shown = stdout(&larql(["history", text(&fixture("llama-f16-all.vindex"))]).assert().success());
    assert!(shown.ends_with("was not built by a Vindexfile\n"), "{shown}");
    larql(["history", "no-such.vindex"]).assert().code(1).stdout("");
}
