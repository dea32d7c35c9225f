//! Edits of sessions.

use super::*;

const EDGE: &str = r#"{"entity": "Atlantis", "relation": "capital", "target": "Rome"}"#;

fn target(server: &TestServer, session: &[(&str, &str)]) -> Option<String> {
    let answer = server
        .ask("POST", "/v1/infer", session, r#"{"prompt": "The capital of Atlantis is", "top": 1}"#)
        .json();
    answer["predictions"][0]["token"].as_str().map(|token| token.trim().to_owned())
}

#[test]
fn an_edge_is_seen_in_its_session_alone_and_patches_carry_it_over() {
    let server = TestServer::start(options());
    let (one, two) = ([("x-session-id", "one")], [("x-session-id", "two")]);
    assert_ne!(target(&server, &one).as_deref(), Some("Rome"));
    let inserted = server.ask("POST", "/v1/insert", &one, EDGE);
    assert_eq!(inserted.status, 200, "{}", inserted.text);
    assert_eq!(inserted.json()["inserted"], 1);
    assert_eq!(target(&server, &one).as_deref(), Some("Rome"));
    assert_ne!(target(&server, &two).as_deref(), Some("Rome"));
    assert_ne!(target(&server, &[]).as_deref(), Some("Rome"));
    // Generated text is that of the session too.
    let body =
        r#"{"model": "atlas", "prompt": "The capital of Atlantis is", "max_tokens": 1, "temperature": 0}"#;
    assert_eq!(server.ask("POST", "/v1/completions", &one, body).json()["choices"][0]["text"], " Rome");

    let patches = server.ask("GET", "/v1/patches", &one, "").json();
    let name = patches["patches"][0]["name"].as_str().unwrap();
    let patch = server.ask("GET", &format!("/v1/patches/{name}"), &one, "").json();
    let applied = server.ask(
        "POST",
        "/v1/patches/apply",
        &two,
        &json!({"patch": patch, "name": "facts.vlp"}).to_string(),
    );
    assert_eq!(applied.json()["applied"], "facts.vlp", "{}", applied.text);
    assert_eq!(target(&server, &two).as_deref(), Some("Rome"));
    assert_eq!(server.ask("DELETE", "/v1/patches/facts.vlp", &two, "").status, 200);
    assert_ne!(target(&server, &two).as_deref(), Some("Rome"));
    assert_eq!(server.ask("DELETE", "/v1/patches/facts.vlp", &two, "").status, 404);

    let sessions = server.get("/v1/sessions").json();
    assert_eq!(sessions["sessions"][0]["id"], "one", "{sessions}");
    assert_eq!(server.ask("POST", "/v1/lql", &one, r#"{"query": "UNDO;"}"#).status, 200);
    assert_ne!(target(&server, &one).as_deref(), Some("Rome"));
    assert_eq!(server.get("/v1/sessions").json()["sessions"], json!([]));
}

#[test]
fn nothing_is_written_to_disk_and_nothing_is_fetched_unasked() {
    let listing = |path: &Path| {
        let mut files: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = listing(&atlas());
    let server = TestServer::start(options());
    assert_eq!(server.ask("POST", "/v1/insert", &[], EDGE).status, 200);
    let fetched = server.post("/v1/patches/apply", json!({"url": "http://127.0.0.1:1/x.vlp"}));
    assert_eq!(fetched.status, 403, "{}", fetched.text);
    assert_eq!(server.post("/v1/patches/apply", json!({"url": "file:///etc/passwd"})).status, 400);
    drop(server);
    assert_eq!(listing(&atlas()), before);
}

#[test]
fn a_server_for_reading_refuses_edits() {
    let server = TestServer::start(ServeOptions { edit: false, ..options() });
    assert_eq!(server.ask("POST", "/v1/insert", &[], EDGE).status, 403);
    assert_eq!(server.post("/v1/lql", json!({"query": "UNDO;"})).status, 403);
}
