//! `POST /v1/chat/completions`: answers to conversations.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use larql_models::Tokenizer;
use serde::Deserialize;
use serde_json::{Value, json};

use super::completions::add;
use super::fields::{SamplingFields, StreamOptions, Texts, Usage, choices};
use super::format::ResponseFormat;
use super::tools::{Call, Calls, Tool, ToolChoice, calls_in, may_be_call};
use super::{logprobs, stream};
use crate::body::Body;
use crate::engine::{Event, Finish, Token};
use crate::error::ApiError;
use crate::generation::{self, Answer, Events, Settings, finish_reason};
use crate::prompt::{Conversation, template_message};
use crate::sessions::Target;
use crate::state::{App, SessionName, unix_seconds};

/// Alternatives of a token at most, as in OpenAI's interface.
const ALTERNATIVES: usize = 20;

/// A request.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    model: Option<String>,
    messages: Vec<Value>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    n: Option<usize>,
    stop: Option<Texts>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    response_format: Option<ResponseFormat>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<ToolChoice>,
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// A request whose fields are checked.
struct Checked {
    target: Target,
    request: ChatRequest,
    calls: Calls,
    prompt: Vec<u32>,
    choices: usize,
}

/// Answers a request.
pub(crate) async fn chat_completions(
    State(app): State<App>,
    session: SessionName,
    Body(request): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let target = app.target(request.model.as_deref(), &session)?;
    let checked = Checked::new(&app, target, request)?;
    let id = app.new_id("chatcmpl");
    let frame = json!({"id": id, "object": "chat.completion", "created": unix_seconds(), "model": checked.target.model.name});
    if checked.request.stream == Some(true) {
        return checked.streamed(&app, frame);
    }
    let answers = (0..checked.choices).map(|choice| checked.start(&app, choice));
    let answers: Vec<Events> = answers.collect::<Result<_, _>>()?;
    let answers = try_join_all(answers.into_iter().map(Events::whole)).await?;
    let tokenizer = checked.target.language()?.tokenizer();
    let mut usage = Usage::default();
    let choices = answers.iter().enumerate().map(|(index, answer)| {
        usage.add(&answer.finish, index == 0);
        checked.choice(&app, tokenizer, answer, index)
    });
    let mut body = frame;
    body["choices"] = choices.collect::<Vec<_>>().into();
    body["usage"] = usage.json();
    Ok(Json(body).into_response())
}

impl Checked {
    fn new(app: &App, target: Target, request: ChatRequest) -> Result<Checked, ApiError> {
        if request.messages.is_empty() {
            return Err(ApiError::field("messages", "messages is empty; give at least one"));
        }
        // Both may be given; the newer name then counts.
        generation::check_tokens(request.max_tokens, &app.options.limits)?;
        if request.top_logprobs.is_some_and(|count| count > ALTERNATIVES) {
            return Err(ApiError::field("top_logprobs", format!("top_logprobs may be 0 to {ALTERNATIVES}")));
        }
        if request.top_logprobs.is_some() && request.logprobs != Some(true) {
            return Err(ApiError::field("top_logprobs", "top_logprobs needs logprobs to be true"));
        }
        let tools = request.tools.as_deref().unwrap_or_default();
        let calls = request.tool_choice.clone().unwrap_or_default().calls(tools)?;
        let conversation = Conversation {
            messages: request.messages.iter().map(template_message).collect::<Result<_, _>>()?,
            tools: (!matches!(calls, Calls::None)).then(|| Tool::descriptions(tools)),
            special_tokens: app.options.special_tokens_in_messages,
        };
        let prompt = conversation.tokens(&target.model, target.language()?)?;
        let choices = choices(request.n, app.options.limits.choices)?;
        Ok(Checked { target, request, calls, prompt, choices })
    }

    fn start(&self, app: &App, choice: usize) -> Result<Events, ApiError> {
        let request = &self.request;
        let model = &self.target.model;
        let grammar = match self.calls.grammar(model)? {
            Some(grammar) => Some(grammar),
            None => request.response_format.clone().unwrap_or_default().grammar(model, "response_format")?,
        };
        let alternatives = (request.logprobs == Some(true)).then(|| request.top_logprobs.unwrap_or(0));
        let settings = Settings {
            max_tokens: request.max_completion_tokens.or(request.max_tokens),
            sampling: request.sampling.options(choice)?,
            stop_texts: request.stop.clone().unwrap_or_default().into_vec(),
            alternatives,
            prompt_alternatives: None,
            grammar,
        };
        generation::start(app, &self.target, self.prompt.clone(), settings)
    }

    fn calls_in(&self, text: &str) -> Vec<Call> {
        if matches!(self.calls, Calls::None) { Vec::new() } else { calls_in(text) }
    }

