//! `/v1/stream`: describe layer by layer, infer, and generate token by token, over a WebSocket.
//!
//! One question runs at a time. A message `{"type": "cancel"}` ends it; any other message waits until it is done.

use std::collections::VecDeque;
use std::time::Instant;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use larql_inference::StopReason;
use larql_lql::ast::{Describe, Detail, Infer, Pipe, Statement};
use larql_lql::output::Output;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::engine::Event;
use crate::error::ApiError;
use crate::generation::{self, Settings};
use crate::larql::{Asked, ask, edge_json, scope, stream_statement, subject};
use crate::state::App;

/// Bytes of a message at most.
const MESSAGE_BYTES: usize = 1 << 20;

/// Messages that wait while a question is answered.
const MESSAGES: usize = 16;

/// A message of a client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Question {
    Describe { entity: String, band: Option<String> },
    Infer { prompt: String, top: Option<usize>, mode: Option<String> },
    Generate { prompt: String, max_tokens: Option<usize>, temperature: Option<f32>, seed: Option<u64> },
    Cancel,
}

/// Takes a connection.
pub(crate) async fn connect(State(app): State<App>, asked: Asked, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MESSAGE_BYTES).on_upgrade(move |socket| async move {
        Connection { app, asked, socket, waiting: VecDeque::new() }.serve().await;
    })
}

struct Connection {
    app: App,
    asked: Asked,
    socket: WebSocket,
    /// Messages that came while a question was being answered, first come first.
    waiting: VecDeque<String>,
}

/// The client has gone away.
struct Gone;

