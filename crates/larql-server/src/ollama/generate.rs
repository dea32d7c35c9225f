//! `POST /api/generate`: a prompt is answered, or with `raw` continued.

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
use crate::generation::{self, Settings};
use crate::prompt::Conversation;
use crate::sessions::Target;
use crate::state::{App, SessionName};

/// A request.
#[derive(Debug, Deserialize)]
pub(crate) struct GenerateRequest {
    model: Option<String>,
    #[serde(default)]
    prompt: String,
    system: Option<String>,
    suffix: Option<String>,
    images: Option<Vec<Value>>,
    raw: Option<bool>,
    stream: Option<bool>,
    format: Option<Value>,
    options: Option<ModelOptions>,
}

/// Answers a request.
pub(crate) async fn generate(
    State(app): State<App>,
    session: SessionName,
    Body(request): Body<GenerateRequest>,
) -> Result<Response, ApiError> {
    let target = app.target(request.model.as_deref(), &session)?;
    let model = target.model.name.clone();
    if request.images.as_ref().is_some_and(|images| !images.is_empty()) {
        return Err(ApiError::field("images", "this model reads text alone; leave images out"));
    }
    if request.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::field("suffix", "suffix is not supported; leave it out"));
    }
    let options = request.options.clone().unwrap_or_default();
    // Of requests that only load the model too.
    options.settings(None).check(&app.options.limits)?;
    if request.prompt.is_empty() {
        // Ollama's clients load a model so.
        target.language()?;
        let body =
            json!({"model": model, "created_at": now(), "response": "", "done": true, "done_reason": "load"});
        return Ok(Json(body).into_response());
    }
    let settings: Settings = options.settings(grammar(request.format.as_ref(), &target.model)?);
    let events = generation::start(&app, &target, prompt(&app, &target, &request)?, settings)?;
    let piece =
        move |text: &str| json!({"model": model, "created_at": now(), "response": text, "done": false});
    if request.stream == Some(false) {
        let answer = events.whole().await?;
        return Ok(Json(with(piece(&answer.text), end(&answer.finish))).into_response());
    }
    Ok(lines(events.filter_map(move |event| {
        std::future::ready(match event {
            Event::Token(token) if !token.text.is_empty() => Some(piece(&token.text)),
            Event::Prompt(_) | Event::Token(_) => None,
            Event::Finished(finish) => Some(with(piece(&finish.text), end(&finish))),
            Event::Failed(error) => Some(ApiError::from(error).flat()),
        })
    })))
}

fn prompt(app: &App, target: &Target, request: &GenerateRequest) -> Result<Vec<u32>, ApiError> {
    let language = target.language()?;
    if request.raw == Some(true) || language.template().is_none() {
        return Ok(language.encode(&request.prompt, true)?);
    }
    let system = request.system.iter().map(|text| json!({"role": "system", "content": text}));
    let user = json!({"role": "user", "content": request.prompt});
    let conversation = Conversation {
        messages: system.chain([user]).collect(),
        tools: None,
        special_tokens: app.options.special_tokens_in_messages,
    };
    conversation.tokens(&target.model, language)
}
