//! Knowledge of a model: describe, walk, select, relations and stats.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use larql_lql::ast::{
    Comparison, Condition, Describe, Detail, Direction, Field, Filter, LayerRange, OrderBy, Scope, Select,
    ShowRelations, Spanned, Statement, Stats, Subject, Table, Test, Value as Literal, Walk, WalkLayers,
};
use larql_lql::output::{Datum, Edge, Output, Record, Selected};
use larql_vindex::{FeatureStore, Holdings};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::statement::{Asked, ask, ask_rows};
use crate::body::{Body, Query};
use crate::error::ApiError;
use crate::sessions::Target;
use crate::state::App;

/// A question about an entity.
#[derive(Debug, Deserialize)]
pub(crate) struct DescribeQuery {
    pub(crate) entity: String,
    pub(crate) band: Option<String>,
    #[serde(default)]
    pub(crate) verbose: bool,
    pub(crate) limit: Option<usize>,
    pub(crate) min_score: Option<f32>,
}

/// Describes an entity. The answer has a tag, so that a client asks for it again only when it has changed.
pub(crate) async fn describe(
    State(app): State<App>,
    asked: Asked,
    headers: HeaderMap,
    Query(query): Query<DescribeQuery>,
) -> Result<Response, ApiError> {
    let mut body = described(&app, &asked, &query).await?;
    // The tag is that of the answer, whatever time it took.
    let latency = body["latency_ms"].take();
    let tag = Sha256::digest(body.to_string());
    let tag = format!("\"{}\"", tag[..12].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let caching = [
        (header::ETAG, HeaderValue::from_str(&tag).map_err(|_| unexpected())?),
        // Edits change answers, so that a copy is asked about before it is used again.
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
        (header::VARY, HeaderValue::from_static("x-session-id")),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    body["latency_ms"] = latency;
    Ok((caching, Json(body)).into_response())
}

/// Returns the description of an entity.
///
/// # Errors
/// Those of DESCRIBE.
pub(crate) async fn described(app: &App, asked: &Asked, query: &DescribeQuery) -> Result<Value, ApiError> {
    let target = asked.target(app)?;
    let limit = rows(app, query.limit, 20)?;
    let statement = Describe {
        entity: subject("entity", &query.entity)?,
        // A checkpoint is asked in words, and has no bands.
        scope: match (&query.band, &target.view) {
            (None, None) => None,
            (band, _) => Some(scope(band.as_deref())?),
        },
        layer: None,
        relations_only: false,
        detail: Some(Detail::Verbose),
        limit: Some(limit.into()),
        stream: false,
    };
    let (output, latency) = ask(app, &target, Statement::Describe(statement)).await?;
    let Output::Describe(described) = output else { return Err(unexpected()) };
    let edges = described.bands.iter().flat_map(|band| &band.edges);
    let strong = edges.filter(|edge| query.min_score.is_none_or(|least| edge.gate >= least));
    let edges: Vec<Value> = strong.take(limit).map(|edge| edge_json(edge, query.verbose)).collect();
    let left_out: usize = described.bands.iter().map(|band| band.left_out).sum();
    let unlabelled: usize = described.bands.iter().map(|band| band.unlabelled).sum();
    Ok(json!({
        "entity": described.entity,
        "model": target.model.name,
        "edges": edges,
        "left_out": left_out,
        "unlabelled": unlabelled,
        "next": described.next,
        "latency_ms": rounded(latency),
    }))
}

/// Returns the bands that a word names.
///
/// # Errors
/// If it is none.
pub(crate) fn scope(band: Option<&str>) -> Result<Scope, ApiError> {
    match band.unwrap_or("knowledge") {
        "syntax" => Ok(Scope::Syntax),
        "knowledge" => Ok(Scope::Knowledge),
        "output" => Ok(Scope::Output),
        "all" => Ok(Scope::All),
        other => Err(ApiError::field(
            "band",
            format!("band is {other:?}; expected syntax, knowledge, output or all"),
        )),
    }
}

/// Returns an edge as describe answers with it.
pub(crate) fn edge_json(edge: &Edge, verbose: bool) -> Value {
    let mut out = json!({
        "target": edge.target,
        "gate_score": edge.gate,
        "layer": edge.layer,
        "layer_max": edge.layer_max,
        "feature": edge.feature,
        "count": edge.count,
        "via": edge.via,
    });
    for (name, value) in [
        ("relation", json!(edge.relation)),
        ("source", json!(edge.source)),
        ("confidence", json!(edge.confidence)),
    ] {
        if !value.is_null() {
            out[name] = value;
        }
    }
    if !edge.also.is_empty() {
        out["also"] = json!(edge.also);
    }
    if verbose {
        out["layer_min"] = edge.layer.into();
    }
    out
}

/// A question about the features that a prompt's last token fires.
#[derive(Debug, Deserialize)]
pub(crate) struct WalkQuery {
    pub(crate) prompt: String,
    pub(crate) top: Option<usize>,
    pub(crate) layers: Option<String>,
}

/// Walks a prompt.
pub(crate) async fn walk(
    State(app): State<App>,
    asked: Asked,
    Query(query): Query<WalkQuery>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let wanted = query.layers.as_deref().map(layers).transpose()?;
    let range = wanted.as_ref().and_then(|layers| {
        let (first, last) = (*layers.iter().min()?, *layers.iter().max()?);
        Some(WalkLayers::Range(Spanned::from(LayerRange { first, last })))
    });
    let top = Some(rows(&app, query.top, 5)?.into());
    let statement =
        Walk { prompt: subject("prompt", &query.prompt)?, top, layers: range, mode: None, compare: false };
    let (output, latency) = ask(&app, &target, Statement::Walk(statement)).await?;
    let Output::Walk(walked) = output else { return Err(unexpected()) };
    let features = walked.rankings.iter().flat_map(|ranking| &ranking.rows);
    let hits =
        features.filter(|row| wanted.as_ref().is_none_or(|layers| layers.contains(&row.layer))).map(|row| {
            let mut hit = json!({
                "layer": row.layer,
                "feature": row.feature,
                "gate_score": row.gate,
                "activation": row.activation,
                "target": row.tokens.first(),
                "tokens": row.tokens,
            });
            if let Some(relation) = &row.label {
                hit["relation"] = json!(relation);
            }
            hit
        });
    Ok(Json(json!({
        "prompt": walked.prompt,
        "token": walked.token,
        "hits": hits.collect::<Vec<_>>(),
        "latency_ms": rounded(latency),
    })))
}

/// Reads layers, as in `24-33` or `14,26,27`.
fn layers(text: &str) -> Result<Vec<usize>, ApiError> {
    let expected = || {
        ApiError::field(
            "layers",
            format!("layers is {text:?}; expected a range as 24-33, or a list as 14,26,27"),
        )
    };
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| expected());
    let mut layers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        let (first, last) = (first.min(last), first.max(last));
        if last > 10_000 {
            return Err(expected());
        }
        layers.extend(first..=last);
    }
    Ok(layers)
}

