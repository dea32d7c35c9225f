//! `GET /v1/models`: what is served.

use axum::Json;
use axum::extract::{Path, State};
use larql_vindex::FeatureStore;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::models::ServedModel;
use crate::state::App;

/// Lists the models.
pub(crate) async fn list_models(State(app): State<App>) -> Json<Value> {
    let models: Vec<Value> = app.models.iter().map(|model| entry(model)).collect();
    Json(json!({"object": "list", "data": models}))
}

/// Shows one model.
pub(crate) async fn show_model(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(entry(app.models.find(Some(&name))?)))
}

fn entry(model: &ServedModel) -> Value {
    let features: usize = match model.base() {
        Some(base) => (0..base.layers()).map(|layer| base.features(layer)).sum(),
        None => model.spec().layers.iter().map(|layer| layer.feed_forward.features()).sum(),
    };
    json!({
        "id": model.name,
        "object": "model",
        "created": model.opened,
        "owned_by": "larql",
        "kind": if model.base().is_some() { "vindex" } else { "checkpoint" },
        "level": model.base().map(|base| base.level()),
        "layers": model.spec().layers.len(),
        "features": features,
        "context_length": model.spec().context_length,
        "loaded": true,
    })
}
