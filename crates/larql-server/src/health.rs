//! Health and figures of the server.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::App;

/// Tells that the server answers.
pub(crate) async fn health(State(app): State<App>) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "uptime_seconds": app.started.elapsed().as_secs(),
        "requests_served": app.served.load(Ordering::Relaxed),
    }))
}

/// Gives figures in the format that Prometheus reads.
pub(crate) async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, ApiError> {
    let text = app.metrics.text().map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
