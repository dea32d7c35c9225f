//! `/api/tags`, `/api/show`, `/api/ps` and `/api/version`: what is there.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::body::Body;
use crate::error::ApiError;
use crate::models::ServedModel;
use crate::state::App;

/// Version of Ollama's interface that is spoken.
const VERSION: &str = "0.12.0";

/// Lists the models.
pub(crate) async fn tags(State(app): State<App>) -> Json<Value> {
    Json(json!({"models": app.models.iter().map(|model| entry(model)).collect::<Vec<_>>()}))
}

/// Lists the models that are in memory: all of them, as weights are mapped.
pub(crate) async fn ps(State(app): State<App>) -> Json<Value> {
    let loaded = app.models.iter().map(|model| {
        let mut entry = entry(model);
        entry["expires_at"] = "9999-12-31T23:59:59Z".into();
        entry["size_vram"] = 0.into();
        entry["context_length"] = model.spec().context_length.into();
        entry
    });
    Json(json!({"models": loaded.collect::<Vec<_>>()}))
}

/// A request about one model.
#[derive(Debug, Deserialize)]
pub(crate) struct ShowRequest {
    model: Option<String>,
    /// The older name of the field.
    name: Option<String>,
}

/// Shows one model.
pub(crate) async fn show(
    State(app): State<App>,
    Body(request): Body<ShowRequest>,
) -> Result<Json<Value>, ApiError> {
    let model = app.models.find(request.model.or(request.name).as_deref())?;
    let spec = model.spec();
    let family = &spec.family;
    let language = model.language().ok();
    let template =
        language.and_then(|language| language.template()).map(|template| template.source().to_owned());
    let mut capabilities = vec!["embedding"];
    if language.is_some() {
        capabilities.insert(0, "completion");
    }
    if template.as_ref().is_some_and(|template| template.contains("tools")) {
        capabilities.push("tools");
    }
    let mut info = json!({
        "general.architecture": family,
        "general.parameter_count": null,
        "tokenizer.ggml.model": null,
    });
    for (name, value) in [
        ("context_length", spec.context_length),
        ("embedding_length", spec.hidden_size),
        ("block_count", spec.layers.len()),
        ("vocab_size", spec.vocab_size),
    ] {
        info[format!("{family}.{name}")] = value.into();
    }
    Ok(Json(json!({
        "modelfile": "",
        "parameters": "",
        "license": "",
        "template": template.unwrap_or_default(),
        "details": details(model),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": modified(model),
    })))
}

/// Tells the version of the interface.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": VERSION}))
}

fn entry(model: &ServedModel) -> Value {
    let name = format!("{}:latest", model.name);
    let digest = Sha256::digest(format!("{name} {}", model.bytes()));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "name": name,
        "model": name,
        "modified_at": modified(model),
        "size": model.bytes(),
        "digest": digest,
        "details": details(model),
    })
}

fn details(model: &ServedModel) -> Value {
    let spec = model.spec();
    let family = &spec.family;
    let format = if model.base().is_some() { "vindex" } else { "gguf" };
    json!({
        "parent_model": "",
        "format": format,
        "family": family,
        "families": [family],
        "parameter_size": "",
        "quantization_level": "",
    })
}

fn modified(model: &ServedModel) -> String {
    let time = std::fs::metadata(&model.path).and_then(|metadata| metadata.modified());
    let time = time.ok().and_then(|time| Timestamp::try_from(time).ok());
    time.unwrap_or_default().to_string()
}