impl Connection {
    /// Answers until the client goes away.
    async fn serve(mut self) {
        while let Some(text) = self.receive().await {
            let answered = match serde_json::from_str(&text) {
                Ok(question) => self.answer(question).await,
                Err(error) => {
                    Ok(Err(ApiError::invalid(format!("the message is not what was expected: {error}"))))
                }
            };
            let sent = match answered {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => self.send(json!({"type": "error", "message": error.message})).await,
                Err(Gone) => Err(Gone),
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// The next message; none once the client has gone away.
    async fn receive(&mut self) -> Option<String> {
        match self.waiting.pop_front() {
            Some(text) => Some(text),
            None => text_of(&mut self.socket).await,
        }
    }

    async fn send(&mut self, value: Value) -> Result<(), Gone> {
        self.socket.send(Message::Text(value.to_string().into())).await.map_err(|_| Gone)
    }

    async fn answer(&mut self, question: Question) -> Result<Result<(), ApiError>, Gone> {
        match question {
            Question::Describe { entity, band } => self.describe(&entity, band.as_deref()).await,
            Question::Infer { prompt, top, mode } => self.infer(&prompt, top, mode.as_deref()).await,
            Question::Generate { prompt, max_tokens, temperature, seed } => {
                let mut settings = Settings::greedy(max_tokens);
                settings.sampling.temperature = temperature.unwrap_or(0.0);
                settings.sampling.seed = seed.unwrap_or(0);
                self.generate(&prompt, settings).await
            }
            // Nothing runs.
            Question::Cancel => Ok(Ok(())),
        }
    }

    async fn describe(&mut self, entity: &str, band: Option<&str>) -> Result<Result<(), ApiError>, Gone> {
        let started = Instant::now();
        let parts = subject("entity", entity).and_then(|subject| Ok((subject, scope(band)?)));
        let (subject, scope) = match parts {
            Ok(parts) => parts,
            Err(error) => return Ok(Err(error)),
        };
        let statement = Describe {
            entity: subject,
            scope: Some(scope),
            layer: None,
            relations_only: false,
            detail: Some(Detail::Verbose),
            limit: None,
            stream: true,
        };
        let pipe = Pipe { stages: vec![Statement::Describe(statement).into()] };
        let (sender, mut layers) = unbounded_channel();
        let (app, asked) = (App::clone(&self.app), self.asked.clone());
        let mut task = tokio::spawn(async move { stream_statement(&app, &asked, pipe, sender).await });
        let mut total = 0;
        loop {
            match self.next_of(&mut layers).await? {
                Next::Value(Output::Describe(described)) => {
                    for band in described.bands {
                        total += band.edges.len();
                        let edges: Vec<Value> = band.edges.iter().map(|edge| edge_json(edge, true)).collect();
                        self.send(json!({"type": "layer", "layer": band.layer, "edges": edges})).await?;
                    }
                }
                Next::Value(_) => {}
                Next::End => break,
                Next::Cancelled => {
                    task.abort();
                    self.send(done(
                        started,
                        json!({"entity": entity, "total_edges": total, "cancelled": true}),
                    ))
                    .await?;
                    return Ok(Ok(()));
                }
            }
        }
        match (&mut task).await {
            Ok(Ok(())) => {
                self.send(done(started, json!({"entity": entity, "total_edges": total}))).await.map(Ok)
            }
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => Ok(Err(ApiError::internal("an assertion failed; please report it"))),
        }
    }

    async fn infer(
        &mut self,
        prompt: &str,
        top: Option<usize>,
        mode: Option<&str>,
    ) -> Result<Result<(), ApiError>, Gone> {
        let mode = mode.unwrap_or("walk");
        let answered = async {
            let target = self.asked.target(&self.app)?;
            let statement = Infer {
                prompt: subject("prompt", prompt)?,
                top: Some(top.unwrap_or(5).clamp(1, self.app.options.limits.rows).into()),
                compare: mode == "compare" || mode == "dense",
                intervention: None,
            };
            ask(&self.app, &target, Statement::Infer(statement)).await
        };
        let (output, latency) = match answered.await {
            Ok(answered) => answered,
            Err(error) => return Ok(Err(error)),
        };
        let Output::Infer(inferred) = output else { return Ok(Ok(())) };
        let run = inferred.runs.iter().find(|run| run.ffn == mode).or(inferred.runs.first());
        let predictions: Vec<_> = run.map(|run| run.predictions.clone()).unwrap_or_default();
        for (index, prediction) in predictions.iter().enumerate() {
            let (token, probability) = (&prediction.token, prediction.probability);
            self.send(
                json!({"type": "prediction", "rank": index + 1, "token": token, "probability": probability}),
            )
            .await?;
        }
        let end = json!({
            "type": "infer_done",
            "prompt": prompt,
            "mode": mode,
            "predictions": predictions.len(),
            "latency_ms": (latency * 100.0).round() / 100.0,
        });
        self.send(end).await.map(Ok)
    }

    async fn generate(&mut self, prompt: &str, settings: Settings) -> Result<Result<(), ApiError>, Gone> {
        let started = Instant::now();
        let events = self.asked.target(&self.app).and_then(|target| {
            let tokens = target.language()?.encode(prompt, true)?;
            generation::start(&self.app, &target, tokens, settings)
        });
        let mut events = match events {
            Ok(events) => events,
            Err(error) => return Ok(Err(error)),
        };
        let mut count = 0;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                message = text_of(&mut self.socket) => match self.keep(message)? {
                    true => {
                        // Dropping the events frees the place.
                        drop(events);
                        self.send(done(started, json!({"tokens": count, "cancelled": true}))).await?;
                        return Ok(Ok(()));
                    }
                    false => continue,
                },
            };
            match event {
                Some(Event::Token(token)) => {
                    self.send(json!({"type": "token", "text": token.text, "index": count})).await?;
                    count += 1;
                }
                Some(Event::Finished(finish)) => {
                    if !finish.text.is_empty() {
                        self.send(json!({"type": "token", "text": finish.text, "index": count})).await?;
                    }
                    let length = matches!(finish.reason, StopReason::MaxTokens | StopReason::ContextFull);
                    let reason = if length { "length" } else { "stop" };
                    let end = json!({"tokens": finish.tokens, "finish_reason": reason});
                    return self.send(done(started, end)).await.map(Ok);
                }
                Some(Event::Failed(error)) => return Ok(Err(error.into())),
                Some(Event::Prompt(_)) => {}
                None => return Ok(Err(ApiError::internal("the engine ended without an answer"))),
            }
        }
    }

    /// The next value of a channel, unless the client cancels.
    async fn next_of<T>(&mut self, values: &mut UnboundedReceiver<T>) -> Result<Next<T>, Gone> {
        loop {
            tokio::select! {
                value = values.recv() => return Ok(value.map_or(Next::End, Next::Value)),
                message = text_of(&mut self.socket) => if self.keep(message)? {
                    return Ok(Next::Cancelled);
                },
            }
        }
    }

    /// Keeps a message that came while a question is answered. Returns true if it cancels the question. A client that sends
    /// more than is kept is let go.
    fn keep(&mut self, message: Option<String>) -> Result<bool, Gone> {
        let text = message.ok_or(Gone)?;
        let cancels = matches!(serde_json::from_str(&text), Ok(Question::Cancel));
        if !cancels {
            if self.waiting.len() == MESSAGES {
                return Err(Gone);
            }
            self.waiting.push_back(text);
        }
        Ok(cancels)
    }
}

/// Next message on a channel.
enum Next<T> {
    Value(T),
    End,
    Cancelled,
}

/// The next text that a client sends; none once it has gone away.
async fn text_of(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => return Some(text.to_string()),
            Message::Close(_) => return None,
            // The library answers pings.
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

fn done(started: Instant, mut end: Value) -> Value {
    end["type"] = "done".into();
    end["latency_ms"] = ((started.elapsed().as_secs_f64() * 1e5).round() / 100.0).into();
    end
}
