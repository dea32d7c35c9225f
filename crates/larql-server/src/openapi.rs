//! The description of the interface, as OpenAPI 3.1.

use axum::Json;
use axum::extract::State;
use larql_inference::SamplingOptions;
use serde_json::{Map, Value, json};

use crate::state::App;

/// Location of a parameter.
#[derive(Clone, Copy)]
enum In {
    Path,
    Query,
    /// In the query, as values with commas between.
    List,
}

/// A parameter: its place, its name, whether it is needed, its schema, and what it means.
type Parameter = (In, &'static str, bool, Value, &'static str);

/// An operation of the interface.
struct Operation {
    path: &'static str,
    method: &'static str,
    tag: &'static str,
    summary: &'static str,
    parameters: Vec<Parameter>,
    /// Schema of the body, if there is one.
    body: Option<Value>,
    /// Media types of the answer.
    answers: &'static [&'static str],
    /// Asks one model, so that it also stands under `/v1/{model}` where there are several.
    of_model: bool,
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

/// Bounds of a server and its models that the description states.
pub(crate) struct Bounds {
    /// Several models are served.
    several: bool,
    /// Greatest number of tokens of a text.
    tokens: usize,
    /// Greatest number of rows of an answer.
    rows: usize,
    /// Greatest number of texts of an answer.
    choices: usize,
    /// Tokens of the smallest vocabulary.
    vocabulary: usize,
    /// Layers of the model that has fewest.
    layers: usize,
}

impl Operation {
    fn new(method: &'static str, path: &'static str, tag: &'static str, summary: &'static str) -> Operation {
        let of_model = tag == "LARQL";
        Operation {
            path,
            method,
            tag,
            summary,
            parameters: Vec::new(),
            body: None,
            answers: &[JSON],
            of_model,
        }
    }

    fn of_server(self) -> Operation {
        Operation { of_model: false, ..self }
    }

    fn answering(self, answers: &'static [&'static str]) -> Operation {
        Operation { answers, ..self }
    }

    fn taking(self, parameters: impl IntoIterator<Item = Parameter>) -> Operation {
        Operation { parameters: parameters.into_iter().collect(), ..self }
    }

    /// Sets the body: an object with these fields, of which the first `required` are needed.
    fn with_body<const N: usize>(self, required: usize, fields: [(&str, Value); N]) -> Operation {
        let needed: Vec<&str> = fields.iter().take(required).map(|(name, _)| *name).collect();
        let fields: Map<String, Value> =
            fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
        let mut body = json!({"type": "object", "properties": fields});
        if !needed.is_empty() {
            body["required"] = json!(needed);
        }
        Operation { body: Some(body), ..self }
    }

    fn json(&self, prefix: &str) -> Value {
        let parameter = |(place, name, required, schema, about): &Parameter| {
            let mut parameter = json!({"in": "query", "name": name, "required": required, "schema": schema, "description": about});
            match place {
                In::Path => parameter["in"] = "path".into(),
                In::Query => {}
                In::List => parameter["explode"] = false.into(),
            }
            parameter
        };
        let mut parameters: Vec<Value> = self.parameters.iter().map(parameter).collect();
        if !prefix.is_empty() {
            parameters.push(parameter(&(In::Path, "model", true, text(), "Name of the model")));
        }
        let session = "Session whose edits count and are made; the one that all share if absent";
        let generates =
            matches!(self.tag, "OpenAI" | "Ollama") && self.method == "post" && self.path != "/api/show";
        if self.of_model || generates {
            parameters.push(json!({"in": "header", "name": "X-Session-Id", "schema": {"type": "string", "maxLength": 128}, "description": session}));
        }
        let error = if self.tag == "OpenAI" { "NestedError" } else { "Error" };
        let error = json!({"description": "The request cannot be met; the message says why and what to do", "content": {JSON: {"schema": {"$ref": format!("#/components/schemas/{error}")}}}});
        let answer: Map<String, Value> = self
            .answers
            .iter()
            .map(|kind| {
                let schema = if *kind == JSON { json!({"schema": {"type": "object"}}) } else { json!({}) };
                ((*kind).to_owned(), schema)
            })
            .collect();
        let mut operation = json!({
            "tags": [self.tag],
            "summary": self.summary,
            "operationId": self.id(prefix),
            "parameters": parameters,
            "responses": {"200": {"description": "The answer", "content": answer}, "4XX": error, "5XX": error},
        });
        if let Some(body) = &self.body {
            let required = body.get("required").is_some();
            operation["requestBody"] = json!({"required": required, "content": {JSON: {"schema": body}}});
        }
        if self.path == "/v1/health" {
            operation["security"] = json!([]);
        }
        operation
    }

    fn id(&self, prefix: &str) -> String {
        let words = format!("{}{prefix}{}", self.method, self.path);
        words.replace(['/', '{', '}', '-', '.'], "_").trim_end_matches('_').to_owned()
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

/// A text with something in it.
fn filled() -> Value {
    json!({"type": "string", "minLength": 1, "pattern": "\\S"})
}

fn optional(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

fn integer(least: usize, most: usize) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

/// A whole number of 64 bits.
fn whole() -> Value {
    json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX})
}

