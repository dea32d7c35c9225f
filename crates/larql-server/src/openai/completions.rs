//! `POST /v1/completions`: texts that go on.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::{Prompt, Prompts, SamplingFields, StreamOptions, Texts, Usage, choices};
use super::logprobs::{self, Scored};
use super::stream;
use crate::body::Body;
use crate::engine::{Event, Finish};
use crate::error::ApiError;
use crate::generation::{self, Answer, Settings, finish_reason};
use crate::sessions::Target;
use crate::state::{App, SessionName, unix_seconds};

/// Alternatives of a token at most, as in OpenAI's interface.
const ALTERNATIVES: usize = 20;

/// A request.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionRequest {
    model: Option<String>,
    prompt: Prompts,
    max_tokens: Option<usize>,
    n: Option<usize>,
    #[serde(default)]
    stop: Option<Texts>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<usize>,
    echo: Option<bool>,
    suffix: Option<String>,
    best_of: Option<usize>,
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// A prompt, ready to be continued.
struct Ready {
    text: String,
    tokens: Vec<u32>,
}

/// Answers a request.
pub(crate) async fn completions(
    State(app): State<App>,
    session: SessionName,
    Body(request): Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let target = app.target(request.model.as_deref(), &session)?;
    check(&request)?;
    let n = choices(request.n, app.options.limits.choices)?;
    let prompts = prompts(&target, request.prompt.clone())?;
    if prompts.len() * n > app.options.limits.choices {
        let message = format!(
            "prompts and n ask for {} texts; this server gives {} at most",
            prompts.len() * n,
            app.options.limits.choices
        );
        return Err(ApiError::field("prompt", message));
    }
    let (id, created) = (app.new_id("cmpl"), unix_seconds());
    let frame =
        json!({"id": id, "object": "text_completion", "created": created, "model": target.model.name});
    if request.stream == Some(true) {
        return streamed(&app, &target, &request, prompts, n, frame);
    }
    let mut answers = Vec::new();
    for (prompt, choice) in prompts.iter().flat_map(|prompt| (0..n).map(move |choice| (prompt, choice))) {
        answers.push(generation::start(&app, &target, prompt.tokens.clone(), request.settings(choice)?)?);
    }
    let answers = try_join_all(answers.into_iter().map(generation::Events::whole)).await?;
    let mut usage = Usage::default();
    let choices = answers.iter().enumerate().map(|(index, answer)| {
        usage.add(&answer.finish, index % n == 0);
        choice(&target, &request, &prompts[index / n], answer, index)
    });
    let choices: Vec<Value> = choices.collect::<Result<_, ApiError>>()?;
    let mut body = frame;
    body["choices"] = choices.into();
    body["usage"] = usage.json();
    Ok(Json(body).into_response())
}

/// Checks fields that cannot be met.
fn check(request: &CompletionRequest) -> Result<(), ApiError> {
    let stream = request.stream == Some(true);
    if request.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::field("suffix", "suffix is not supported; leave it out"));
    }
    if request.best_of.is_some_and(|best_of| best_of > request.n.unwrap_or(1)) {
        return Err(ApiError::field("best_of", "best_of is not supported; ask for n texts"));
    }
    if stream && request.echo == Some(true) {
        return Err(ApiError::field("echo", "echo cannot be streamed; leave out one of the two"));
    }
    match request.logprobs {
        Some(count) if count > ALTERNATIVES => {
            Err(ApiError::field("logprobs", format!("logprobs is {count}; expected 0 to {ALTERNATIVES}")))
        }
        _ => Ok(()),
    }
}

fn prompts(target: &Target, prompts: Prompts) -> Result<Vec<Ready>, ApiError> {
    let language = target.language()?;
    let ready = |prompt| match prompt {
        Prompt::Text(text) => {
            let tokens = language.encode(&text, true)?;
            Ok(Ready { text, tokens })
        }
        Prompt::Tokens(tokens) => Ok(Ready { text: language.tokenizer().decode(&tokens, false), tokens }),
    };
    let prompts: Vec<Ready> = prompts.into_vec().into_iter().map(ready).collect::<Result<_, ApiError>>()?;
    match prompts.is_empty() || prompts.iter().any(|prompt| prompt.tokens.is_empty()) {
        true => Err(ApiError::field("prompt", "prompt has no tokens; give at least one")),
        false => Ok(prompts),
    }
}

