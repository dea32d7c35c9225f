//! Edits of a session: insert, patches, and the sessions that have some.
//!
//! Nothing here writes to the server's disk. A patch comes with the request, or from a host that the operator allows.

use std::io::Read;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use larql_lql::ast::{Insert, InsertMode, NewEdge, RemovePatch, Statement};
use larql_lql::output::{Output, PatchChanged, Stored};
use larql_vindex::{AppliedPatch, Patch};
use serde::Deserialize;
use serde_json::{Value, json};

use super::browse::unexpected;
use super::statement::{Asked, change, milliseconds};
use crate::body::Body;
use crate::error::ApiError;
use crate::state::App;

/// Time for a patch to arrive from another host.
const FETCH_TIME: Duration = Duration::from_secs(20);

/// An edge to insert.
#[derive(Debug, Deserialize)]
pub(crate) struct InsertRequest {
    entity: String,
    relation: String,
    target: String,
    layer: Option<usize>,
    alpha: Option<f64>,
    confidence: Option<f64>,
    mode: Option<String>,
}

/// Inserts an edge.
pub(crate) async fn insert(
    State(app): State<App>,
    asked: Asked,
    Body(request): Body<InsertRequest>,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let statement = Statement::Insert(request.statement()?);
    let output = change(&app, &asked, move |session| session.execute(&statement)).await?;
    let Output::Changed(changed) = &output else { return Err(unexpected()) };
    let mode = match changed.inserted.first().map(|edge| edge.stored) {
        Some(Stored::Knn { .. }) => "knn",
        _ => "compose",
    };
    Ok(Json(json!({
        "entity": request.entity,
        "relation": request.relation,
        "target": request.target,
        "inserted": changed.count,
        "mode": mode,
        "alpha": request.alpha,
        "session": asked.session.name(),
        "effects": changed.effects,
        "neighbours": changed.neighbours,
        "edges": changed.inserted,
        "latency_ms": milliseconds(started),
    })))
}

impl InsertRequest {
    fn statement(&self) -> Result<Insert, ApiError> {
        for (name, text) in [("entity", &self.entity), ("relation", &self.relation), ("target", &self.target)]
        {
            if text.trim().is_empty() {
                return Err(ApiError::field(name, format!("{name} is empty; give a text")));
            }
        }
        if let Some(confidence) = self.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
            return Err(ApiError::field(
                "confidence",
                format!("confidence is {confidence}; expected 0 to 1"),
            ));
        }
        if let Some(alpha) = self.alpha.filter(|alpha| !(0.0..=1000.0).contains(alpha)) {
            return Err(ApiError::field("alpha", format!("alpha is {alpha}; expected 0 to 1000")));
        }
        let mode = match self.mode.as_deref() {
            None => None,
            Some("compose") => Some(InsertMode::Compose),
            Some("knn") => Some(InsertMode::Knn),
            Some(other) => {
                return Err(ApiError::field("mode", format!("mode is {other:?}; expected compose or knn")));
            }
        };
        let [entity, relation, target] =
            [&self.entity, &self.relation, &self.target].map(|text| text.clone().into());
        Ok(Insert {
            edges: vec![NewEdge { entity, relation, target }],
            layer: self.layer.map(Into::into),
            confidence: self.confidence.map(Into::into),
            alpha: self.alpha.map(Into::into),
            mode,
        })
    }
}

/// A patch to apply.
#[derive(Debug, Deserialize)]
pub(crate) struct ApplyRequest {
    /// The content of a patch file.
    patch: Option<Value>,
    /// The address of a patch file.
    url: Option<String>,
    /// The name it is to have.
    name: Option<String>,
}

/// Lays a patch over the model.
pub(crate) async fn apply_patch(
    State(app): State<App>,
    asked: Asked,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let (text, default_name) = match (&request.patch, &request.url) {
        (Some(patch), None) => (patch.to_string(), "patch.vlp".to_owned()),
        (None, Some(url)) => (fetch(&app, url).await?, url.rsplit('/').next().unwrap_or(url).to_owned()),
        _ => return Err(ApiError::field("patch", "give either patch, the content of a patch file, or url")),
    };
    let patch = Patch::parse(text.as_bytes()).map_err(|error| ApiError::field("patch", error.to_string()))?;
    let wanted = request.name.clone().unwrap_or(default_name);
    let is_named = request.name.is_some();
    let output = change(&app, &asked, move |session| {
        let taken = |name: &str| {
            let patches = session.view().map(|view| view.patches().patches());
            patches.into_iter().flatten().any(|applied| applied.name == name)
        };
        let mut name = wanted.clone();
        let mut number = 2;
        while !is_named && taken(&name) {
            name = format!("{wanted} {number}");
            number += 1;
        }
        session.apply_patch(&name, patch)
    })
    .await?;
    let Output::Patch(PatchChanged { patch, operations, .. }) = output else { return Err(unexpected()) };
    let active = patches(&app, &asked)?.len();
    Ok(Json(json!({
        "applied": patch,
        "operations": operations,
        "active_patches": active,
        "session": asked.session.name(),
        "latency_ms": milliseconds(started),
    })))
}