    fn choice(&self, app: &App, tokenizer: &Tokenizer, answer: &Answer, index: usize) -> Value {
        let calls = self.calls_in(&answer.text);
        let logprobs =
            (self.request.logprobs == Some(true)).then(|| logprobs::of_chat(tokenizer, &answer.tokens));
        let reason = if calls.is_empty() { finish_reason(answer.finish.reason) } else { "tool_calls" };
        let mut message = json!({"role": "assistant", "content": answer.text, "refusal": null});
        if !calls.is_empty() {
            message["content"] = Value::Null;
            message["tool_calls"] = calls.iter().map(|call| call_json(app, call)).collect();
        }
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
    }

    /// Answers piece by piece.
    fn streamed(self, app: &App, mut frame: Value) -> Result<Response, ApiError> {
        frame["object"] = "chat.completion.chunk".into();
        let tokenizer = Arc::clone(self.target.language()?.tokenizer());
        let usage = Arc::new(Mutex::new(Usage::default()));
        let mut streams = Vec::new();
        for index in 0..self.choices {
            let mut pieces = Pieces {
                app: App::clone(app),
                tokenizer: Arc::clone(&tokenizer),
                frame: frame.clone(),
                index,
                usage: Arc::clone(&usage),
                wants_logprobs: self.request.logprobs == Some(true),
                may_call: !matches!(self.calls, Calls::None),
                held: String::new(),
            };
            let begin = pieces.piece(json!({"role": "assistant", "content": ""}), None, None);
            let events = self.start(app, index)?;
            let chunks = events.flat_map(move |event| futures_util::stream::iter(pieces.of_event(event)));
            streams.push(futures_util::stream::iter([begin]).chain(chunks));
        }
        let include_usage = self.request.stream_options.unwrap_or_default().include_usage;
        let last = futures_util::stream::iter(include_usage.then_some(())).map(move |()| {
            let mut chunk = frame.clone();
            chunk["choices"] = json!([]);
            chunk["usage"] = usage.lock().unwrap_or_else(PoisonError::into_inner).json();
            chunk
        });
        Ok(stream::events(futures_util::stream::select_all(streams).chain(last), true))
    }
}

fn call_json(app: &App, call: &Call) -> Value {
    let function = json!({"name": call.name, "arguments": call.arguments});
    json!({"id": app.new_id("call"), "type": "function", "function": function})
}

/// The pieces of one choice.
struct Pieces {
    app: App,
    tokenizer: Arc<Tokenizer>,
    frame: Value,
    index: usize,
    usage: Arc<Mutex<Usage>>,
    wants_logprobs: bool,
    /// The text may turn out to be a call; it is held back while it may.
    may_call: bool,
    held: String,
}

impl Pieces {
    fn piece(&self, delta: Value, logprobs: Option<Value>, reason: Option<&str>) -> Value {
        let mut chunk = self.frame.clone();
        let choice =
            json!({"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": reason});
        chunk["choices"] = json!([choice]);
        chunk
    }

    fn of_event(&mut self, event: Event) -> Vec<Value> {
        match event {
            Event::Prompt(_) => Vec::new(),
            Event::Token(token) => self.of_token(&token).into_iter().collect(),
            Event::Finished(finish) => self.of_end(&finish),
            Event::Failed(error) => vec![ApiError::from(error).nested()],
        }
    }

    fn of_token(&mut self, token: &Token) -> Option<Value> {
        let logprobs = self.wants_logprobs.then(|| logprobs::of_chat(&self.tokenizer, [token]));
        let mut text = token.text.clone();
        if self.may_call {
            self.held += &text;
            if may_be_call(&self.held) {
                return None;
            }
            self.may_call = false;
            text = std::mem::take(&mut self.held);
        }
        let says_something = logprobs.is_some() || !text.is_empty();
        says_something.then(|| self.piece(json!({"content": text}), logprobs, None))
    }

    fn of_end(&mut self, finish: &Finish) -> Vec<Value> {
        add(&self.usage, finish, self.index == 0);
        let text = std::mem::take(&mut self.held) + &finish.text;
        let calls = if self.may_call { calls_in(&text) } else { Vec::new() };
        let mut pieces = Vec::new();
        if !calls.is_empty() {
            let calls = calls.iter().enumerate().map(|(index, call)| {
                let mut call = call_json(&self.app, call);
                call["index"] = index.into();
                call
            });
            pieces.push(self.piece(json!({"tool_calls": calls.collect::<Vec<_>>()}), None, None));
            pieces.push(self.piece(json!({}), None, Some("tool_calls")));
            return pieces;
        }
        if !text.is_empty() {
            pieces.push(self.piece(json!({"content": text}), None, None));
        }
        pieces.push(self.piece(json!({}), None, Some(finish_reason(finish.reason))));
        pieces
    }
}
