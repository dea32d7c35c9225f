//! Models by name: from the hub, its cache, links, and addresses.

use std::sync::Arc;

use larql_core::progress::NoProgress;
use larql_hub::{HubError, Library, LibraryError, ModelResolver};
use larql_hub_testing::{Fault, FaultKind};

use super::*;

fn library(server: &TestHub, folder: &Path) -> (Library, Arc<Hub>) {
    let hub = Arc::new(client(server, &folder.join("hub")));
    (Library::new(folder.join("models")).with_hub(Arc::clone(&hub), Arc::new(NoProgress)), hub)
}

#[test]
fn names_of_the_hub_are_downloaded_once_and_then_found() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put("alice/model", &[("model.gguf", b"GGUF")]);
    let (library, hub) = library(&server, folder.path());
    let path = library.find("alice/model".as_ref()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"GGUF");
    server.clear_log();
    for name in ["alice/model", "hf://alice/model", "hf://alice/model/model.gguf", "model"] {
        assert_eq!(library.find(name.as_ref()).unwrap(), path, "{name}");
    }
    assert_eq!(server.log(), []);
    assert_eq!(hub.origin(&path).unwrap().0.id.as_str(), "alice/model");

    // Those who may not download find what is there.
    let shut = Library::new(folder.path().join("models")).with_cache_of(hub);
    assert_eq!(shut.find("alice/model".as_ref()).unwrap(), path);
    assert!(matches!(shut.find("alice/other".as_ref()), Err(LibraryError::NoHub { .. })));
    assert!(matches!(shut.find("https://a.example/x.gguf".as_ref()), Err(LibraryError::NoHub { .. })));
    assert_eq!(server.log(), []);
}

#[test]
fn a_short_name_that_two_owners_have_is_ambiguous() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let (library, _) = library(&server, folder.path());
    for repo in ["alice/model", "bob/model"] {
        server.put(repo, &[("model.gguf", b"GGUF")]);
        library.find(repo.as_ref()).unwrap();
    }
    let error = library.find("model".as_ref()).unwrap_err();
    assert_eq!(error.to_string(), "model is the name of several models: alice/model, bob/model");
}

#[test]
fn links_have_names_and_only_the_link_is_removed() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let (library, _) = library(&server, folder.path());
    let model = folder.path().join("big.gguf");
    std::fs::write(&model, "GGUF").unwrap();
    library.link(&model, "small", false).unwrap();
    assert_eq!(
        library.find("small".as_ref()).unwrap().canonicalize().unwrap(),
        model.canonicalize().unwrap()
    );
    assert!(matches!(library.link(&model, "small", false), Err(LibraryError::BadName { .. })));
    library.link(&model, "small", true).unwrap();
    for bad in ["", "../x", ".x", "a/b"] {
        assert!(matches!(library.link(&model, bad, false), Err(LibraryError::BadName { .. })), "{bad}");
    }
    let found = library.removable("small").unwrap();
    library.remove("small", &found).unwrap();
    assert!(model.exists() && library.find("small".as_ref()).is_err());
}

#[test]
fn only_names_are_removed_and_never_paths() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put("alice/model", &[("model.gguf", b"GGUF")]);
    let (library, _) = library(&server, folder.path());
    library.find("alice/model".as_ref()).unwrap();
    let outside = folder.path().join("outside.vindex");
    std::fs::create_dir(&outside).unwrap();
    for path in [outside.to_str().unwrap(), "../outside", "..", ".", "", "alice/other"] {
        assert!(library.removable(path).is_err(), "{path}");
    }
    server.clear_log();
    let found = library.removable("alice/model").unwrap();
    assert_eq!(found.bytes, 4);
    library.remove("alice/model", &found).unwrap();
    assert!(!folder.path().join("hub/models--alice--model").exists() && outside.exists());
    assert_eq!(server.log(), []);
}

