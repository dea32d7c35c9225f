//! The model that ships with LARQL: no path, no download, its own place in the cache.

use std::process::Stdio;

use insta::assert_snapshot;
use predicates::str::contains;

use super::*;

/// `larql` with a cache folder of its own.
fn with_cache<'a>(cache: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = larql(arguments);
    command.env("XDG_CACHE_HOME", cache);
    command
}

#[test]
fn every_command_knows_it() {
    let cache = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| with_cache(cache.path(), arguments.iter().copied()).assert();
    assert_snapshot!(stdout(&run(&["list"]).success()), @"
    name   kind         level           size  parameters
    atlas  comes with LARQL
    ");
    assert_snapshot!(stdout(&run(&["lql", "SHOW MODELS"]).success()), @"
     name   model  bundled
    ───────────────────────
     atlas  atlas  yes
    ");
    assert!(std::fs::read_dir(cache.path()).unwrap().next().is_none(), "listing unpacks nothing");

    let completed = run(&["run", "atlas", "-n", "1", "The capital of France is"]).success().stderr("");
    assert_eq!(stdout(&completed), " Paris\n");
    run(&["chat", "atlas"])
        .failure()
        .stderr(contains("the model has no chat template; use `larql run MODEL PROMPT`"));
    let infer = "INFER 'The capital of Italy is' TOP 1";
    run(&["lql", "--use", "atlas", infer]).success().stdout(contains("1. ␣Rome"));
    run(&["lql", &format!("USE 'atlas'; {infer}")]).success().stdout(contains("1. ␣Rome"));
    run(&["lql", &format!("USE MODEL 'atlas'; {infer}")]).success().stdout(contains("1. ␣Rome"));
    with_cache(cache.path(), ["repl", "atlas"])
        .write_stdin(format!("{infer};\n"))
        .assert()
        .success()
        .stdout(contains("1. ␣Rome"));
    run(&["show", "atlas"])
        .success()
        .stdout(contains("  kind          vindex of level all\n  model         atlas\n"));
    run(&["verify", "atlas"]).success();
    run(&["list"]).success().stdout(contains("\natlas  vindex       all "));
    let json = stdout(&run(&["list", "--format", "json"]).success());
    let listed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["level"]), (&"atlas".into(), &"all".into()));

    let own = cache.path().join("own.vindex");
    run(&["extract", "atlas", "-o", text(&own), "--level", "browse"]).success();
    run(&["show", text(&own)])
        .success()
        .stdout(contains("  kind          vindex of level browse\n  model         atlas\n"));
}

#[test]
fn two_processes_at_once_both_have_it() {
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = std::process::Command::new(assert_cmd::cargo_bin!("larql"));
        command.args(["lql", "--use", "atlas", "INFER 'The capital of France is' TOP 1"]);
        command.env("XDG_CACHE_HOME", cache.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for process in [start(), start(), start()] {
        let output = process.wait_with_output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && answer.contains("1. ␣Paris"), "{answer}");
    }
}

#[test]
fn without_a_place_to_put_it_the_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = with_cache(&file, ["run", "atlas", "x"]).assert().code(1).stdout("");
    let message = stderr(&refused);
    assert!(message.contains("atlas comes with LARQL, but cannot be put into"), "{message}");
    assert!(message.contains(text(&file)) && message.contains("make the folder writable"), "{message}");
}

#[test]
fn names_of_the_hub_are_known_as_such() {
    assert_snapshot!(stderr(&larql(["run", "hf://owner/name", "x"]).assert().code(1).stdout("")), @"
     × hf://owner/name is not on this machine, and HF_HUB_OFFLINE is set
     help: unset HF_HUB_OFFLINE to download it, or give the path of a model that is here
    ");
}
