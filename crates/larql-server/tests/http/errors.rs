//! Bad requests: the right status, the right shape, and a sentence that says what to do.

use super::*;

#[test]
fn errors_have_the_shape_of_their_interface() {
    let server = TestServer::shared();
    let nested = server.post("/v1/completions", json!({"model": "other", "prompt": "a"}));
    assert_eq!(nested.status, 404);
    let error = &nested.json()["error"];
    assert_eq!(
        (&error["type"], &error["param"], &error["code"]),
        (&json!("not_found_error"), &json!("model"), &json!("model_not_found"))
    );
    let flat = server.post("/api/generate", json!({"model": "other", "prompt": "a"}));
    assert_eq!((flat.status, flat.json()["error"].is_string()), (404, true));
    assert_eq!(
        server.get("/v1/nothing").json()["error"],
        "there is no such route; GET /v1/capabilities lists those that there are"
    );
    assert_eq!(server.get("/v1/infer").status, 405);
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let server = TestServer::shared();
    let long = "France ".repeat(400);
    let cases = [
        ("/v1/completions", json!({"model": "atlas", "prompt": []})),
        ("/v1/completions", json!({"model": "atlas", "prompt": long})),
        ("/v1/completions", json!({"model": "atlas", "prompt": [1, 999_999]})),
        ("/v1/completions", json!({"model": "atlas", "prompt": "a", "n": 0})),
        ("/v1/completions", json!({"model": "atlas", "prompt": "a", "temperature": -1})),
        ("/v1/completions", json!({"model": "atlas", "prompt": "a", "max_tokens": 1_000_000})),
        ("/v1/completions", json!({"model": "atlas", "prompt": "a", "logit_bias": {"x": 1}})),
        ("/v1/completions", json!({"model": "atlas", "prompt": "a", "logit_bias": {"99999": 1}})),
        ("/v1/completions", json!({"model": "atlas", "prompt": "a", "echo": true, "stream": true})),
        ("/v1/chat/completions", json!({"model": "atlas", "messages": [{"role": "user", "content": "a"}]})),
        ("/v1/chat/completions", json!({"model": "atlas", "messages": []})),
        ("/v1/embeddings", json!({"model": "atlas", "input": "a", "encoding_format": "int"})),
        ("/v1/infer", json!({"prompt": " "})),
        ("/v1/lql", json!({"query": "DESCRIBE \"France\" VERBSE;"})),
        ("/v1/lql", json!({"query": ""})),
        ("/v1/insert", json!({"entity": "a", "relation": "b", "target": ""})),
        ("/v1/patches/apply", json!({})),
        ("/v1/patches/apply", json!({"patch": {"version": 1}})),
    ];
    let mut told = String::new();
    for (path, body) in cases {
        let answer = server.post(path, body);
        let value = answer.json();
        let message = value["error"].as_str().or_else(|| value["error"]["message"].as_str()).unwrap();
        told += &format!("{} {path}: {message}\n", answer.status);
    }
    insta::assert_snapshot!(told);
}

#[test]
fn malformed_bodies_and_queries_are_4xx_in_shape() {
    let server = TestServer::shared();
    for path in [
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/api/chat",
        "/v1/infer",
        "/v1/lql",
        "/v1/insert",
    ] {
        for body in [
            "{",
            "[]",
            "\"text\"",
            "{\"prompt\": {}, \"messages\": 3, \"input\": 1, \"query\": []}",
            "\u{0}",
            "{\"model\": 1}",
        ] {
            let answer = server.ask("POST", path, &[], body);
            assert_eq!(answer.status, 400, "{path} {body}: {}", answer.text);
            assert!(!answer.json()["error"].is_null());
        }
    }
    for path in [
        "/v1/describe",
        "/v1/describe?entity=",
        "/v1/describe?entity=a&limit=-1",
        "/v1/walk?prompt=a&layers=9-1",
        "/v1/token/decode?ids=a",
        "/v1/token/decode?ids=99999999",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        assert!(answer.json()["error"].is_string(), "{path}: {}", answer.text);
    }
}

#[test]
fn a_vindex_without_weights_is_browsed_and_says_why_it_generates_nothing() {
    let browse = models(&[("browse", fixture("llama-f32-browse.vindex"))]);
    let server = TestServer::start(ServeOptions { models: browse, ..options() });
    assert_eq!(
        server.get("/v1/stats").json()["loaded"],
        json!({"browse": true, "inference": false, "chat": false, "ffn_service": false, "embed_service": false})
    );
    let answer = server.post("/v1/completions", json!({"model": "browse", "prompt": "a"}));
    assert_eq!(answer.status, 400);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("browse") && message.contains("extract"), "{message}");
    assert!(!message.contains("fixtures"), "a path of the server is told: {message}");
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let mut options = options();
    options.limits.body_bytes = 1000;
    let server = TestServer::start(options);
    let answer = server.post("/v1/completions", json!({"model": "atlas", "prompt": "a".repeat(2000)}));
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
}