/// Fetches a patch file from a host that the operator allows.
async fn fetch(app: &App, url: &str) -> Result<String, ApiError> {
    let parsed: axum::http::Uri = url.parse().map_err(|_| ApiError::field("url", "url is no address"))?;
    let host = parsed.host().unwrap_or_default();
    let allowed = app.options.patch_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host));
    if !allowed || !matches!(parsed.scheme_str(), Some("http" | "https")) {
        let message = format!(
            "this server fetches no patches from {host:?}; send the patch itself, or start it with --patch-host {host}"
        );
        return Err(ApiError::new(StatusCode::FORBIDDEN, message).with_code("not_allowed"));
    }
    let (url, most) = (url.to_owned(), app.options.limits.body_bytes as u64);
    crate::queries::run(app, move |_| {
        // An allowed host may not lead elsewhere.
        let agent: ureq::Agent =
            ureq::Agent::config_builder().max_redirects(0).timeout_global(Some(FETCH_TIME)).build().into();
        let failed = |error: &dyn std::error::Error| {
            ApiError::new(StatusCode::BAD_GATEWAY, format!("the patch could not be fetched: {error}"))
        };
        let response = agent.get(&url).call().map_err(|error| failed(&error))?;
        let mut text = String::new();
        let reader = response.into_body().into_reader().take(most + 1);
        { reader }.read_to_string(&mut text).map_err(|error| failed(&error))?;
        match text.len() as u64 > most {
            true => Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the patch is larger than this server takes",
            )),
            false => Ok(text),
        }
    })
    .await
}

/// Lists the patches over the model.
pub(crate) async fn list_patches(State(app): State<App>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let patches = patches(&app, &asked)?;
    Ok(Json(json!({"patches": patches, "session": asked.session.name()})))
}

fn patches(app: &App, asked: &Asked) -> Result<Vec<Value>, ApiError> {
    let target = asked.target(app)?;
    let applied = target.view.as_ref().map(|view| view.patches().patches()).into_iter().flatten();
    let source = if asked.session.name().is_some() { "session" } else { "shared" };
    let row = |AppliedPatch { name, patch }: &AppliedPatch| json!({"name": name, "operations": patch.operations().len(), "source": source});
    Ok(applied.map(row).collect())
}

/// Gives a patch as a file to be saved.
pub(crate) async fn show_patch(
    State(app): State<App>,
    asked: Asked,
    Path(name): Path<PatchName>,
) -> Result<Response, ApiError> {
    let target = asked.target(&app)?;
    let patches = target.view.as_ref().map(|view| view.patches().patches());
    let found = patches.into_iter().flatten().find(|applied| applied.name == name.name);
    let patch = found.ok_or_else(|| no_patch(&name.name))?;
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], patch.patch.to_json()).into_response())
}

/// Takes a patch off.
pub(crate) async fn remove_patch(
    State(app): State<App>,
    asked: Asked,
    Path(PatchName { name }): Path<PatchName>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let patches = target.view.as_ref().map(|view| view.patches().patches());
    if !patches.into_iter().flatten().any(|applied| applied.name == name) {
        return Err(no_patch(&name));
    }
    let statement = Statement::RemovePatch(RemovePatch { path: name.into() });
    let output = change(&app, &asked, move |session| session.execute(&statement)).await?;
    let Output::Patch(PatchChanged { patch, operations, .. }) = output else { return Err(unexpected()) };
    let active = self::patches(&app, &asked)?.len();
    Ok(Json(json!({"removed": patch, "operations": operations, "active_patches": active})))
}

/// The last part of a patch's address.
#[derive(Debug, Deserialize)]
pub(crate) struct PatchName {
    name: String,
}

fn no_patch(name: &str) -> ApiError {
    ApiError::not_found(format!(
        "there is no patch named {name:?} over the model; GET /v1/patches lists them"
    ))
}

/// Lists the sessions that have edits.
pub(crate) async fn list_sessions(State(app): State<App>) -> Json<Value> {
    let row = |model: &str, (name, patches, idle): (Option<String>, usize, u64)| json!({"id": name, "model": model, "patches": patches, "idle_seconds": idle});
    let rows = app.models.iter().flat_map(|model| {
        app.sessions.list(model).into_iter().map(move |session| row(&model.name, session)).collect::<Vec<_>>()
    });
    let sessions: Vec<Value> = rows.collect();
    Json(json!({"sessions": sessions, "idle_limit_seconds": app.options.limits.session_idle.as_secs()}))
}

/// Shows a session that has edits.
pub(crate) async fn show_session(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = app.models.iter().find_map(|model| {
        let mut sessions = app.sessions.list(model).into_iter();
        let session = sessions.find(|(name, ..)| name.as_deref() == Some(&*id))?;
        Some(json!({"id": id, "model": model.name, "patches": session.1, "idle_seconds": session.2}))
    });
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("no session named {id:?} has edits")))
}