fn number(least: f64, most: f64) -> Value {
    json!({"type": "number", "minimum": least, "maximum": most})
}

fn temperature() -> Value {
    number(0.0, SamplingOptions::HIGHEST_TEMPERATURE.into())
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn words(words: &[&str]) -> Value {
    json!({"enum": words})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// Returns a regular expression of the numbers from 0 to `most`, as in `[0-9]|1[0-9]|2[0-5]`.
fn numbers_to(most: usize) -> String {
    let tens = (0..=most / 10).map(|tens| {
        let prefix = if tens == 0 { String::new() } else { tens.to_string() };
        let last = if tens == most / 10 { most % 10 } else { 9 };
        format!("{prefix}[0-{last}]")
    });
    tens.collect::<Vec<_>>().join("|")
}

/// Layers of a model, as in `24-33` or `14,26`.
fn layers(count: usize) -> Value {
    let number = format!("({})", numbers_to(count - 1));
    let range = format!("{number}(-{number})?");
    json!({"type": "string", "pattern": format!("^{range}(,{range})*$")})
}

fn message() -> Value {
    let part = json!({"type": "object", "required": ["type", "text"], "properties": {"type": words(&["text", "input_text", "output_text"]), "text": text()}});
    json!({
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": words(&["system", "developer", "user", "assistant", "tool"]),
            "content": {"anyOf": [text(), list(part)]},
        },
    })
}

fn messages() -> Value {
    json!({"type": "array", "items": message(), "minItems": 1})
}

fn response_format() -> Value {
    let plain = json!({"type": "object", "required": ["type"], "properties": {"type": words(&["text", "json_object"])}});
    let schema =
        json!({"type": "object", "required": ["schema"], "properties": {"schema": {"type": "object"}}});
    let of_schema = json!({
        "type": "object",
        "required": ["type", "json_schema"],
        "properties": {"type": words(&["json_schema"]), "json_schema": schema},
    });
    json!({"anyOf": [plain, of_schema]})
}

/// Messages that may say that they are some.
fn typed_messages() -> Value {
    let mut messages = messages();
    messages["items"]["properties"]["type"] = words(&["message"]);
    messages
}

/// The operations, in the order of the documentation.
fn operations(bounds: &Bounds) -> Vec<Operation> {
    let entity = || (In::Query, "entity", true, filled(), "The entity, such as France");
    let rows = || integer(1, bounds.rows);
    let tokens = |least| optional(integer(least, bounds.tokens));
    let name = |about| (In::Path, "name", true, text(), about);
    let sampling = [
        ("temperature", optional(temperature())),
        ("top_p", optional(number(0.0, 1.0))),
        ("seed", optional(whole())),
        ("presence_penalty", optional(number(-2.0, 2.0))),
        ("frequency_penalty", optional(number(-2.0, 2.0))),
        ("stop", optional(json!({"anyOf": [text(), list(text())]}))),
        ("stream", optional(boolean())),
    ];
    let [temperature, top_p, seed, presence, frequency, stop, stream] = sampling;
    let model = || ("model", optional(text()));
    let some_text = || json!({"type": "string", "minLength": 1});
    let token = || integer(0, bounds.vocabulary - 1);
    let some = |items: Value| json!({"type": "array", "minItems": 1, "items": items});
    // A text, its tokens, or several of either.
    let input = || json!({"anyOf": [some_text(), some(some_text()), some(token()), some(some(token()))]});
    vec![
        Operation::new("get", "/v1/health", "Server", "Tell that the server answers").of_server(),
        Operation::new("get", "/metrics", "Server", "Figures for Prometheus").answering(&["application/openmetrics-text"]),
        Operation::new("get", "/openapi.json", "Server", "This description"),
        Operation::new("get", "/v1/capabilities", "Server", "What the server can be asked for"),
        Operation::new("get", "/v1/runtime", "Server", "A snapshot of server, engine and memory"),
        Operation::new("get", "/v1/sessions", "Server", "Sessions that have edits"),
        Operation::new("get", "/v1/sessions/{id}", "Server", "One session")
            .taking([(In::Path, "id", true, text(), "Name of the session")]),
        Operation::new("get", "/v1/models", "OpenAI", "List the models"),
        Operation::new("get", "/v1/models/{name}", "OpenAI", "Show a model").taking([name("Name of the model")]),
        Operation::new("post", "/v1/completions", "OpenAI", "Continue texts").answering(&[JSON, EVENTS]).with_body(
            1,
            [
                ("prompt", input()),
                model(),
                ("max_tokens", tokens(0)),
                ("n", optional(integer(1, bounds.choices))),
                ("logprobs", optional(integer(0, 20))),
                ("echo", optional(boolean())),
                temperature.clone(),
                top_p.clone(),
                seed.clone(),
                presence.clone(),
                frequency.clone(),
                stop.clone(),
                stream.clone(),
            ],
        ),
        Operation::new("post", "/v1/chat/completions", "OpenAI", "Answer a conversation").answering(&[JSON, EVENTS]).with_body(
            1,
            [
                ("messages", messages()),
                model(),
                ("max_tokens", tokens(0)),
                ("max_completion_tokens", tokens(0)),
                ("n", optional(integer(1, bounds.choices))),
                ("logprobs", optional(boolean())),
                ("response_format", optional(response_format())),
                ("tools", optional(list(json!({"type": "object", "required": ["function"], "properties": {"function": {"type": "object", "required": ["name"], "properties": {"name": text(), "parameters": optional(json!({"type": "object"}))}}}})))),
                temperature.clone(),
                top_p.clone(),
                seed.clone(),
                presence,
                frequency,
                stop,
                stream.clone(),
            ],
        ),
        Operation::new("post", "/v1/embeddings", "OpenAI", "Texts as vectors: the mean hidden state, at unit length").with_body(
            1,
            [("input", input()), model(), ("encoding_format", optional(words(&["float", "base64"])))],
        ),
        Operation::new("post", "/v1/responses", "OpenAI", "Answer, so that later answers can continue").answering(&[JSON, EVENTS]).with_body(
            1,
            [
                ("input", json!({"anyOf": [text(), typed_messages()]})),
                model(),
                ("instructions", optional(text())),
                ("previous_response_id", optional(text())),
                ("max_output_tokens", tokens(1)),
                ("store", optional(boolean())),
                temperature,
                top_p,
                stream,
            ],
        ),
        Operation::new("get", "/v1/responses/{id}", "OpenAI", "Show a stored answer")
            .taking([(In::Path, "id", true, text(), "Name of the answer")]),
        Operation::new("delete", "/v1/responses/{id}", "OpenAI", "Forget a stored answer")
            .taking([(In::Path, "id", true, text(), "Name of the answer")]),
        Operation::new("post", "/api/generate", "Ollama", "Answer a prompt, or continue it with raw")
            .with_body(0, [model(), ("prompt", text()), ("system", optional(text())), ("raw", optional(boolean())), ("options", ollama_options(bounds))])
            .answering(&[LINES, JSON]),
        Operation::new("post", "/api/chat", "Ollama", "Answer a conversation")
            .with_body(0, [model(), ("messages", list(message())), ("options", ollama_options(bounds))])
            .answering(&[LINES, JSON]),
        Operation::new("post", "/api/embed", "Ollama", "Texts as vectors").with_body(1, [("input", json!({"anyOf": [text(), list(some_text())]})), model()]),
        Operation::new("post", "/api/embeddings", "Ollama", "A text as a vector")
            .with_body(1, [("prompt", json!({"type": "string", "minLength": 1})), model()]),
        Operation::new("get", "/api/tags", "Ollama", "List the models"),
        Operation::new("get", "/api/ps", "Ollama", "List the loaded models"),
        Operation::new("post", "/api/show", "Ollama", "Show a model").with_body(0, [model()]),
        Operation::new("get", "/api/version", "Ollama", "Version of the interface"),
        Operation::new("get", "/v1/describe", "LARQL", "Edges of an entity").taking([
            entity(),
            (In::Query, "band", false, words(&["syntax", "knowledge", "output", "all"]), "Layers to look in; knowledge if absent"),
            (In::Query, "limit", false, rows(), "Greatest number of edges; 20 if absent"),
            (In::Query, "min_score", false, json!({"type": "number"}), "Least gate score"),
            (In::Query, "verbose", false, boolean(), "Every figure"),
        ]),
        Operation::new("get", "/v1/walk", "LARQL", "Features that a prompt's last token fires").taking([
            (In::Query, "prompt", true, filled(), "The prompt"),
            (In::Query, "top", false, rows(), "Features of each layer; 5 if absent"),
            (In::Query, "layers", false, layers(bounds.layers), "Layers, as in 24-33 or 14,26"),
        ]),
        Operation::new("post", "/v1/select", "LARQL", "Edges that pass conditions").with_body(
            0,
            [
                ("entity", optional(text())),
                ("relation", optional(text())),
                ("layer", optional(integer(0, bounds.layers - 1))),
                ("limit", optional(rows())),
                ("min_confidence", optional(number(0.0, 1.0))),
                ("order_by", optional(words(&["gate_score", "confidence", "layer", "relation", "target", "count"]))),
                ("order", optional(words(&["asc", "desc"]))),
            ],
        ),
        Operation::new("get", "/v1/relations", "LARQL", "Relations that features carry")
            .taking([(In::Query, "source", false, text(), "Only those of this source, such as probe")]),
        Operation::new("get", "/v1/stats", "LARQL", "Figures of the model"),
        Operation::new("post", "/v1/infer", "LARQL", "Predict the next token").with_body(
            1,
            [("prompt", filled()), ("top", optional(rows())), ("mode", optional(words(&["walk", "dense", "compare"])))],
        ),
        Operation::new("post", "/v1/explain-infer", "LARQL", "What brings a prediction about").with_body(
            1,
            [
                ("prompt", filled()),
                ("answer", optional(text())),
                ("top", optional(rows())),
                ("per_layer", optional(rows())),
                ("band", optional(words(&["syntax", "knowledge", "output", "all"]))),
                ("relations_only", boolean()),
                ("with_attention", boolean()),
            ],
        ),
        Operation::new("post", "/v1/trace", "LARQL", "How an answer arises in the residual stream").with_body(
            1,
            [
                ("prompt", filled()),
                ("answer", optional(text())),
                ("decompose", boolean()),
                ("positions", optional(words(&["last", "all"]))),
            ],
        ),
        Operation::new("post", "/v1/lql", "LARQL", "Carry out statements of LQL, with typed results")
            .with_body(1, [("query", filled()), ("most_rows", optional(integer(0, 1000)))]),
        Operation::new("post", "/v1/insert", "LARQL", "Insert an edge for this session").with_body(
            3,
            [
                ("entity", filled()),
                ("relation", filled()),
                ("target", filled()),
                ("layer", optional(integer(0, bounds.layers - 1))),
                ("alpha", optional(number(0.0, 1000.0))),
                ("confidence", optional(number(0.0, 1.0))),
                ("mode", optional(words(&["compose", "knn"]))),
            ],
        ),
        Operation::new("get", "/v1/patches", "LARQL", "Patches over the model"),
        Operation::new("post", "/v1/patches/apply", "LARQL", "Lay a patch over the model: its content, or an address of it")
            .with_body(0, [("patch", optional(json!({"type": "object"}))), ("url", optional(text())), ("name", optional(text()))]),
        Operation::new("get", "/v1/patches/{name}", "LARQL", "A patch, as a file to be saved").taking([name("Name of the patch")]),
        Operation::new("delete", "/v1/patches/{name}", "LARQL", "Take a patch off").taking([name("Name of the patch")]),
        Operation::new("get", "/v1/token/encode", "LARQL", "Tokens of a text").taking([
            (In::Query, "text", true, text(), "The text"),
            (In::Query, "special", false, boolean(), "Add what the model expects around a whole text"),
        ]),
        Operation::new("get", "/v1/token/decode", "LARQL", "Text of tokens")
            .taking([(In::List, "ids", true, json!({"type": "array", "minItems": 1, "items": integer(0, bounds.vocabulary - 1)}), "Tokens, as in 1,2,3")]),
        Operation::new("post", "/v1/warmup", "LARQL", "Load tokenizer and weights").with_body(0, [("skip_weights", boolean())]),
    ]
}

fn ollama_options(bounds: &Bounds) -> Value {
    // Numbers below 0 ask for as much as there is room for.
    let tokens = optional(json!({"type": "integer", "minimum": i64::MIN, "maximum": bounds.tokens}));
    optional(json!({
        "type": "object",
        "properties": {
            "num_predict": tokens,
            "temperature": optional(temperature()),
            "top_p": optional(number(0.0, 1.0)),
            "seed": optional(whole()),
            "stop": optional(list(text())),
        },
    }))
}

/// Returns the description of a server with these bounds.
pub(crate) fn description(bounds: &Bounds) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut add = |path: String, method: &str, operation: Value| {
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[method] = operation;
    };
    for operation in operations(bounds) {
        add(operation.path.to_owned(), operation.method, operation.json(""));
        if bounds.several && operation.of_model {
            let path = operation.path.replacen("/v1/", "/v1/{model}/", 1);
            add(path, operation.method, operation.json("/{model}"));
        }
    }
    let about = "One model or several, as OpenAI's and Ollama's clients ask them, and in LQL. WebSockets are taken at \
                 /v1/stream, and the Model Context Protocol is spoken at /mcp.";
    json!({
        "openapi": "3.1.0",
        "info": {"title": "LARQL", "version": env!("CARGO_PKG_VERSION"), "description": about, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "LARQL", "description": "What a model knows and predicts, and edits of a session"},
            {"name": "OpenAI", "description": "For OpenAI's clients"},
            {"name": "Ollama", "description": "For Ollama's clients"},
            {"name": "Server", "description": "The server itself"},
        ],
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
                "NestedError": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "null"]},
                        },
                    }},
                },
            },
        },
    })
}

