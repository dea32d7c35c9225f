//! Answers that come piece by piece, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde_json::Value;

/// Returns an answer of one event for each value. Where `done` is set, the last one is `[DONE]`.
pub(crate) fn events(values: impl Stream<Item = Value> + Send + 'static, done: bool) -> Response {
    let end = futures_util::stream::iter(done.then(|| Event::default().data("[DONE]")));
    respond(values.map(|value| Event::default().data(value.to_string())).chain(end))
}

/// Returns an answer of one event for each value, which is named by the value's `type`.
pub(crate) fn typed_events(values: impl Stream<Item = Value> + Send + 'static) -> Response {
    respond(values.map(|value| {
        let name = value["type"].as_str().unwrap_or_default().to_owned();
        Event::default().event(name).data(value.to_string())
    }))
}

fn respond(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    let mut response = Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive).into_response();
    // Proxies that gather answers would hold the pieces back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
