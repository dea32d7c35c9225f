//! Requests that cannot be granted: which error, and which page to visit.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larql_core::progress::CancelToken;
use larql_hub::HubError;
use larql_hub_testing::{BOB, Fault, FaultKind};
use miette::Diagnostic;

use super::*;

fn help(error: &HubError) -> String {
    error.help().map(|help| help.to_string()).unwrap_or_default()
}

#[test]
fn absent_private_and_gated_repositories_differ() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    for repo in ["alice/open", "alice/private", "acme/gated"] {
        server.put(repo, &[("model.gguf", b"GGUF")]);
    }
    server.set_private("alice/private", true);
    server.set_gated("acme/gated");
    let with = |token: Option<&str>| {
        let token = token.and_then(Token::new);
        Hub::new(HubSettings { token, ..settings(&server, cache.path()) }).unwrap()
    };
    let error = pull(&with(None), "alice/private").unwrap_err();
    assert!(matches!(error, HubError::NoRepo { has_token: false, .. }), "{error}");
    assert!(
        help(&error).contains("/settings/tokens") && help(&error).contains("/alice/private"),
        "{}",
        help(&error)
    );
    let error = pull(&with(Some(BOB)), "alice/private").unwrap_err();
    assert!(
        error.to_string().ends_with("or it is private and not shown to the owner of your token"),
        "{error}"
    );
    assert!(matches!(
        pull(&with(Some(ALICE)), "alice/nothing"),
        Err(HubError::NoRepo { has_token: true, .. })
    ));
    let error = pull(&with(Some(BOB)), "acme/gated").unwrap_err();
    assert!(matches!(error, HubError::Gated { .. }), "{error}");
    assert!(help(&error).contains(&format!("visit {}/acme/gated", server.endpoint())));
    assert!(pull(&with(Some(ALICE)), "acme/gated").is_ok());
    assert!(matches!(pull(&with(Some("hf_wrong")), "alice/open"), Err(HubError::BadToken { .. })));
    let error = pull(&with(None), "hf://alice/open@v9").unwrap_err();
    assert_eq!(error.to_string(), "alice/open has no revision v9");
    let error = pull(&with(None), "hf://alice/open/other.gguf").unwrap_err();
    assert_eq!(error.to_string(), "alice/open has no file other.gguf");
}

#[test]
fn repositories_without_a_model_or_with_escaping_names_are_refused() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put("alice/texts", &[("README.md", b"x"), ("data.csv", b"1,2")]);
    let hub = client(&server, cache.path());
    assert!(matches!(pull(&hub, "alice/texts"), Err(HubError::NoModel { .. })));
    for (index, path) in
        ["../../escaped.gguf", "/tmp/escaped.gguf", "a/../../escaped.gguf", "C:\\x.gguf"].iter().enumerate()
    {
        let repo = format!("alice/bad{index}");
        server.put_unchecked(&repo, path, b"GGUF");
        let error = pull(&hub, &repo).unwrap_err();
        assert!(matches!(error, HubError::UnsafePath { .. }), "{path}: {error}");
    }
    assert!(!cache.path().parent().unwrap().join("escaped.gguf").exists());
}

#[test]
fn publishing_without_rights_says_so() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("a.txt"), "x").unwrap();
    let with = |token: Option<&str>| {
        let token = token.and_then(Token::new);
        let cache = folder.path().join("cache");
        Hub::new(HubSettings { token, ..settings(&server, &cache) }).unwrap()
    };
    let publish = |token| publish::folder(&with(token), folder.path(), "alice/new").unwrap_err();
    assert!(matches!(publish(None), HubError::NoToken { .. }));
    let error = publish(Some(larql_hub_testing::ALICE_READS));
    assert!(matches!(error, HubError::Forbidden { .. }), "{error}");
    assert!(error.to_string().contains("rights to write under the namespace \"alice\""), "{error}");
    assert!(matches!(publish(Some(BOB)), HubError::Forbidden { .. }));
    assert_eq!(server.is_private("alice/new"), None);
}

/// A server that takes connections and never answers: its address, and the number of connections so far.
fn mute() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&connections);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    (format!("http://{address}"), connections)
}

#[test]
fn a_server_that_never_answers_is_given_up_early() {
    let cache = tempfile::tempdir().unwrap();
    let attempts = |pause: Duration| {
        let (endpoint, connections) = mute();
        let settings =
            HubSettings { pauses: vec![pause; 9], ..HubSettings::new(&endpoint, Some(cache.path().into())) };
        let error = pull(&Hub::new(settings).unwrap(), "alice/model").unwrap_err();
        assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
        connections.load(Ordering::SeqCst)
    };
    assert_eq!(attempts(Duration::from_millis(1)), 3);
    // A pause that would end after ten seconds is not begun.
    assert_eq!(attempts(Duration::from_secs(11)), 1);

    // Neither a port that is closed nor a name that does not exist is waited for.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for endpoint in [format!("http://{closed}"), "http://no-such-host.invalid".to_owned()] {
        let pauses = vec![Duration::from_millis(1); 9];
        let settings = HubSettings { pauses, ..HubSettings::new(&endpoint, Some(cache.path().into())) };
        let error = pull(&Hub::new(settings).unwrap(), "alice/model").unwrap_err();
        let said = error.to_string();
        assert!(said.contains("looking up alice/model: ") && said.contains(&endpoint), "{said}");
        assert!(said.contains("does not answer"), "{said}");
    }
}

#[test]
fn a_server_that_answered_once_is_asked_again() {
    let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put("alice/model", &[("model.gguf", b"GGUF")]);
    let hub = client(&server, cache.path());
    // Five repetitions, as many as there are pauses, of what has no answer at all.
    server.fault(Fault::of_hub("GET", "/tree/", FaultKind::LoseAnswer).times(5));
    assert!(pull(&hub, "alice/model").is_ok());
    assert_eq!(server.clear_faults(), 0);
}

#[test]
fn a_file_that_the_hub_does_not_take_is_refused_before_anything_is_sent() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let hub = client(&server, &folder.path().join("cache"));
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let large = std::fs::File::create(source.join("large.bin")).unwrap();
    large.set_len(50_000_000_001).unwrap();
    let error = publish::folder(&hub, &source, "alice/new").unwrap_err();
    assert!(matches!(error, HubError::AboveLimit { .. }), "{error}");
    let said = "large.bin has 50000000001 bytes, more than the 50000000000 that the hub takes in one file";
    assert!(error.to_string().ends_with(said) && help(&error).contains("--slices"), "{error}");
    assert_eq!(server.log(), []);
}

#[cfg(unix)]
#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    server.put("alice/model", &[("model.gguf", b"GGUF")]);
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = pull(&client(&server, &file.join("hub")), "alice/model").unwrap_err();
    assert!(matches!(error, HubError::Disk { .. }), "{error}");
    let collection = client(&server, folder.path()).collection("no-slash", &CancelToken::never());
    assert!(matches!(collection, Err(HubError::BadName { .. })));
}