/// Answers with the description.
pub(crate) async fn openapi(State(app): State<App>) -> Json<Value> {
    let limits = app.options.limits;
    let vocabulary = app.models.iter().map(|model| model.spec().vocab_size).min().unwrap_or(1);
    let layers = app.models.iter().map(|model| model.spec().layers.len()).min().unwrap_or(1);
    let several = app.models.iter().count() > 1;
    Json(description(&Bounds {
        several,
        tokens: limits.most_tokens,
        rows: limits.rows,
        choices: limits.choices,
        vocabulary,
        layers,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;
    use crate::options::ServeOptions;
    use crate::routes::paths;

    fn bounds(several: bool) -> Bounds {
        Bounds { several, tokens: 100, rows: 10, choices: 4, vocabulary: 256, layers: 4 }
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        // These are no requests with an answer, or pages.
        const OTHERS: [&str; 5] = ["/", "/explorer/{*file}", "/mcp", "/v1/stream", "/v1/{model}/stream"];
        for count in [1, 2] {
            let models = (0..count).map(|number| (number.to_string(), PathBuf::new())).collect();
            let mounted = paths(&ServeOptions { models, ..ServeOptions::default() });
            let mounted: BTreeSet<&str> = mounted.into_iter().filter(|path| !OTHERS.contains(path)).collect();
            let description = description(&bounds(count > 1));
            let described: BTreeSet<&str> =
                description["paths"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(described, mounted);
        }
    }

    #[test]
    fn numbers_are_bounded_by_a_pattern() {
        assert_eq!(numbers_to(4), "[0-4]");
        assert_eq!(numbers_to(29), "[0-9]|1[0-9]|2[0-9]");
        assert_eq!(numbers_to(30), "[0-9]|1[0-9]|2[0-9]|3[0-0]");
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let description = description(&bounds(true));
        let operations = description["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|path| path.as_object().unwrap().values());
        let names: Vec<&str> =
            operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
