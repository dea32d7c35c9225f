//! Predictions of a model, and how they arise: infer, explain-infer and trace.

use axum::Json;
use axum::extract::State;
use larql_lql::ast::{ExplainInfer, Infer, Positions, Statement, Trace};
use larql_lql::output::{Attended, ExplainedLayer, Output, Overridden, Prediction, Run};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::browse::{rounded, rows, subject, unexpected};
use super::statement::{Asked, ask};
use crate::body::Body;
use crate::error::ApiError;
use crate::state::App;

/// A question about the next token.
#[derive(Debug, Deserialize)]
pub(crate) struct InferRequest {
    pub(crate) prompt: String,
    pub(crate) top: Option<usize>,
    pub(crate) mode: Option<String>,
}

/// Predicts the next token.
pub(crate) async fn infer(
    State(app): State<App>,
    asked: Asked,
    Body(request): Body<InferRequest>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let mode = request.mode.as_deref().unwrap_or("walk");
    if !matches!(mode, "walk" | "dense" | "compare") {
        return Err(ApiError::field("mode", format!("mode is {mode:?}; expected walk, dense or compare")));
    }
    let top = Some(rows(&app, request.top, 5)?.into());
    // The dense step is what COMPARE runs beside the walk.
    let statement = Infer {
        prompt: subject("prompt", &request.prompt)?,
        top,
        compare: mode != "walk",
        intervention: None,
    };
    let (output, latency) = ask(&app, &target, Statement::Infer(statement)).await?;
    let Output::Infer(inferred) = output else { return Err(unexpected()) };
    let mut body = json!({"prompt": inferred.prompt, "mode": mode});
    let run = |name: &str| inferred.runs.iter().find(|run| run.ffn == name);
    match mode {
        "compare" => {
            for run in &inferred.runs {
                body[&run.ffn] = predictions(run);
                body[format!("{}_ms", run.ffn)] = rounded(run.latency_ms).into();
            }
        }
        name => body["predictions"] = run(name).map(predictions).ok_or_else(unexpected)?,
    }
    if let Some(overridden) = &inferred.overridden {
        body["override"] = json!(overridden);
        body["knn_override"] = knn_override(overridden, inferred.runs.first());
    }
    body["latency_ms"] = rounded(latency).into();
    Ok(Json(body))
}

fn predictions(run: &Run) -> Value {
    run.predictions.iter().map(prediction).collect()
}

fn prediction(prediction: &Prediction) -> Value {
    let mut out = json!({
        "token": prediction.token,
        "token_id": prediction.token_id,
        "probability": prediction.probability,
    });
    if let Some(phrase) = &prediction.phrase {
        out["phrase"] = json!(phrase);
    }
    out
}

/// The edge memory's answer, as other clients read it.
fn knn_override(overridden: &Overridden, run: Option<&Run>) -> Value {
    let first = run.and_then(|run| run.predictions.first());
    json!({
        "token": overridden.target,
        "cosine": overridden.cosine,
        "layer": overridden.layer,
        "source": "knn_override",
        "stage": "post_logits",
        "materialized": false,
        "model_top1": first.map(|first| json!({"token": first.token, "probability": first.probability})),
    })
}

/// A question about what brings a prediction about.
#[derive(Debug, Deserialize)]
pub(crate) struct ExplainRequest {
    prompt: String,
    answer: Option<String>,
    top: Option<usize>,
    per_layer: Option<usize>,
    band: Option<String>,
    #[serde(default)]
    relations_only: bool,
    #[serde(default)]
    with_attention: bool,
}

