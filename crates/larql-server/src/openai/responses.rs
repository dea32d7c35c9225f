//! `/v1/responses`: answers that later ones can continue.
//!
//! Answers are kept in memory, the newest few hundred of them, and never written to disk.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fields::{SamplingFields, Usage};
use super::format::ResponseFormat;
use super::stream;
use crate::body::Body;
use crate::engine::{Event, Finish};
use crate::error::ApiError;
use crate::generation::{self, Settings, finish_reason};
use crate::prompt::{Conversation, template_message};
use crate::sessions::Target;
use crate::state::{App, SessionName, unix_seconds};

/// A request.
#[derive(Debug, Deserialize)]
pub(crate) struct ResponseRequest {
    model: Option<String>,
    input: Value,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    max_output_tokens: Option<usize>,
    stream: Option<bool>,
    store: Option<bool>,
    text: Option<TextOptions>,
    metadata: Option<Map<String, Value>>,
    tools: Option<Vec<Value>>,
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// Options of the text.
#[derive(Debug, Default, Deserialize)]
struct TextOptions {
    format: Option<ResponseFormat>,
}

/// Answers that later ones can continue, oldest first.
pub(crate) struct StoredResponses {
    responses: Mutex<VecDeque<Stored>>,
    most: usize,
}

struct Stored {
    id: String,
    /// Messages up to and with the answer, without instructions.
    messages: Vec<Value>,
    body: Value,
}

impl StoredResponses {
    /// Returns no answers. At most `most` are kept.
    pub(crate) fn new(most: usize) -> StoredResponses {
        StoredResponses { responses: Mutex::default(), most }
    }

    fn find<T>(&self, id: &str, read: impl FnOnce(&Stored) -> T) -> Result<T, ApiError> {
        let responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        let found = responses.iter().find(|stored| stored.id == id).map(read);
        found.ok_or_else(|| {
            ApiError::not_found(format!(
                "there is no response {id:?} here; the newest {} are kept until the server stops",
                self.most
            ))
        })
    }

    fn store(&self, stored: Stored) {
        let mut responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        responses.push_back(stored);
        while responses.len() > self.most {
            responses.pop_front();
        }
    }

    fn remove(&self, id: &str) -> bool {
        let mut responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        let before = responses.len();
        responses.retain(|stored| stored.id != id);
        responses.len() < before
    }
}

/// Answers a request.
pub(crate) async fn create_response(
    State(app): State<App>,
    session: SessionName,
    Body(request): Body<ResponseRequest>,
) -> Result<Response, ApiError> {
    let target = app.target(request.model.as_deref(), &session)?;
    if request.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        return Err(ApiError::field(
            "tools",
            "functions are called by /v1/chat/completions; leave tools out here",
        ));
    }
    if request.max_output_tokens == Some(0) {
        return Err(ApiError::field("max_output_tokens", "max_output_tokens is 0; expected at least 1"));
    }
    let mut messages = match &request.previous_response_id {
        Some(id) => app.responses.find(id, |stored| stored.messages.clone())?,
        None => Vec::new(),
    };
    messages.extend(input_messages(&request.input)?);
    let prompt = prompt(&app, &target, &request, &messages)?;
    let format = request.text.as_ref().and_then(|text| text.format.clone()).unwrap_or_default();
    let settings = Settings {
        sampling: request.sampling.options(0)?,
        grammar: format.grammar(&target.model, "text")?,
        ..Settings::greedy(request.max_output_tokens)
    };
    let events = generation::start(&app, &target, prompt, settings)?;
    let frame = Frame::new(&app, &target, &request, messages);
    if request.stream == Some(true) {
        return Ok(streamed(app, frame, events));
    }
    let answer = events.whole().await?;
    Ok(Json(frame.complete(&app, &answer.text, &answer.finish)).into_response())
}

/// Shows a stored answer.
pub(crate) async fn show_response(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    app.responses.find(&id, |stored| Json(stored.body.clone()))
}

/// Forgets a stored answer.
pub(crate) async fn delete_response(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    app.responses.find(&id, |_| ())?;
    let deleted = app.responses.remove(&id);
    Ok(Json(json!({"id": id, "object": "response", "deleted": deleted})))
}

/// Returns the messages of an input: a text, or a list of messages.
fn input_messages(input: &Value) -> Result<Vec<Value>, ApiError> {
    let invalid =
        || ApiError::field("input", "input has to be a text or a list of messages; give at least one");
    match input {
        Value::String(text) => Ok(vec![json!({"role": "user", "content": text})]),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| match item.get("type") {
                None => template_message(item),
                Some(kind) if kind == "message" => template_message(item),
                Some(other) => Err(ApiError::field(
                    "input",
                    format!("input has an item of type {other}; expected \"message\""),
                )),
            })
            .collect(),
        _ => Err(invalid()),
    }
}

