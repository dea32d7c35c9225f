//! Files after `extract` or SAVE PATCH was killed, or the disk was full.

use std::process::{Command as Process, Stdio};
use std::time::Duration;

use larql_vindex::{EditedFeature, FeatureOperation, FeatureStore, Operation, Patch, Vindex};
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

#[test]
fn a_killed_extraction_never_opens_and_can_go_on() {
    let Some(model) = larql_testing::real_model(larql_testing::SMOLLM2) else { return };
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

/// A patch of some insertions for the vindex of the fixtures, with vectors.
fn large_patch(insertions: usize) -> Patch {
    let vindex = Vindex::open(&fixture("llama-f16-all.vindex")).unwrap();
    let vector = |seed: usize| (0..vindex.hidden_size()).map(|i| ((i * 7 + seed) % 13) as f32).collect();
    let mut patch = Patch::new(&vindex);
    patch.extend((0..insertions).map(|number| {
        let edited = EditedFeature { gate: Some(vector(number)), ..EditedFeature::default() };
        Operation::Insert(FeatureOperation { layer: 1, feature: number, edited, token_text: None })
    }));
    patch
}

#[test]
fn a_killed_save_leaves_the_old_patch_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let [target, content] = ["facts.vlp", "content.vlp"].map(|name| folder.path().join(name));
    let (old, new) = (large_patch(200), large_patch(500));
    new.save(&content).unwrap();
    let save = format!("SAVE PATCH '{}';", text(&target));
    let statements = format!("BEGIN PATCH 'new.vlp'; MERGE '{}'; {}", text(&content), save.repeat(10_000));
    let script = folder.path().join("script.lql");
    std::fs::write(&script, statements).unwrap();
    let vindex = fixture("llama-f16-all.vindex");
    let session = ["lql", "--use", text(&vindex), "--file", text(&script)];
    let (mut old_ones, mut new_ones) = (0, 0);
    let is_whole = |old_ones: &mut usize, new_ones: &mut usize| {
        let operations = Patch::read(&target).unwrap().operations().len();
        *old_ones += usize::from(operations == old.operations().len());
        *new_ones += usize::from(operations == new.operations().len());
        assert!(operations == old.operations().len() || operations == new.operations().len(), "{operations}");
    };
    for round in 0..12 {
        old.save(&target).unwrap();
        let before = std::fs::metadata(&target).unwrap().len();
        let mut command = Process::new(assert_cmd::cargo_bin!("larql"));
        command.args(session).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Killed while the first save is about to begin, or somewhere within one of those that follow.
        while round % 3 != 0 && std::fs::metadata(&target).unwrap().len() == before {
            assert!(child.try_wait().unwrap().is_none(), "saving takes longer than this test");
            is_whole(&mut old_ones, &mut new_ones);
        }
        let temporary = folder.path().join("facts.vlp.tmp");
        while round % 3 != 0 && std::fs::metadata(&temporary).is_ok_and(|file| file.len() < round * 20_000) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        is_whole(&mut old_ones, &mut new_ones);
    }
    assert!(old_ones > 0 && new_ones > 0, "{old_ones} old, {new_ones} new");
}

/// As above, the shell's limit on the size of files stands for a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_patch_and_no_compiled_vindex() {
    let folder = tempfile::tempdir().unwrap();
    let [target, content, compiled] =
        ["facts.vlp", "content.vlp", "compiled.vindex"].map(|name| folder.path().join(name));
    let old = large_patch(2);
    old.save(&target).unwrap();
    large_patch(200).save(&content).unwrap();
    let (larql, vindex) = (assert_cmd::cargo_bin!("larql"), fixture("llama-f16-all.vindex"));
    let limited = |arguments: &[&str], names: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh", text(larql)]).args(arguments);
        let said = stderr(&command.assert().code(1));
        assert!(said.contains(names) && said.contains("File too large"), "{said}");
    };
    let statements =
        format!("BEGIN PATCH 'new.vlp'; MERGE '{}'; SAVE PATCH '{}'", text(&content), text(&target));
    limited(&["lql", "--use", text(&vindex), &statements], "facts.vlp");
    assert_eq!(Patch::read(&target).unwrap(), old);

    limited(&["compile", text(&vindex), "--patch", text(&content), "-o", text(&compiled)], "compiled.vindex");
    let left: Vec<String> = names_in(folder.path());
    assert!(left.iter().all(|name| !name.starts_with("compiled")), "{left:?}");
    super::larql(["verify", text(&vindex)]).assert().success();
}