/// A question about edges or features.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SelectRequest {
    pub(crate) entity: Option<String>,
    pub(crate) relation: Option<String>,
    pub(crate) layer: Option<usize>,
    pub(crate) limit: Option<usize>,
    pub(crate) min_confidence: Option<f64>,
    pub(crate) order_by: Option<String>,
    pub(crate) order: Option<String>,
}

/// Selects edges.
pub(crate) async fn select(
    State(app): State<App>,
    asked: Asked,
    Body(request): Body<SelectRequest>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let limit = rows(&app, request.limit, 20)?;
    let layers = target.model.spec().layers.len();
    if let Some(layer) = request.layer.filter(|layer| *layer >= layers) {
        let message = format!("layer is {layer}; the model's layers are 0 to {}", layers - 1);
        return Err(ApiError::field("layer", message));
    }
    let (output, latency) =
        ask_rows(&app, &target, Statement::Select(request.statement()?), Some(limit)).await?;
    let Output::Select(Selected { rows, left_out, next, .. }) = output else { return Err(unexpected()) };
    let total = rows.len() + left_out;
    let edges: Vec<Value> = rows.iter().map(row_json).collect();
    Ok(Json(json!({"edges": edges, "total": total, "next": next, "latency_ms": rounded(latency)})))
}

impl SelectRequest {
    fn statement(&self) -> Result<Select, ApiError> {
        let test = |field: Field, comparison: Comparison, value: Literal| Condition {
            field: field.into(),
            test: Test::Compare(comparison, value.into()),
        };
        let equal = |field, text: &Option<String>| {
            text.as_ref().map(|text| test(field, Comparison::Equal, Literal::Text(text.clone())))
        };
        let layer =
            self.layer.map(|layer| test(Field::Layer, Comparison::Equal, Literal::Integer(layer as i64)));
        let confidence = self.min_confidence;
        if let Some(confidence) = confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
            let message = format!("min_confidence is {confidence}; expected 0 to 1");
            return Err(ApiError::field("min_confidence", message));
        }
        let confidence =
            confidence.map(|least| test(Field::Confidence, Comparison::GreaterEqual, Literal::Number(least)));
        let conditions =
            [equal(Field::Entity, &self.entity), equal(Field::Relation, &self.relation), layer, confidence];
        let mut tests: Vec<Filter> = conditions.into_iter().flatten().map(Filter::Test).collect();
        let filter = match tests.len() {
            0 => None,
            1 => tests.pop(),
            _ => Some(Filter::All(tests)),
        };
        let direction = match self.order.as_deref().unwrap_or("desc") {
            "asc" => Direction::Ascending,
            "desc" => Direction::Descending,
            other => {
                let message = format!("order is {other:?}; expected asc or desc");
                return Err(ApiError::field("order", message));
            }
        };
        let order_by = match self.order_by.as_deref() {
            None => Vec::new(),
            Some(name) => {
                let field = match name {
                    "gate_score" => Field::Gate,
                    "c_score" => Field::Score,
                    "layer" => Field::Layer,
                    "confidence" => Field::Confidence,
                    "target" => Field::Target,
                    "relation" => Field::Relation,
                    "count" => Field::Count,
                    other => {
                        let message = format!(
                            "order_by is {other:?}; expected gate_score, confidence, layer, relation, target or count"
                        );
                        return Err(ApiError::field("order_by", message));
                    }
                };
                vec![OrderBy { field: field.into(), direction: Some(direction) }]
            }
        };
        Ok(Select {
            distinct: false,
            columns: Vec::new(),
            from: Table::Edges,
            nearest: None,
            filter,
            group_by: Vec::new(),
            order_by,
            limit: None,
            offset: None,
        })
    }
}