#[test]
fn files_at_addresses_are_fetched_checked_and_kept() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put("alice/files", &[("edits.vlp.bin", b"{\"patch\": 1}")]);
    let (library, _) = library(&server, folder.path());
    let address = format!("{}/alice/files/resolve/main/edits.vlp.bin", server.endpoint());
    let path = library.find_file(Path::new("/elsewhere"), &address).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"{\"patch\": 1}");
    let digest = "8b0f2b2d7ee3f6d4b3b8a4a3b5fdd9aa8f3dd59c9a6ad6e9b90a9fdc51b7f0b1";
    let wrong = library.find_file(Path::new(""), &format!("{address}@sha256:{digest}")).unwrap_err();
    assert!(
        matches!(&wrong, LibraryError::Hub(error) if matches!(**error, HubError::WrongBytes { .. })),
        "{wrong}"
    );
    let LibraryError::Hub(wrong) = wrong else { panic!("{wrong}") };
    let HubError::WrongBytes { found, .. } = *wrong else { panic!("{wrong}") };
    let pinned = format!("{address}@sha256:{found}");
    let path = library.find_file(Path::new(""), &pinned).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"{\"patch\": 1}");
    // What is pinned is not asked for again.
    server.clear_log();
    assert_eq!(library.find_file(Path::new(""), &pinned).unwrap(), path);
    assert_eq!(server.log(), []);
    // A plain name is a path.
    assert_eq!(library.find_file(Path::new("/a"), "b.vlp").unwrap(), Path::new("/a/b.vlp"));
}

/// The address of a file of a repository at the hub, with a digest.
fn pinned(server: &TestHub, path: &str, content: &[u8]) -> String {
    use sha2::Digest;
    let digest: String = sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{path}@sha256:{digest}", server.endpoint())
}

#[test]
fn a_pinned_file_goes_on_where_it_stopped() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let content = bytes(500_000, 21);
    server.put("alice/files", &[("model.bin", &content)]);
    let (library, _) = library(&server, folder.path());
    let address = pinned(&server, "alice/files/resolve/main/model.bin", &content);
    // Within one attempt: every connection breaks, more often than anything is repeated.
    server.fault(Fault::of_storage("GET", FaultKind::Cut(60_000)).times(8));
    let path = library.find_file(Path::new(""), &address).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!(sent(&server.log()), 500_000);

    // In a later attempt: what a killed process left, damaged or whole, or a server that ignores ranges.
    let partial = path.with_file_name("incomplete");
    let left = [
        (content[..200_000].to_vec(), None, 300_000),
        (content.clone(), None, 0),
        (content[..200_000].to_vec(), Some(FaultKind::IgnoreRange), 500_000),
        (content[..200_000].to_vec(), Some(FaultKind::WrongRange), 500_000),
        (bytes(200_000, 22), None, 800_000),
        (bytes(600_000, 23), None, 500_000),
    ];
    for (row, (before, fault, moved)) in left.into_iter().enumerate() {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&partial, before).unwrap();
        server.clear_log();
        let is_wrong = fault == Some(FaultKind::WrongRange);
        fault.into_iter().for_each(|kind| server.fault(Fault::of_storage("GET", kind)));
        assert_eq!(library.find_file(Path::new(""), &address).unwrap(), path, "{row}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "{row}");
        // Of a wrong range as much is sent as the client takes before it hangs up.
        let of_wrong_range = if is_wrong { 300_000 } else { 0 };
        assert!((moved..=moved + of_wrong_range).contains(&sent(&server.log())), "{row}");
        assert!(!partial.exists(), "{row}");
    }
    check_tokens(&server.log());
}

#[test]
fn a_pinned_file_that_cannot_be_had_is_kept_as_far_as_it_came() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let content = bytes(500_000, 24);
    server.put("alice/files", &[("model.bin", &content)]);
    let (library, _) = library(&server, folder.path());
    let address = pinned(&server, "alice/files/resolve/main/model.bin", &content);
    server.fault(Fault::of_storage("GET", FaultKind::Cut(60_000)));
    server.fault(Fault::of_storage("GET", FaultKind::Cut(0)).times(99));
    let error = library.find_file(Path::new(""), &address).unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
    server.clear_faults();
    server.clear_log();
    library.find_file(Path::new(""), &address).unwrap();
    assert_eq!(sent(&server.log()), 440_000);

    // Without a digest what came before cannot be trusted; within an attempt the ETag tells.
    let open = address.split('@').next().unwrap().replace("model.bin", "other.bin");
    server.put("alice/files", &[("other.bin", &content)]);
    server.clear_log();
    server.fault(Fault::of_storage("GET", FaultKind::Cut(60_000)));
    let path = library.find_file(Path::new(""), &open).unwrap();
    assert_eq!((std::fs::read(&path).unwrap(), sent(&server.log())), (content.clone(), 500_000));
    server.clear_log();
    assert_eq!(library.find_file(Path::new(""), &open).unwrap(), path);
    assert_eq!(sent(&server.log()), 0, "it has not changed");
}

