//! The table of faults: each ends in the right bytes or in one clear error, and never in a wrong file.

use larql_hub_testing::{Fault, FaultKind};

use super::*;

/// Outcome of a download under a fault.
enum Outcome {
    /// The file is there.
    Arrives,
    /// The error says this.
    Says(&'static str),
}
use Outcome::{Arrives, Says};

fn faults(server: &TestHub, elsewhere: &str) -> Vec<(&'static str, Fault, Outcome)> {
    let status = |status, headers: &[(&'static str, &str)]| {
        FaultKind::Status(status, headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    };
    let storage = |kind| Fault::of_storage("GET", kind);
    let info = |kind| Fault::of_hub("GET", "/revision/", kind);
    let tree = |kind| Fault::of_hub("GET", "/tree/", kind);
    let resolve = |kind| Fault::of_hub("GET", "/resolve/", kind);
    vec![
        ("429 with Retry-After", info(status(429, &[("retry-after", "0")])), Arrives),
        ("429 with RateLimit", tree(status(429, &[("ratelimit", "\"api\";r=0;t=1")])), Arrives),
        ("429 for an hour", info(status(429, &[("retry-after", "3600")])), Says("asks to wait 3600 s")),
        ("429 of the storage", storage(status(429, &[("retry-after", "0")])), Arrives),
        ("500 once", info(status(500, &[])), Arrives),
        ("503 four times", tree(status(503, &[])).times(4), Arrives),
        ("503 for ever", tree(status(503, &[])).times(99), Says("answered 503")),
        ("500 of the storage for ever", storage(status(500, &[])).times(99), Says("answered 500")),
        ("body cut off", storage(FaultKind::Cut(1000)), Arrives),
        ("body cut off at once, for ever", storage(FaultKind::Cut(0)).times(99), Says("does not answer")),
        ("listing cut off", tree(FaultKind::Cut(10)), Arrives),
        ("length too large", storage(FaultKind::TooLong(9)), Says("bytes, and the repository lists")),
        ("more bytes than stated", storage(FaultKind::Surplus), Says("bytes, and the repository lists")),
        ("wrong bytes once", storage(FaultKind::Flip), Says("SHA-256")),
        (
            "wrong bytes of a file of git",
            Fault::of_hub("GET", "/resolve-cache/", FaultKind::Flip),
            Says("git digest"),
        ),
        (
            "redirect to another origin",
            Fault::of_hub("GET", "/model.gguf", FaultKind::Redirect(elsewhere.to_owned())).times(9),
            Says("SHA-256"),
        ),
        ("redirect of a listing", tree(FaultKind::Redirect(elsewhere.to_owned())), Says("another server")),
        (
            "redirect to a file",
            resolve(FaultKind::Redirect("file:///etc/passwd".into())),
            Says("a file address"),
        ),
        (
            "redirect in a circle",
            resolve(FaultKind::Redirect(server.endpoint() + "/alice/model/resolve/main/model.gguf"))
                .times(99),
            Says("without end"),
        ),
        ("signature expired once", storage(status(403, &[])), Arrives),
        ("403 page for ever", storage(status(403, &[])).times(99), Says("answered 403")),
        ("stalled connection once", storage(FaultKind::Stall(1000)), Arrives),
        ("no answer once", storage(FaultKind::Silent), Arrives),
        ("no answer of the hub once", info(FaultKind::Silent), Arrives),
        ("range ignored", storage(FaultKind::Cut(1000)), Arrives),
        ("no JSON", info(status(200, &[])), Says("not that of a hub")),
        ("404 of the storage", storage(status(404, &[])), Says("answered 404")),
    ]
}

#[test]
fn every_fault_ends_in_the_right_bytes_or_in_one_clear_error() {
    let content = bytes(50_000, 11);
    let elsewhere = TestHub::start();
    elsewhere.put("alice/model", &[("model.gguf", &bytes(50_000, 12))]);
    let other = format!("{}/alice/model/resolve/main/model.gguf", elsewhere.endpoint());
    let rows = faults(&TestHub::start(), &other).len();
    let mut table = Vec::new();
    for row in 0..rows {
        let (server, cache) = (TestHub::start(), tempfile::tempdir().unwrap());
        server.put("alice/model", &[("model.gguf", &content), ("config.json", b"{}"), ("index.json", b"{}")]);
        let (what, fault, outcome) = faults(&server, &other).swap_remove(row);
        server.fault(fault);
        if what == "range ignored" {
            server.fault(Fault::of_storage("GET", FaultKind::IgnoreRange));
        }
        let hub = client_for(what, &server, cache.path());
        let pulled = pull(&hub, "alice/model");
        match (&pulled, outcome) {
            (Ok(pulled), Arrives) => {
                assert_eq!(std::fs::read(pulled.path.join("model.gguf")).unwrap(), content, "{what}");
                table.push(format!("{what}: arrives"));
            }
            (Err(error), Says(text)) => {
                let error = error.to_string();
                assert!(error.contains(text), "{what}: {error}");
                assert!(!error.contains(ALICE) && !error.contains("signature"), "{what}: {error}");
                table.push(format!("{what}: {error}"));
                // Whatever happened, nothing has the name of a whole file that is none.
                server.clear_faults();
                let pulled = pull(&hub, "alice/model").unwrap();
                assert_eq!(std::fs::read(pulled.path.join("model.gguf")).unwrap(), content, "{what}");
            }
            (Ok(_), Says(text)) => panic!("{what}: expected an error with {text:?}"),
            (Err(error), Arrives) => panic!("{what}: {error}"),
        }
        check_tokens(&server.log());
        for entry in std::fs::read_dir(cache.path().join("models--alice--model/blobs")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name.len() == 40 || name.len() == 64, "{what}: {name}");
        }
    }
    // The other origin never saw a token.
    assert!(elsewhere.log().iter().all(|entry| entry.token.is_none()));
    assert!(elsewhere.log().iter().any(|entry| entry.status == 302));
    println!("{}", table.join("\n"));
}

#[test]
fn every_fault_of_publishing_is_survived_or_said() {
    let status = |status| FaultKind::Status(status, Vec::new());
    let rows: Vec<(&str, Fault, Outcome)> = vec![
        ("create 500", Fault::of_hub("POST", "/repos/create", status(500)), Arrives),
        ("preupload 503", Fault::of_hub("POST", "/preupload/", status(503)), Arrives),
        ("batch 429", Fault::of_hub("POST", "/objects/batch", status(429)), Arrives),
        ("upload 500", Fault::of_storage("PUT", status(500)), Arrives),
        ("upload 403 for ever", Fault::of_storage("PUT", status(403)).times(99), Says("answered 403")),
        ("upload answer lost", Fault::of_storage("PUT", FaultKind::LoseAnswer), Arrives),
        ("upload never answered", Fault::of_storage("PUT", FaultKind::Silent), Arrives),
        ("completion 500", Fault::of_storage("POST", status(500)), Arrives),
        ("verify 500", Fault::of_hub("POST", "/lfs/verify", status(500)), Arrives),
        ("commit 500", Fault::of_hub("POST", "/commit/", status(500)), Arrives),
        (
            "commit overtaken",
            Fault::of_hub("POST", "/commit/", FaultKind::Move("other.txt", b"x".to_vec())),
            Says("changed by somebody else"),
        ),
        ("commit answer lost", Fault::of_hub("POST", "/commit/", FaultKind::LoseAnswer), Arrives),
        ("card refused", Fault::of_hub("POST", "/validate-yaml", status(400)), Says("is not valid")),
    ];
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let contents = [
        ("a.bin", bytes(12_000_000, 13)),
        ("b.bin", bytes(1_000, 14)),
        ("README.md", b"---\na: b\n---\n".to_vec()),
    ];
    for (path, content) in &contents {
        std::fs::write(source.join(path), content).unwrap();
    }
    for (what, fault, outcome) in rows {
        let server = TestHub::start();
        server.fault(fault);
        let hub = client_for(what, &server, folder.path());
        let publish = || publish::folder(&hub, &source, "alice/new");
        match (publish(), outcome) {
            (Ok(_), Arrives) => {}
            (Err(error), Says(text)) => {
                let error = error.to_string();
                assert!(error.contains(text) && !error.contains(ALICE), "{what}: {error}");
                server.clear_faults();
                publish().unwrap();
            }
            (Ok(_), Says(text)) => panic!("{what}: expected an error with {text:?}"),
            (Err(error), Arrives) => panic!("{what}: {error}"),
        }
        let published = server.files("alice/new");
        for (path, content) in &contents {
            assert!(published.iter().any(|(name, bytes)| name == path && bytes == content), "{what}: {path}");
        }
        check_tokens(&server.log());
    }
}
