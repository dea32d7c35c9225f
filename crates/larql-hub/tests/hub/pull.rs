//! Downloads: what arrives, where it lies, and what is not moved twice.

use std::sync::Mutex;

use larql_core::progress::{CancelToken, NoProgress, Progress, Stage, Step};
use larql_hub::{HubError, Wanted};
use larql_hub_testing::{Fault, FaultKind};

use super::*;

/// A model in a few files.
fn checkpoint() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("README.md", b"# A model".to_vec()),
        ("config.json", b"{\"a\": 1}".to_vec()),
        ("model-00001-of-00002.safetensors", bytes(300_000, 1)),
        ("model-00002-of-00002.safetensors", bytes(200_000, 2)),
        ("tokenizer.json", b"{}".to_vec()),
    ]
}

fn put(server: &TestHub, repo: &str, files: &[(&str, Vec<u8>)]) {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (*path, &bytes[..])).collect();
    server.put(repo, &files);
}

#[test]
fn a_model_arrives_and_is_not_asked_for_again() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    put(&server, "alice/model", &checkpoint());
    let hub = client(&server, cache.path());
    let pulled = pull(&hub, "alice/model").unwrap();
    let expected: Vec<_> =
        checkpoint().into_iter().skip(1).map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    assert_eq!(files(&pulled.path), expected);
    assert_eq!((pulled.files, pulled.moved), (4, pulled.bytes));
    check_tokens(&server.log());

    server.clear_log();
    let again = pull(&hub, "alice/model").unwrap();
    assert_eq!((again.moved, again.path), (0, pulled.path.clone()));
    // One question: which commit it is.
    assert_eq!(server.log().len(), 1);
    assert_eq!(hub.cached(&name("alice/model")), Some(pulled.path.clone()));

    // Of a new version only the file that differs moves.
    server.put("alice/model", &[("model-00002-of-00002.safetensors", &bytes(210_000, 3))]);
    let newer = pull(&hub, "alice/model").unwrap();
    assert_eq!(newer.moved, 210_000);
    assert_ne!(newer.path, pulled.path);
    // The old one can still be named.
    let commit = pulled.commit;
    assert_eq!(hub.cached(&name(&format!("hf://alice/model@{commit}"))), Some(pulled.path));
}

#[test]
fn names_with_everything_in_them_arrive() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put("alice/odd", &[("sub dir/ü #1.txt", b"x"), ("empty.txt", b""), ("a/b/c%20d.bin", b"deep")]);
    let hub = client(&server, cache.path());
    let pulled = hub.pull(&name("alice/odd"), Wanted::Everything, None, &NoProgress).unwrap();
    let names: Vec<String> = files(&pulled.path).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [".gitattributes", "a/b/c%20d.bin", "empty.txt", "sub dir/ü #1.txt"]);
}

#[test]
fn data_sets_of_earlier_releases_are_found_after_models() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put_kind("datasets", "alice/old", &[("model.gguf", b"GGUF"), ("README.md", b"x")]);
    let hub = client(&server, cache.path());
    let pulled = pull(&hub, "alice/old").unwrap();
    assert!(pulled.path.ends_with("model.gguf"));
    assert!(cache.path().join("datasets--alice--old").is_dir());
    assert_eq!(hub.cached(&name("alice/old")), Some(pulled.path));
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put("alice/model", &[("model.gguf", &bytes(500_000, 4))]);
    // Every connection breaks, more often than anything is repeated.
    server.fault(Fault::of_storage("GET", FaultKind::Cut(60_000)).times(8));
    let hub = client(&server, cache.path());
    let pulled = pull(&hub, "alice/model").unwrap();
    assert_eq!(std::fs::read(pulled.path).unwrap(), bytes(500_000, 4));
    assert_eq!(sent(&server.log()), 500_000);
    let ranges: Vec<_> = server.log().into_iter().filter_map(|entry| entry.range).collect();
    assert!(ranges.contains(&"bytes=60000-".to_owned()) && ranges.contains(&"bytes=480000-".to_owned()));
    assert_eq!(server.clear_faults(), 0);
}

#[test]
fn a_cancelled_download_keeps_what_it_has() {
    struct Stopping(CancelToken);
    impl Progress for Stopping {
        fn report(&self, step: Step<'_>) {
            if step.done > 2_000_000 {
                self.0.cancel();
            }
        }
        fn cancel_token(&self) -> &CancelToken {
            &self.0
        }
    }
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    let content = bytes(9_000_000, 5);
    server.put("alice/model", &[("model.gguf", &content)]);
    let hub = client(&server, cache.path());
    let stopping = Stopping(CancelToken::new());
    let stopped = hub.pull(&name("alice/model"), Wanted::Model, None, &stopping);
    assert!(matches!(stopped, Err(HubError::Cancelled)));
    assert_eq!(hub.cached(&name("alice/model")), None);
    let pulled = pull(&hub, "alice/model").unwrap();
    assert!((1..7_000_001).contains(&pulled.moved), "{}", pulled.moved);
    assert_eq!(std::fs::read(pulled.path).unwrap(), content);
}