#[test]
fn a_model_that_is_being_downloaded_is_not_removed() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let content = bytes(300_000, 25);
    server.put("alice/model", &[("config.json", b"{}"), ("model.safetensors", &content)]);
    let (library, hub) = library(&server, folder.path());
    server.fault(Fault::of_storage("GET", FaultKind::Stall(100_000)));
    let hub_of_thread = Hub::new(HubSettings {
        stall: Duration::from_secs(3),
        ..settings(&server, &folder.path().join("hub"))
    });
    std::thread::scope(|scope| {
        let pulling = scope.spawn(|| pull(&hub_of_thread.unwrap(), "alice/model").unwrap());
        while server.log().iter().all(|entry| entry.server != "storage") {
            std::thread::sleep(Duration::from_millis(5));
        }
        let found = library.removable("alice/model").unwrap();
        let error = library.remove("alice/model", &found).unwrap_err();
        assert_eq!(
            error.to_string(),
            "alice/model is being downloaded, or removed, by another process",
            "{error}"
        );
        let path = pulling.join().unwrap().path;
        assert_eq!(std::fs::read(path.join("model.safetensors")).unwrap(), content);
    });
    let found = library.removable("alice/model").unwrap();
    library.remove("alice/model", &found).unwrap();
    assert_eq!(hub.cached(&name("alice/model")), None);
}

#[test]
fn downloads_and_removals_at_the_same_time_do_not_fight() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let weights = bytes(200_000, 26);
    server.put("alice/model", &[("config.json", b"{}"), ("model.safetensors", &weights)]);
    let (library, hub) = library(&server, folder.path());
    let cache = folder.path().join("hub");
    let removals = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let hub = client(&server, &cache);
                    (0..20).for_each(|_| drop(pull(&hub, "alice/model").unwrap()));
                })
            })
            .collect();
        let mut removals = 0;
        while !pulls.iter().all(|pull| pull.is_finished()) {
            match library.removable("alice/model").map(|found| library.remove("alice/model", &found)) {
                Ok(Ok(())) => removals += 1,
                Ok(Err(LibraryError::Hub(error))) if matches!(*error, HubError::Busy { .. }) => {}
                Err(LibraryError::NoSuchModel { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        removals
    });
    println!("{removals} removals between 60 downloads");
    let path = pull(&hub, "alice/model").unwrap().path;
    assert_eq!(std::fs::read(path.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn links_and_removals_of_one_name_at_the_same_time_do_not_fight() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let (library, _) = library(&server, folder.path());
    let models: Vec<_> = (0..2).map(|number| folder.path().join(format!("{number}.gguf"))).collect();
    models.iter().for_each(|model| std::fs::write(model, "GGUF").unwrap());
    std::thread::scope(|scope| {
        for model in &models {
            scope.spawn(|| (0..100).for_each(|_| drop(library.link(model, "name", true).unwrap())));
        }
        scope.spawn(|| {
            for _ in 0..100 {
                let removed = library.removable("name").map(|found| library.remove("name", &found));
                assert!(
                    matches!(removed, Ok(Ok(())) | Ok(Err(LibraryError::NoSuchModel { .. })) | Err(_)),
                    "{removed:?}"
                );
            }
        });
    });
    library.link(&models[1], "name", true).unwrap();
    let found = library.find("name".as_ref()).unwrap();
    assert_eq!(found.canonicalize().unwrap(), models[1].canonicalize().unwrap());
}
