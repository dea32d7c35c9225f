//! `/v1/completions`, `/v1/embeddings` and Ollama's `/api/generate` on the bundled model.

use super::*;

const PROMPT: &str = "The capital of France is";

fn completion(fields: Value) -> Value {
    let mut body = json!({"model": "atlas", "prompt": PROMPT, "max_tokens": 4, "temperature": 0});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[test]
fn a_text_goes_on_whole_and_in_pieces() {
    let server = TestServer::shared();
    let whole = server.posted("/v1/completions", completion(json!({})));
    let text = whole["choices"][0]["text"].as_str().unwrap();
    assert!(text.contains("Paris"), "{text}");
    assert_eq!(whole["usage"]["prompt_tokens"], 6);
    let stream = server.post(
        "/v1/completions",
        completion(json!({"stream": true, "stream_options": {"include_usage": true}})),
    );
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert!(stream.text.ends_with("data: [DONE]\n\n"), "{}", stream.text);
    let events = events(&stream.text);
    let pieces: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(pieces, text);
    let reasons: Vec<&str> =
        events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, [whole["choices"][0]["finish_reason"].as_str().unwrap()]);
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
}

#[test]
fn ollama_generates_the_same_text() {
    let server = TestServer::shared();
    let text = server.posted("/v1/completions", completion(json!({})))["choices"][0]["text"].clone();
    let options = json!({"temperature": 0, "num_predict": 4, "repeat_penalty": 1.0});
    let body = |stream: bool| json!({"model": "atlas:latest", "prompt": PROMPT, "raw": true, "stream": stream, "options": options});
    let whole = server.posted("/api/generate", body(false));
    assert_eq!((&whole["response"], &whole["done"]), (&text, &json!(true)));
    assert_eq!((&whole["prompt_eval_count"], &whole["done_reason"]), (&json!(6), &json!("length")));
    let lines = server.post("/api/generate", body(true)).text;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pieces: String = lines.iter().map(|line| line["response"].as_str().unwrap()).collect();
    assert_eq!(json!(pieces), text);
    assert_eq!(lines.iter().filter(|line| line["done"] == true).count(), 1);
}

#[test]
fn echo_and_probabilities_cover_prompt_and_text() {
    let server = TestServer::shared();
    let answer =
        server.posted("/v1/completions", completion(json!({"echo": true, "logprobs": 2, "max_tokens": 1})));
    let choice = &answer["choices"][0];
    assert!(choice["text"].as_str().unwrap().starts_with(PROMPT));
    let logprobs = &choice["logprobs"];
    let count = |name: &str| logprobs[name].as_array().unwrap().len();
    assert_eq!(
        [count("tokens"), count("token_logprobs"), count("top_logprobs"), count("text_offset")],
        [7; 4]
    );
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    let last = logprobs["token_logprobs"][6].as_f64().unwrap();
    assert!((last.exp() - 0.997).abs() < 0.01, "Paris has {}", last.exp());
    assert_eq!(logprobs["top_logprobs"][6].as_object().unwrap().len(), 2);
}

#[test]
fn several_texts_and_seeds() {
    let server = TestServer::shared();
    let texts = |seed: u32| {
        let body =
            completion(json!({"n": 3, "temperature": 1.5, "seed": seed, "prompt": "The", "max_tokens": 12}));
        let answer = server.posted("/v1/completions", body);
        let choices = answer["choices"].as_array().unwrap().clone();
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = texts(7);
    assert_eq!(first, texts(7));
    assert!(first[0] != first[1] || first[1] != first[2], "{first:?}");
    let bias = completion(json!({"logit_bias": {"5": 100.0}, "max_tokens": 2}));
    let five = server.get("/v1/token/decode?ids=5,5").json()["text"].clone();
    assert_eq!(server.posted("/v1/completions", bias)["choices"][0]["text"], five);
}

#[test]
fn embeddings_are_unit_vectors_that_base64_holds_too() {
    use base64::Engine as _;
    let server = TestServer::shared();
    let body =
        |format: &str| json!({"model": "atlas", "input": ["France", "France is"], "encoding_format": format});
    let floats = server.posted("/v1/embeddings", body("float"));
    let vector: Vec<f32> = serde_json::from_value(floats["data"][1]["embedding"].clone()).unwrap();
    assert_eq!(vector.len(), 256);
    assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    let text =
        server.posted("/v1/embeddings", body("base64"))["data"][1]["embedding"].as_str().unwrap().to_owned();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let same: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(same, vector);
    assert_eq!(
        server.posted("/api/embed", json!({"model": "atlas", "input": "France is"}))["embeddings"][0],
        json!(vector)
    );
}

#[test]
fn concurrent_requests_get_the_same_text_as_one_alone() {
    let server = TestServer::shared();
    let alone =
        server.posted("/v1/completions", completion(json!({"max_tokens": 24})))["choices"][0]["text"].clone();
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..16)
            .map(|index| {
                scope.spawn(move || {
                    // Half of the company asks something else.
                    let prompt = if index % 2 == 0 {
                        PROMPT.to_owned()
                    } else {
                        format!("The currency of country {index} is")
                    };
                    let body = completion(json!({"max_tokens": 24, "prompt": prompt}));
                    (index % 2 == 0)
                        .then(|| server.posted("/v1/completions", body)["choices"][0]["text"].clone())
                })
            })
            .collect();
        for text in asked.into_iter().filter_map(|thread| thread.join().unwrap()) {
            assert_eq!(text, alone);
        }
    });
}