#[test]
fn what_an_earlier_attempt_left_damaged_is_fetched_anew() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    let content = bytes(100_000, 6);
    server.put("alice/model", &[("model.gguf", &content)]);
    let hub = client(&server, cache.path());
    let etag = pull(&hub, "alice/model").unwrap().path.canonicalize().unwrap();
    let partial = etag.with_file_name(format!("{}.larql.incomplete", etag.file_name().unwrap().display()));
    for left in [bytes(50_000, 7), bytes(100_000, 8), bytes(100_001, 9), content[..50_000].to_vec()] {
        std::fs::remove_file(&etag).unwrap();
        std::fs::write(&partial, &left).unwrap();
        let pulled = pull(&hub, "alice/model").unwrap();
        assert_eq!(std::fs::read(&pulled.path).unwrap(), content);
        assert!(!partial.exists());
    }
}

#[test]
fn several_that_pull_one_model_move_it_once() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    put(&server, "alice/model", &checkpoint());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&client(&server, cache.path()), "alice/model").unwrap());
        }
    });
    assert_eq!(sent(&server.log()), 500_000);
}

#[test]
fn progress_adds_up_to_what_there_is() {
    #[derive(Default)]
    struct Recorded(Mutex<Vec<(u64, u64)>>, CancelToken);
    impl Progress for Recorded {
        fn report(&self, step: Step<'_>) {
            assert_eq!(step.stage, Stage::Download);
            self.0.lock().unwrap().push((step.done, step.total));
        }
        fn cancel_token(&self) -> &CancelToken {
            &self.1
        }
    }
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    put(&server, "alice/model", &checkpoint());
    server.fault(Fault::of_storage("GET", FaultKind::Cut(10_000)).times(2));
    server.fault(Fault::of_storage("GET", FaultKind::IgnoreRange));
    let hub = client(&server, cache.path());
    let recorded = Recorded::default();
    let pulled = hub.pull(&name("alice/model"), Wanted::Model, None, &recorded).unwrap();
    let steps = recorded.0.into_inner().unwrap();
    assert!(steps.iter().all(|(done, total)| done <= total && *total == pulled.bytes));
    assert_eq!(steps.iter().map(|(done, _)| *done).max(), Some(pulled.bytes));
}

#[test]
fn a_folder_of_ones_own_gets_files_and_no_links() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    put(&server, "alice/model", &checkpoint());
    let hub = client(&server, &folder.path().join("cache"));
    let target = folder.path().join("target");
    // A file of the same length that is another one.
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("config.json"), b"{\"a\": 2}").unwrap();
    let pull = || hub.pull(&name("alice/model"), Wanted::Model, Some(&target), &NoProgress).unwrap();
    let pulled = pull();
    assert_eq!(pulled.path, target);
    let expected: Vec<_> =
        checkpoint().into_iter().skip(1).map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    assert_eq!(files(&target), expected);
    assert_eq!(pull().moved, 0);
    assert!(!target.join("config.json").is_symlink() && !folder.path().join("cache").exists());
    let note =
        std::fs::read_to_string(target.join(".cache/huggingface/download/config.json.metadata")).unwrap();
    assert_eq!(note.lines().count(), 3);
}

#[test]
fn offline_nothing_is_asked() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    put(&server, "alice/model", &checkpoint());
    let path = pull(&client(&server, cache.path()), "alice/model").unwrap().path;
    server.clear_log();
    let hub = Hub::new(HubSettings { offline: true, ..settings(&server, cache.path()) }).unwrap();
    assert_eq!(pull(&hub, "alice/model").unwrap().path, path);
    for absent in ["alice/other", "hf://alice/model@v2"] {
        assert!(matches!(pull(&hub, absent), Err(HubError::Offline { .. })), "{absent}");
    }
    // A snapshot that lacks a file is not whole.
    std::fs::remove_file(path.join("tokenizer.json")).unwrap();
    assert!(matches!(pull(&hub, "alice/model"), Err(HubError::Offline { .. })));
    assert_eq!(server.log(), []);
}

#[test]
fn a_branch_that_moves_meanwhile_does_not_mix_versions() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    put(&server, "alice/model", &checkpoint());
    let newer = FaultKind::Move("config.json", b"{\"a\": 2}".to_vec());
    server.fault(Fault::of_hub("GET", "/tree/", newer));
    let pulled = pull(&client(&server, cache.path()), "alice/model").unwrap();
    assert_eq!(std::fs::read(pulled.path.join("config.json")).unwrap(), b"{\"a\": 1}");
    assert_eq!(server.clear_faults(), 0);
}