fn prompt(
    app: &App,
    target: &Target,
    request: &ResponseRequest,
    messages: &[Value],
) -> Result<Vec<u32>, ApiError> {
    let system = request.instructions.iter().map(|text| json!({"role": "system", "content": text}));
    let conversation = Conversation {
        messages: system.chain(messages.iter().cloned()).collect(),
        tools: None,
        special_tokens: app.options.special_tokens_in_messages,
    };
    conversation.tokens(&target.model, target.language()?)
}

/// An answer without its text.
struct Frame {
    id: String,
    item: String,
    body: Value,
    messages: Vec<Value>,
    stores: bool,
}

impl Frame {
    fn new(app: &App, target: &Target, request: &ResponseRequest, messages: Vec<Value>) -> Frame {
        let (id, item) = (app.new_id("resp"), app.new_id("msg"));
        let body = json!({
            "id": id,
            "object": "response",
            "created_at": unix_seconds(),
            "status": "in_progress",
            "error": null,
            "incomplete_details": null,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "model": target.model.name,
            "output": [],
            "parallel_tool_calls": false,
            "previous_response_id": request.previous_response_id,
            "store": request.store.unwrap_or(true),
            "temperature": null,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": null,
            "truncation": "disabled",
            "metadata": request.metadata.clone().unwrap_or_default(),
            "usage": null,
        });
        Frame { id, item, body, messages, stores: request.store.unwrap_or(true) }
    }

    fn message(&self, text: &str, status: &str) -> Value {
        let content = json!({"type": "output_text", "text": text, "annotations": []});
        json!({"type": "message", "id": self.item, "status": status, "role": "assistant", "content": [content]})
    }

    /// Returns the whole answer, and keeps it if that is wanted.
    fn complete(mut self, app: &App, text: &str, finish: &Finish) -> Value {
        let complete = finish_reason(finish.reason) == "stop";
        let status = if complete { "completed" } else { "incomplete" };
        let mut usage = Usage::default();
        usage.add(finish, true);
        self.body["status"] = status.into();
        self.body["output"] = json!([self.message(text, status)]);
        self.body["usage"] = usage.response_json();
        if !complete {
            self.body["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        if self.stores {
            self.messages.push(json!({"role": "assistant", "content": text}));
            let (id, messages, body) = (self.id, self.messages, self.body.clone());
            app.responses.store(Stored { id, messages, body });
        }
        self.body
    }
}

/// Answers piece by piece, by the events that OpenAI names.
fn streamed(app: App, frame: Frame, events: generation::Events) -> Response {
    let mut number = 0;
    let numbered = move |mut event: Value| {
        event["sequence_number"] = number.into();
        number += 1;
        event
    };
    let item = frame.item.clone();
    let place = move |mut event: Value| {
        event["item_id"] = item.clone().into();
        event["output_index"] = 0.into();
        event["content_index"] = 0.into();
        event
    };
    let part = json!({"type": "output_text", "text": "", "annotations": []});
    let mut added = frame.message("", "in_progress");
    added["content"] = json!([]);
    let begin = [
        json!({"type": "response.created", "response": frame.body}),
        json!({"type": "response.in_progress", "response": frame.body}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": added}),
        place(json!({"type": "response.content_part.added", "part": part})),
    ];
    let (mut text, mut frame) = (String::new(), Some(frame));
    let of_event = move |event: Event| -> Vec<Value> {
        let delta =
            |text: &str| place(json!({"type": "response.output_text.delta", "delta": text, "logprobs": []}));
        match event {
            Event::Prompt(_) => Vec::new(),
            Event::Token(token) if token.text.is_empty() => Vec::new(),
            Event::Token(token) => {
                text += &token.text;
                vec![delta(&token.text)]
            }
            Event::Finished(finish) => {
                let Some(frame) = frame.take() else { return Vec::new() };
                let mut values = Vec::new();
                if !finish.text.is_empty() {
                    text += &finish.text;
                    values.push(delta(&finish.text));
                }
                let body = frame.complete(&app, &text, &finish);
                let output = &body["output"][0];
                let kind =
                    if body["status"] == "completed" { "response.completed" } else { "response.incomplete" };
                values.extend([
                    place(json!({"type": "response.output_text.done", "text": text, "logprobs": []})),
                    place(json!({"type": "response.content_part.done", "part": output["content"][0]})),
                    json!({"type": "response.output_item.done", "output_index": 0, "item": output}),
                    json!({"type": kind, "response": body}),
                ]);
                values
            }
            Event::Failed(error) => {
                vec![
                    json!({"type": "error", "code": "server_error", "message": error.to_string(), "param": null}),
                ]
            }
        }
    };
    let events = events.map(of_event).flat_map(futures_util::stream::iter);
    stream::typed_events(futures_util::stream::iter(begin).chain(events).map(numbered))
}