impl CompletionRequest {
    fn settings(&self, choice: usize) -> Result<Settings, ApiError> {
        let scores_prompt = self.echo == Some(true);
        Ok(Settings {
            // OpenAI's default for completions, which many programs rely on.
            max_tokens: self.max_tokens.or(Some(16)),
            sampling: self.sampling.options(choice)?,
            stop_texts: self.stop.clone().unwrap_or_default().into_vec(),
            alternatives: self.logprobs,
            prompt_alternatives: self.logprobs.filter(|_| scores_prompt),
            grammar: None,
        })
    }
}

fn choice(
    target: &Target,
    request: &CompletionRequest,
    prompt: &Ready,
    answer: &Answer,
    index: usize,
) -> Result<Value, ApiError> {
    let tokenizer = target.language()?.tokenizer();
    let echo = request.echo == Some(true);
    let logprobs = request.logprobs.map(|_| {
        let before = Scored::of_prompt(&prompt.tokens, &answer.prompt);
        let offset = if echo { 0 } else { prompt.text.chars().count() };
        logprobs::of_completion(tokenizer, before.chain(answer.tokens.iter().map(Scored::of_text)), offset)
    });
    let text = if echo { format!("{}{}", prompt.text, answer.text) } else { answer.text.clone() };
    let reason = finish_reason(answer.finish.reason);
    Ok(json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}))
}

/// Answers piece by piece.
fn streamed(
    app: &App,
    target: &Target,
    request: &CompletionRequest,
    prompts: Vec<Ready>,
    n: usize,
    frame: Value,
) -> Result<Response, ApiError> {
    let tokenizer = Arc::clone(target.language()?.tokenizer());
    let usage = Arc::new(Mutex::new(Usage::default()));
    let wants_logprobs = request.logprobs.is_some();
    let mut streams = Vec::new();
    for (index, prompt) in
        prompts.into_iter().flat_map(|prompt| std::iter::repeat_n(Arc::new(prompt), n)).enumerate()
    {
        let events = generation::start(app, target, prompt.tokens.clone(), request.settings(index % n)?)?;
        let (tokenizer, usage, frame) = (Arc::clone(&tokenizer), Arc::clone(&usage), frame.clone());
        let mut offset = prompt.text.chars().count();
        streams.push(events.filter_map(move |event| {
            let piece = |text: &str, logprobs: Option<Value>, reason: Option<&str>| {
                let mut chunk = frame.clone();
                let choice =
                    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason});
                chunk["choices"] = json!([choice]);
                chunk
            };
            std::future::ready(match event {
                Event::Prompt(_) => None,
                Event::Token(token) => {
                    let logprobs = wants_logprobs.then(|| {
                        logprobs::of_completion(&tokenizer, std::iter::once(Scored::of_text(&token)), offset)
                    });
                    offset += token.text.chars().count();
                    (wants_logprobs || !token.text.is_empty()).then(|| piece(&token.text, logprobs, None))
                }
                Event::Finished(finish) => {
                    add(&usage, &finish, index % n == 0);
                    Some(piece(&finish.text, None, Some(finish_reason(finish.reason))))
                }
                Event::Failed(error) => Some(ApiError::from(error).nested()),
            })
        }));
    }
    let include_usage = request.stream_options.unwrap_or_default().include_usage;
    let last = futures_util::stream::iter(include_usage.then_some(())).map(move |()| {
        let mut chunk = frame.clone();
        chunk["choices"] = json!([]);
        chunk["usage"] = usage.lock().unwrap_or_else(PoisonError::into_inner).json();
        chunk
    });
    Ok(stream::events(futures_util::stream::select_all(streams).chain(last), true))
}

/// Adds a text to shared numbers of tokens.
pub(super) fn add(usage: &Mutex<Usage>, finish: &Finish, first_choice: bool) {
    usage.lock().unwrap_or_else(PoisonError::into_inner).add(finish, first_choice);
}
