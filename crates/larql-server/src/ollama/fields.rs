//! Fields that several requests and answers share.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use larql_inference::SamplingOptions;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::Finish;
use crate::error::ApiError;
use crate::generation::{Settings, finish_reason};
use crate::grammar::Grammar;
use crate::models::ServedModel;

/// Options of a model. Absent ones have Ollama's defaults.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ModelOptions {
    num_predict: Option<i64>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<Vec<String>>,
}

impl ModelOptions {
    /// Returns the settings of a text.
    pub(super) fn settings(&self, grammar: Option<Grammar>) -> Settings {
        let seed = self.seed.map_or_else(rand::random, |seed| seed as u64);
        let sampling = SamplingOptions {
            temperature: self.temperature.unwrap_or(0.8),
            top_k: self.top_k.unwrap_or(40),
            top_p: self.top_p.unwrap_or(0.9),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repeat_penalty.unwrap_or(1.1),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            logit_bias: Vec::new(),
            seed,
        };
        // Numbers below 0 ask for as much as there is room for.
        let max_tokens = self.num_predict.and_then(|tokens| usize::try_from(tokens).ok());
        let stop_texts = self.stop.clone().unwrap_or_default();
        Settings { sampling, stop_texts, grammar, ..Settings::greedy(max_tokens) }
    }
}

/// Returns the grammar of a `format`: the word `json`, or a schema.
///
/// # Errors
/// If it is neither.
pub(super) fn grammar(format: Option<&Value>, model: &ServedModel) -> Result<Option<Grammar>, ApiError> {
    let schema = match format {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(word)) if word.is_empty() => return Ok(None),
        Some(Value::String(word)) if word == "json" => json!({"type": "object"}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(other) => {
            return Err(ApiError::field(
                "format",
                format!("format is {other}; expected \"json\" or a schema"),
            ));
        }
    };
    model.vocabulary()?.json_schema(&schema, "format").map(Some)
}

/// Returns the fields of the last part of an answer, besides its text.
pub(super) fn end(finish: &Finish) -> Value {
    let nanoseconds = |time: std::time::Duration| time.as_nanos() as u64;
    json!({
        "done": true,
        "done_reason": finish_reason(finish.reason),
        "total_duration": nanoseconds(finish.prefill + finish.decode),
        "load_duration": 0,
        "prompt_eval_count": finish.prompt,
        "prompt_eval_duration": nanoseconds(finish.prefill),
        "eval_count": finish.tokens,
        "eval_duration": nanoseconds(finish.decode),
    })
}

/// Returns `value` with the fields of `more`.
pub(super) fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

/// Returns the time as Ollama writes it.
pub(super) fn now() -> String {
    Timestamp::now().to_string()
}

/// Returns an answer of one line of JSON for each value.
pub(super) fn lines(values: impl Stream<Item = Value> + Send + 'static) -> Response {
    let lines = values.map(|value| Ok::<_, Infallible>(Bytes::from(format!("{value}\n"))));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