/// Explains a prediction.
pub(crate) async fn explain_infer(
    State(app): State<App>,
    asked: Asked,
    Body(request): Body<ExplainRequest>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let layers = match (request.band.as_deref(), &target.view) {
        (None | Some("all"), _) | (_, None) => None,
        (Some(band), Some(view)) => {
            super::browse::scope(Some(band))?;
            let bands = view.base().manifest().bands();
            Some(match band {
                "syntax" => bands.syntax.layers(),
                "output" => bands.output.layers(),
                _ => bands.knowledge.layers(),
            })
        }
    };
    let top = rows(&app, request.top, 5)?;
    let statement = ExplainInfer {
        prompt: subject("prompt", &request.prompt)?,
        layers: None,
        verbose: false,
        top: Some(rows(&app, request.per_layer, 10)?.into()),
        answer: request.answer.clone().filter(|answer| !answer.trim().is_empty()).map(Into::into),
        with_attention: request.with_attention,
        graph: None,
    };
    let (output, latency) = ask(&app, &target, Statement::ExplainInfer(statement)).await?;
    let Output::ExplainInfer(explained) = output else { return Err(unexpected()) };
    let shown = explained
        .layers
        .iter()
        .filter(|layer| layers.as_ref().is_none_or(|layers| layers.contains(&layer.layer)));
    let trace: Vec<Value> = shown.map(|layer| traced(layer, request.relations_only)).collect();
    Ok(Json(json!({
        "prompt": explained.prompt,
        "predictions": explained.predictions.iter().take(top).map(prediction).collect::<Vec<_>>(),
        "answer": prediction(&explained.answer),
        "trace": trace,
        "latency_ms": rounded(latency),
    })))
}

/// A question about how an answer arises in the residual stream.
#[derive(Debug, Deserialize)]
pub(crate) struct TraceRequest {
    prompt: String,
    answer: Option<String>,
    #[serde(default)]
    decompose: bool,
    positions: Option<String>,
}

/// Traces the residual stream of a prompt, layer by layer.
pub(crate) async fn trace(
    State(app): State<App>,
    asked: Asked,
    Body(request): Body<TraceRequest>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let positions = match request.positions.as_deref() {
        None | Some("last") => Positions::Last,
        Some("all") => Positions::All,
        Some(other) => {
            return Err(ApiError::field(
                "positions",
                format!("positions is {other:?}; expected last or all"),
            ));
        }
    };
    let statement = Trace {
        prompt: subject("prompt", &request.prompt)?,
        other: None,
        target: request.answer.clone().filter(|answer| !answer.trim().is_empty()).map(Into::into),
        decompose: request.decompose,
        layers: None,
        positions: Some(positions),
        save: None,
    };
    let (output, _) = ask(&app, &target, Statement::Trace(statement)).await?;
    let Output::Trace(traced) = output else { return Err(unexpected()) };
    Ok(Json(json!(traced)))
}

fn traced(layer: &ExplainedLayer, relations_only: bool) -> Value {
    let features = layer.rows.iter().filter(|row| !relations_only || row.label.is_some()).map(|row| {
        let mut feature = json!({
            "feature": row.feature,
            "gate_score": row.gate,
            "activation": row.activation,
            "contribution": row.contribution,
            "top_token": row.tokens.first(),
            "top_tokens": row.tokens,
        });
        if let Some(relation) = &row.label {
            feature["relation"] = json!(relation);
        }
        feature
    });
    let mut out = json!({
        "layer": layer.layer,
        "features": features.collect::<Vec<_>>(),
        "lens": {"token": layer.lens_token, "probability": layer.lens_probability},
        "answer_probability": layer.answer_probability,
    });
    if !layer.attention.is_empty() {
        out["attention"] = attention(&layer.attention);
    }
    out
}

/// The attention to each token, summed over the heads, strongest first.
fn attention(attended: &[Attended]) -> Value {
    let mut sums: Map<String, Value> = Map::new();
    for place in attended {
        let sum = sums.get(&place.token).and_then(Value::as_f64).unwrap_or(0.0) + f64::from(place.weight);
        sums.insert(place.token.clone(), sum.into());
    }
    let mut sums: Vec<(String, f64)> =
        sums.into_iter().map(|(token, sum)| (token, sum.as_f64().unwrap_or(0.0))).collect();
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    sums.iter().map(|(token, weight)| json!({"token": token, "weight": weight})).collect()
}
