//! Generating text for a request, whichever interface it came by.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::Stream;
use larql_inference::{DecodeOptions, SamplingOptions, StopReason};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::{Event, Finish, GenerationRequest, PromptToken, Token};
use crate::error::ApiError;
use crate::grammar::Grammar;
use crate::options::Limits;
use crate::sessions::Target;
use crate::state::App;

/// Wishes for a text.
pub(crate) struct Settings {
    /// Greatest number of tokens; the server's default if none is given.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: SamplingOptions,
    /// Texts that end the text.
    pub(crate) stop_texts: Vec<String>,
    /// Alternatives that are returned with each token; none to return no probabilities.
    pub(crate) alternatives: Option<usize>,
    /// The same for the tokens of the prompt.
    pub(crate) prompt_alternatives: Option<usize>,
    /// Grammar that the text has to meet.
    pub(crate) grammar: Option<Grammar>,
}

impl Settings {
    /// Returns settings of a text of the likeliest tokens.
    pub(crate) fn greedy(max_tokens: Option<usize>) -> Settings {
        Settings {
            max_tokens,
            sampling: SamplingOptions::default(),
            stop_texts: Vec::new(),
            alternatives: None,
            prompt_alternatives: None,
            grammar: None,
        }
    }

    /// Checks what holds for every model.
    ///
    /// # Errors
    /// If the choice of tokens is out of range, or there are more than the server generates.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), ApiError> {
        self.sampling.check().map_err(|error| ApiError::invalid(error.to_string()))?;
        check_tokens(self.max_tokens, limits)
    }
}

/// Checks a number of tokens that a request asks for.
///
/// # Errors
/// If it is more than the server generates.
pub(crate) fn check_tokens(max_tokens: Option<usize>, limits: &Limits) -> Result<(), ApiError> {
    match max_tokens.filter(|tokens| *tokens > limits.most_tokens) {
        None => Ok(()),
        Some(tokens) => {
            let message =
                format!("max_tokens is {tokens}; this server generates {} at most", limits.most_tokens);
            Err(ApiError::field("max_tokens", message))
        }
    }
}

/// Events of a text that is being generated. Dropping it cancels the text.
pub(crate) struct Events {
    receiver: UnboundedReceiver<Event>,
    app: App,
    submitted: Instant,
    /// False until the first token is there.
    begun: bool,
}

/// A whole text.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) prompt: Vec<PromptToken>,
    pub(crate) finish: Finish,
}

/// Begins to generate a text that continues `prompt`.
///
/// # Errors
/// If inference is switched off, the model cannot predict, a setting is out of range, or there is no room.
pub(crate) fn start(
    app: &App,
    target: &Target,
    prompt: Vec<u32>,
    settings: Settings,
) -> Result<Events, ApiError> {
    app.check_runs_models()?;
    let language = target.language()?;
    let limits = &app.options.limits;
    settings.check(limits)?;
    let vocab_size = language.model().spec().vocab_size;
    if let Some((token, _)) =
        settings.sampling.logit_bias.iter().find(|(token, _)| *token as usize >= vocab_size)
    {
        let message =
            format!("logit_bias names token {token}; the model's tokens are 0 to {}", vocab_size - 1);
        return Err(ApiError::field("logit_bias", message));
    }
    let max_tokens = settings.max_tokens.unwrap_or(limits.default_tokens.min(limits.most_tokens));
    let request = GenerationRequest {
        language: language.clone(),
        weights: target.weights,
        prompt,
        decode: DecodeOptions {
            max_tokens,
            stop_tokens: language.stop_tokens().to_vec(),
            sampling: settings.sampling,
            alternatives: settings.alternatives,
        },
        stop_texts: settings.stop_texts,
        constraint: settings.grammar.map(|grammar| Box::new(grammar) as Box<_>),
        prompt_alternatives: settings.prompt_alternatives,
    };
    let receiver = app.scheduler.submit(request)?;
    Ok(Events { receiver, app: App::clone(app), submitted: Instant::now(), begun: false })
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = self.receiver.poll_recv(context);
        if !self.begun && matches!(event, Poll::Ready(Some(Event::Token(_)))) {
            self.begun = true;
            self.app.metrics.first_token_seconds.observe(self.submitted.elapsed().as_secs_f64());
        }
        event
    }
}

impl Events {
    /// Returns the next event; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Waits for the whole text.
    ///
    /// # Errors
    /// If the engine fails.
    pub(crate) async fn whole(mut self) -> Result<Answer, ApiError> {
        let (mut text, mut tokens, mut prompt) = (String::new(), Vec::new(), Vec::new());
        while let Some(event) = self.next().await {
            match event {
                Event::Prompt(part) => prompt.extend(part),
                Event::Token(token) => {
                    text += &token.text;
                    tokens.push(token);
                }
                Event::Finished(finish) => {
                    text += &finish.text;
                    return Ok(Answer { text, tokens, prompt, finish });
                }
                Event::Failed(error) => return Err(error.into()),
            }
        }
        Err(ApiError::internal("the engine ended without an answer; please report it"))
    }
}

/// Returns the reason as OpenAI and Ollama name it: `stop` at a natural end, `length` where there was no room for more.
pub(crate) fn finish_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::MaxTokens | StopReason::ContextFull => "length",
        _ => "stop",
    }
}
