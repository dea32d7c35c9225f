//! Knowledge of a model, over HTTP.

use super::*;

#[test]
fn an_entity_is_described_with_a_tag_for_caches() {
    let server = TestServer::shared();
    let answer = server.get("/v1/describe?entity=France&limit=5");
    let edges = answer.json()["edges"].as_array().unwrap().clone();
    assert_eq!(edges.len(), 5);
    assert!(edges.iter().any(|edge| edge["relation"] == "capital" && edge["target"] == "Paris"), "{edges:?}");
    let tag = answer.header("etag").unwrap().to_owned();
    let same = server.ask("GET", "/v1/describe?entity=France&limit=5", &[("if-none-match", &tag)], "");
    assert_eq!((same.status, &*same.text), (304, ""));
}

#[test]
fn statements_have_typed_results() {
    let server = TestServer::shared();
    let query = "SELECT entity, target FROM EDGES WHERE relation = \"capital\" LIMIT 2; DESCRIBE \"France\" LIMIT 3 |> INFER TOP 1;";
    let answer = server.posted("/v1/lql", json!({"query": query}));
    let kinds: Vec<&str> =
        answer["results"].as_array().unwrap().iter().map(|result| result["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["select", "several"]);
    assert_eq!(answer["results"][0]["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn each_route_answers_in_its_shape() {
    let server = TestServer::shared();
    let walk = server.get("/v1/walk?prompt=France&top=2&layers=1,3").json();
    assert_eq!(walk["hits"].as_array().unwrap().len(), 4);
    let select =
        server.posted("/v1/select", json!({"entity": "France", "order_by": "confidence", "limit": 3}));
    assert_eq!(select["edges"][0]["entity"], "France");
    let relations = server.get("/v1/relations?source=probe").json();
    assert!(relations["relations"].as_array().unwrap().iter().any(|relation| relation["name"] == "capital"));
    let stats = server.get("/v1/stats").json();
    assert_eq!(
        (&stats["model"], &stats["mode"], &stats["hidden_size"]),
        (&json!("atlas"), &json!("full"), &json!(256))
    );
    assert_eq!(stats["path"], "atlas", "paths of the server are not told");
    let compared =
        server.posted("/v1/infer", json!({"prompt": "The capital of France is", "mode": "compare"}));
    assert_eq!(
        (&compared["walk"][0]["token"], &compared["dense"][0]["token"]),
        (&json!(" Paris"), &json!(" Paris"))
    );
    let explained = server.posted(
        "/v1/explain-infer",
        json!({"prompt": "The capital of France is", "per_layer": 2, "with_attention": true}),
    );
    assert_eq!(explained["trace"].as_array().unwrap().len(), 4);
    assert_eq!(explained["trace"][3]["lens"]["token"], " Paris");
    let traced = server.posted("/v1/trace", json!({"prompt": "The capital of France is", "answer": "Paris"}));
    let last = traced["rows"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["answer"]["rank"], &last["top1_token"]), (&json!(1), &json!(" Paris")));
    for refused in ["TRACE 'x' SAVE 'file.bin'", "INFER 'x' WITH INTERVENTION 'file.json'"] {
        assert_eq!(server.post("/v1/lql", json!({"query": refused})).status, 403, "{refused}");
    }
    let encoded = server.get("/v1/token/encode?text=The%20capital").json();
    let ids: Vec<String> = encoded["token_ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(server.get(&format!("/v1/token/decode?ids={}", ids.join(","))).json()["text"], "The capital");
    assert_eq!(server.posted("/v1/warmup", json!({}))["weights_loaded"], true);
}

#[test]
fn several_models_answer_under_their_names() {
    let two = models(&[("atlas", atlas()), ("llama", fixture("llama-f16-all.vindex"))]);
    let server = TestServer::start(ServeOptions { models: two, ..options() });
    let names: Vec<Value> = server.get("/v1/models").json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].clone())
        .collect();
    assert_eq!(names, ["atlas", "llama"]);
    assert_eq!(server.get("/v1/stats").json()["model"], "atlas");
    assert_eq!(server.get("/v1/llama/stats").json()["model"], "llama");
    assert_eq!(server.get("/v1/other/stats").status, 404);
    assert_eq!(server.get("/v1/models/llama").json()["id"], "llama");
}

#[test]
fn statements_on_files_are_refused() {
    let server = TestServer::shared();
    for query in [
        "USE \"x.vindex\"",
        "EXTRACT MODEL \"a\" INTO \"b\"",
        "SAVE PATCH \"x.vlp\"",
        "APPLY PATCH \"/etc/passwd\"",
        "SHOW MODELS",
        "STATS \"/etc\"",
    ] {
        let answer = server.post("/v1/lql", json!({"query": query}));
        assert_eq!(answer.status, 403, "{query}: {}", answer.text);
    }
}
