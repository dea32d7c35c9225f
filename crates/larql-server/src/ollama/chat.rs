//! `POST /api/chat`: answers to conversations.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::{ModelOptions, end, grammar, lines, now, with};
use crate::body::Body;
use crate::engine::Event;
use crate::error::ApiError;
use crate::generation;
use crate::openai::{calls_in, may_be_call};
use crate::prompt::{Conversation, template_message};
use crate::state::{App, SessionName};

/// A request.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    stream: Option<bool>,
    format: Option<Value>,
    options: Option<ModelOptions>,
}

/// Answers a request.
pub(crate) async fn chat(
    State(app): State<App>,
    session: SessionName,
    Body(request): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let target = app.target(request.model.as_deref(), &session)?;
    let model = target.model.name.clone();
    let piece =
        move |message: Value| json!({"model": model, "created_at": now(), "message": message, "done": false});
    let options = request.options.clone().unwrap_or_default();
    // Of requests that only load the model too.
    options.settings(None).check(&app.options.limits)?;
    if request.messages.is_empty() {
        // Ollama's clients load a model so.
        target.language()?;
        let message = json!({"role": "assistant", "content": ""});
        return Ok(Json(with(piece(message), json!({"done": true, "done_reason": "load"}))).into_response());
    }
    if request
        .messages
        .iter()
        .any(|message| message["images"].as_array().is_some_and(|images| !images.is_empty()))
    {
        return Err(ApiError::field("messages", "this model reads text alone; leave images out"));
    }
    let tools = request.tools.clone().filter(|tools| !tools.is_empty());
    let may_call = tools.is_some();
    let conversation = Conversation {
        messages: request.messages.iter().map(template_message).collect::<Result<_, _>>()?,
        tools: tools.map(Value::Array),
        special_tokens: app.options.special_tokens_in_messages,
    };
    let prompt = conversation.tokens(&target.model, target.language()?)?;
    let settings = options.settings(grammar(request.format.as_ref(), &target.model)?);
    let events = generation::start(&app, &target, prompt, settings)?;
    if request.stream == Some(false) {
        let answer = events.whole().await?;
        return Ok(Json(with(piece(message(&answer.text, may_call)), end(&answer.finish))).into_response());
    }
    // A text that may turn out to be a call is held back.
    let (mut held, mut may_call) = (String::new(), may_call);
    Ok(lines(events.filter_map(move |event| {
        std::future::ready(match event {
            Event::Prompt(_) => None,
            Event::Token(token) => {
                held += &token.text;
                may_call = may_call && may_be_call(&held);
                (!may_call && !held.is_empty()).then(|| piece(message(&std::mem::take(&mut held), false)))
            }
            Event::Finished(finish) => {
                held += &finish.text;
                Some(with(piece(message(&held, may_call)), end(&finish)))
            }
            Event::Failed(error) => Some(ApiError::from(error).flat()),
        })
    })))
}

/// Returns the message of a text, which is a call where it may be and is one.
fn message(text: &str, may_call: bool) -> Value {
    let calls = if may_call { calls_in(text) } else { Vec::new() };
    if calls.is_empty() {
        return json!({"role": "assistant", "content": text});
    }
    let call = |call: &crate::openai::Call| {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        json!({"function": {"name": call.name, "arguments": arguments}})
    };
    json!({"role": "assistant", "content": "", "tool_calls": calls.iter().map(call).collect::<Vec<_>>()})
}