/// Returns a row with the names of the language, and those that other clients read.
fn row_json(row: &Record) -> Value {
    let mut out = serde_json::to_value(row).unwrap_or_else(|_| Value::Object(Map::new()));
    for (field, name) in [(Field::Gate, "gate_score"), (Field::Score, "c_score")] {
        if let Some(Datum::Number(value)) = row.get(field) {
            out[name] = json!(value);
        }
    }
    out
}

/// A question about relations.
#[derive(Debug, Deserialize)]
pub(crate) struct RelationsQuery {
    pub(crate) source: Option<String>,
}

/// Lists relations.
pub(crate) async fn relations(
    State(app): State<App>,
    asked: Asked,
    Query(query): Query<RelationsQuery>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let statement = ShowRelations { layer: None, with_examples: true, detail: None };
    let (output, latency) = ask(&app, &target, Statement::ShowRelations(statement)).await?;
    let Output::Relations(relations) = output else { return Err(unexpected()) };
    let of_source = |source: &str| relations.rows.iter().filter(|row| row.source.name() == source).count();
    let (probe, cluster) = (of_source("probe"), of_source("cluster"));
    let shown = relations
        .rows
        .iter()
        .filter(|row| query.source.as_deref().is_none_or(|source| row.source.name() == source));
    let rows = shown.map(|row| {
        json!({
            "name": row.relation,
            "count": row.count,
            "source": row.source,
            "layer": row.layer,
            "layer_max": row.layer_max,
            "example": row.examples.first(),
            "examples": row.examples,
        })
    });
    Ok(Json(json!({
        "relations": rows.collect::<Vec<_>>(),
        "total_probe": probe,
        "total_cluster": cluster,
        "next": relations.next,
        "latency_ms": rounded(latency),
    })))
}

/// Gives figures of the model.
pub(crate) async fn stats(State(app): State<App>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let (output, latency) = ask(&app, &target, Statement::Stats(Stats { path: None })).await?;
    let Output::Stats(stats) = output else { return Err(unexpected()) };
    let mut body = serde_json::to_value(&stats).map_err(|_| unexpected())?;
    body["model"] = target.model.name.clone().into();
    body["model_name"] = stats.model.into();
    body["extract_level"] = json!(stats.level);
    body["mode"] = "full".into();
    body["context_length"] = target.model.spec().context_length.into();
    body["loaded"] = loaded(&target);
    if let Some(view) = &target.view {
        let bands = view.base().manifest().bands();
        let band = |layers: std::ops::Range<usize>| json!([layers.start, layers.end.saturating_sub(1)]);
        body["layer_bands"] = json!({
            "syntax": band(bands.syntax.layers()),
            "knowledge": band(bands.knowledge.layers()),
            "output": band(bands.output.layers()),
        });
        let features: Vec<usize> = (0..stats.layers).map(|layer| view.overlay().features(layer)).collect();
        body["features_per_layer"] = json!(features);
    }
    body["latency_ms"] = rounded(latency).into();
    Ok(Json(body))
}

/// Capabilities of the model.
pub(crate) fn loaded(target: &Target) -> Value {
    let predicts = target.model.base().is_none_or(|base| base.holdings().contains_all(&Holdings::PREDICTING));
    let chats = predicts && target.language().is_ok_and(|language| language.template().is_some());
    json!({
        "browse": target.view.is_some(),
        "inference": predicts,
        "chat": chats,
        "ffn_service": false,
        "embed_service": false,
    })
}

/// Returns the number of rows to ask for.
///
/// # Errors
/// If it is 0, or more than the server gives.
pub(super) fn rows(app: &App, wanted: Option<usize>, default: usize) -> Result<usize, ApiError> {
    let most = app.options.limits.rows;
    match wanted.unwrap_or(default) {
        rows if (1..=most).contains(&rows) => Ok(rows),
        rows => Err(ApiError::invalid(format!("{rows} rows were asked for; expected 1 to {most}"))),
    }
}

/// Returns the subject of a statement.
///
/// # Errors
/// If it is empty.
pub(crate) fn subject(field: &str, text: &str) -> Result<Subject, ApiError> {
    match text.trim().is_empty() {
        true => Err(ApiError::field(field, format!("{field} is empty; give a text"))),
        false => Ok(Subject::Text(text.to_owned().into())),
    }
}

/// A statement answered with another kind of result than its own.
pub(super) fn unexpected() -> ApiError {
    ApiError::internal("a statement gave another answer than its own; please report it")
}

/// A time in milliseconds, to two decimals.
pub(super) fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 100.0).round() / 100.0
}
