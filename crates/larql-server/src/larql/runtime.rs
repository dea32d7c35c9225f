//! The server itself: warm-up, a snapshot, and what it can be asked for.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::browse::loaded;
use super::statement::{Asked, milliseconds};
use crate::body::Body;
use crate::error::ApiError;
use crate::state::App;
use crate::{memory, queries};

/// Wishes for a warm-up.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WarmupRequest {
    skip_weights: bool,
}

/// Loads tokenizer and weights of a model, so that the first question is as quick as the next.
pub(crate) async fn warmup(
    State(app): State<App>,
    asked: Asked,
    Body(request): Body<WarmupRequest>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let started = Instant::now();
    let name = target.model.name.clone();
    let layers = target.model.spec().layers.len();
    let load = move |_: &larql_core::progress::CancelToken| {
        target.model.tokenizer()?;
        if !request.skip_weights {
            target.language()?;
        }
        Ok(!request.skip_weights)
    };
    let weights_loaded = queries::run(&app, load).await?;
    let time = milliseconds(started);
    Ok(Json(json!({
        "model": name,
        "weights_loaded": weights_loaded,
        "weights_load_ms": time,
        "layers_prefetched": if weights_loaded { layers } else { 0 },
        "prefetch_ms": 0.0,
        "hnsw_built": false,
        "hnsw_warmup_ms": 0.0,
        "total_ms": time,
    })))
}

/// Gives a snapshot of the server.
pub(crate) async fn runtime(State(app): State<App>) -> Json<Value> {
    let models = app.models.iter().map(|model| {
        let target = app.sessions.target(model, None);
        json!({
            "name": model.name,
            "family": model.spec().family,
            "layers": model.spec().layers.len(),
            "context_length": model.spec().context_length,
            "bytes": model.bytes(),
            "loaded": loaded(&target),
        })
    });
    let engine = app.scheduler.options();
    let metrics = &app.metrics;
    Json(json!({
        "server": {"name": "larql", "version": env!("CARGO_PKG_VERSION"), "uptime_seconds": app.started.elapsed().as_secs()},
        "models": models.collect::<Vec<_>>(),
        "backend": {"kind": "cpu", "threads": app.sessions.catalog().pool().threads()},
        "engine": {
            "concurrent": engine.concurrent,
            "waiting_most": engine.waiting,
            "pages": engine.pages,
            "share_prefixes": engine.share_prefixes,
            "running": metrics.running.get(),
            "waiting": app.scheduler.waiting(),
            "kept_pages": metrics.kept_pages.get(),
        },
        "performance": {
            "prompt_tokens": metrics.prompt_tokens.get(),
            "cached_tokens": metrics.cached_tokens.get(),
            "generated_tokens": metrics.generated_tokens.get(),
        },
        "memory": {"resident_bytes": memory::resident_bytes(), "available_bytes": memory::available_bytes()},
        "sessions": app.sessions.len(),
    }))
}

/// Tells what the server can be asked for: the routes that are mounted, and what follows from them.
pub(crate) async fn capabilities(State(app): State<App>) -> Json<Value> {
    let has = |route: &str| app.routes.contains(&route);
    let profile = if app.models.iter().count() == 1 { "single_model" } else { "multi_model" };
    Json(json!({
        "object": "capabilities",
        "schema": 1,
        "profile": profile,
        "server": {"name": "larql", "version": env!("CARGO_PKG_VERSION")},
        "runtime": {
            "backends": ["cpu"],
            "introspect": has("/v1/runtime"),
            "execute": has("/v1/infer"),
            "lifecycle": false,
        },
        "routes": app.routes,
        "sources": {
            "load": {"local": false, "hf": false},
            "plan": {"local": false, "hf": false},
            "encode": {"local": false, "hf": false},
        },
        "explorer": {
            "models": has("/v1/models"),
            "describe": has("/v1/describe"),
            "walk": has("/v1/walk"),
            "relations": has("/v1/relations"),
            "stats": has("/v1/stats"),
            "query": has("/v1/lql"),
            "edit": has("/v1/insert"),
            "chat": has("/v1/chat/completions"),
            "trace": has("/v1/trace"),
            "components": false,
            "representations": false,
            "provenance": false,
            "authority": false,
            "residency": false,
        },
    }))
}
