//! Keys, rates, figures, and the end of a server.

use std::num::NonZeroU32;

use larql_server::RateLimit;

use super::*;

#[test]
fn without_a_key_nothing_but_health_answers() {
    let server = TestServer::start(ServeOptions { api_keys: vec!["secret".into()], ..options() });
    let capabilities =
        server.ask("GET", "/v1/capabilities", &[("authorization", "Bearer secret")], "").json();
    for route in capabilities["routes"].as_array().unwrap() {
        let route = route.as_str().unwrap();
        let path = route.replace("{*file}", "main.js").replace(['{', '}'], "");
        for method in ["GET", "POST", "DELETE"] {
            let status = server.ask(method, &path, &[], "").status;
            assert_eq!(status == 401, route != "/v1/health", "{method} {path} answers {status}");
        }
    }
    let refused = server.post("/v1/completions", json!({}));
    assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
    assert!(refused.header("www-authenticate").is_some());
}

#[test]
fn capabilities_are_the_routes_that_answer() {
    let server = TestServer::shared();
    let capabilities = server.get("/v1/capabilities").json();
    for route in capabilities["routes"].as_array().unwrap() {
        let path = route.as_str().unwrap().replace("{*file}", "main.js").replace(['{', '}'], "");
        // A route that is there has no such method; one that is not is not found.
        let status = server.ask("PATCH", &path, &[], "").status;
        assert!(status == 405, "{path} answers {status}");
    }
    assert_eq!(server.ask("PATCH", "/v1/no-such-route", &[], "").status, 404);
    assert_eq!(
        (&capabilities["explorer"]["query"], &capabilities["explorer"]["trace"]),
        (&json!(true), &json!(true))
    );
}

#[test]
fn rates_are_limited_with_a_time_to_wait() {
    let rate_limit =
        Some(RateLimit { requests: NonZeroU32::new(2).unwrap(), per: Duration::from_secs(3600) });
    let server = TestServer::start(ServeOptions { rate_limit, ..options() });
    assert_eq!([server.get("/v1/models").status, server.get("/v1/models").status], [200, 200]);
    let refused = server.get("/v1/models");
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 1000);
    assert_eq!(server.get("/v1/health").status, 200, "health is not counted");
}

#[test]
fn figures_count_what_happens() {
    let server = TestServer::start(options());
    server.posted(
        "/v1/completions",
        json!({"model": "atlas", "prompt": "The capital of France is", "max_tokens": 3, "temperature": 0}),
    );
    server.get("/v1/nothing");
    let text = server.get("/metrics").text;
    for line in [
        "larql_generated_tokens_total 3",
        "larql_prompt_tokens_total 6",
        "larql_first_token_seconds_count 1",
        "larql_requests_total{route=\"/v1/completions\",status=\"200\"} 1",
        "larql_requests_total{route=\"none\",status=\"404\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let runtime = server.get("/v1/runtime").json();
    assert_eq!(
        (&runtime["performance"]["generated_tokens"], &runtime["engine"]["waiting"]),
        (&json!(3), &json!(0))
    );
}

#[test]
fn a_server_that_stops_finishes_what_is_running() {
    let server = TestServer::start(options());
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.post("/v1/completions", json!({"model": "atlas", "prompt": "a", "max_tokens": 200, "temperature": 1, "logit_bias": {"1": -100}})));
        // The request is under way once it is counted among the running ones, or is done already.
        while server.get("/v1/runtime").json()["performance"]["prompt_tokens"] == 0 {
            std::thread::yield_now();
        }
        asked.join().unwrap()
    });
    let url = server.url.clone();
    drop(server);
    assert!(ureq::get(format!("{url}/v1/health")).call().is_err(), "the port is free");
}
