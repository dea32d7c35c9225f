//! What is left when `extract` is killed.

use std::process::{Command as Process, Stdio};
use std::time::Duration;

use predicates::prelude::*;

use super::*;

/// `larql extract` of a model to `NAME.vindex` in `folder`, not yet started.
fn extraction(model: &Path, folder: &Path, name: &str) -> (Process, PathBuf) {
    let target = folder.join(format!("{name}.vindex"));
    let mut command = Process::new(assert_cmd::cargo_bin!("larql"));
    command.args(["extract", text(model), "-o", text(&target), "--resume"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    (command, target)
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_killed_extraction_never_opens_and_can_go_on() {
    let Some(model) = larql_test_data::real_model(larql_test_data::SMOLLM2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut whole, expected) = extraction(&model, folder.path(), "whole");
    assert!(whole.status().unwrap().success());

    let (mut command, target) = extraction(&model, folder.path(), "killed");
    let partial = folder.path().join("killed.vindex.partial");
    let mut files = 0;
    for _ in 0..3 {
        let mut child = command.spawn().unwrap();
        // Killed as soon as there is a file more than last time; somewhere within it, that is.
        while names_in(&partial).len() <= files && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        files = names_in(&partial).len();
        assert!(!target.exists());
        for path in [&target, &partial] {
            larql(["show", text(path)]).assert().code(1).stdout("");
            larql(["lql", "--use", text(path), "STATS"]).assert().code(1).stdout("");
        }
    }
    assert!(command.status().unwrap().success());
    assert!(!partial.exists());

    larql(["verify", text(&target)]).assert().success();
    assert_eq!(names_in(&target), names_in(&expected));
    for name in names_in(&expected).iter().filter(|name| *name != "index.json") {
        let bytes = |vindex: &Path| std::fs::read(vindex.join(name)).unwrap();
        assert!(bytes(&target) == bytes(&expected), "{name} differs");
    }
}

/// The shell's limit on the size of files stands for a disk that is full: writing fails half-way through a file.
#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_leaves_nothing_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (larql, target) = (assert_cmd::cargo_bin!("larql"), folder.path().join("x.vindex"));
    let checkpoint = fixture("llama-checkpoint");
    let extract = ["extract", text(&checkpoint), "-o", text(&target), "--resume"];
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
    Command::new("sh")
        .args(["-c", limited, "sh", text(larql)])
        .args(extract)
        .assert()
        .code(1)
        .stdout("")
        .stderr(
            predicates::str::contains("x.vindex.partial").and(predicates::str::contains("File too large")),
        );
    assert!(!target.exists());
    super::larql(["show", text(&folder.path().join("x.vindex.partial"))]).assert().code(1);

    super::larql(extract).assert().success();
    super::larql(["verify", text(&target)]).assert().success();
}
