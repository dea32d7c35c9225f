//! `POST /api/embed` and the older `POST /api/embeddings`: texts as vectors, as in OpenAI's interface.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::Body;
use crate::error::ApiError;
use crate::openai::mean_hidden_state;
use crate::queries;
use crate::state::{App, SessionName};

/// A request.
#[derive(Debug, Deserialize)]
pub(crate) struct EmbedRequest {
    model: Option<String>,
    input: Option<Input>,
    /// The text of the older interface.
    prompt: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Several(Vec<String>),
}

/// Answers a request.
pub(crate) async fn embed(
    State(app): State<App>,
    session: SessionName,
    Body(request): Body<EmbedRequest>,
) -> Result<Json<Value>, ApiError> {
    let name = app.models.find(request.model.as_deref())?.name.clone();
    let (vectors, tokens) = vectors(&app, &session, request).await?;
    Ok(Json(json!({
        "model": name,
        "embeddings": vectors,
        "total_duration": 0,
        "load_duration": 0,
        "prompt_eval_count": tokens,
    })))
}

/// Answers a request of the older interface.
pub(crate) async fn embeddings(
    State(app): State<App>,
    session: SessionName,
    Body(request): Body<EmbedRequest>,
) -> Result<Json<Value>, ApiError> {
    let (vectors, _) = vectors(&app, &session, request).await?;
    Ok(Json(json!({"embedding": vectors.into_iter().next().unwrap_or_default()})))
}

/// Returns the vectors of all texts, and the number of their tokens.
async fn vectors(
    app: &App,
    session: &SessionName,
    request: EmbedRequest,
) -> Result<(Vec<Vec<f32>>, usize), ApiError> {
    let target = app.target(request.model.as_deref(), session)?;
    let texts = match (request.input, request.prompt) {
        // Ollama answers an empty text with no vectors.
        (Some(Input::One(text)), _) if text.is_empty() => Vec::new(),
        (Some(Input::One(text)), _) | (None, Some(text)) => vec![text],
        (Some(Input::Several(texts)), _) => texts,
        (None, None) => return Err(ApiError::field("input", "input is missing; give a text or several")),
    };
    if texts.len() > app.options.limits.rows {
        let most = app.options.limits.rows;
        return Err(ApiError::field(
            "input",
            format!("input has {} texts; this server takes {most} at most", texts.len()),
        ));
    }
    queries::run(app, move |cancel| {
        let language = target.language()?;
        let mut tokens = 0;
        let vector = |text: String| {
            if text.is_empty() {
                return Err(ApiError::field("input", "input has an empty text; leave it out"));
            }
            let encoded = language.encode(&text, true)?;
            tokens += encoded.len();
            mean_hidden_state(language, &encoded, cancel)
        };
        let vectors = texts.into_iter().map(vector).collect::<Result<Vec<_>, ApiError>>()?;
        Ok((vectors, tokens))
    })
    .await
}
