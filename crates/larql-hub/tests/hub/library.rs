//! Models by name: from the hub, its cache, links, and addresses.

use std::sync::Arc;

use larql_core::progress::NoProgress;
use larql_hub::{HubError, Library, LibraryError, ModelResolver};

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
