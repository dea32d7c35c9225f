//! `POST /v1/embeddings`: texts as vectors.
//!
//! A text's vector is the mean over its tokens of the model's last hidden state, after the final norm, at unit length. A
//! language model is not trained for this: near vectors mean that the model expects similar things to follow, which is often
//! but not always a similar meaning.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larql_compute::Precision;
use larql_compute::vector::norm;
use larql_core::progress::CancelToken;
use larql_inference::{KeyValueCache, Pass, Sequence};
use larql_knowledge::{KnowledgeError, LanguageModel};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::{Prompt, Prompts};
use crate::body::Body;
use crate::error::ApiError;
use crate::queries;
use crate::state::{App, SessionName};

/// A request.
#[derive(Debug, Deserialize)]
pub(crate) struct EmbeddingRequest {
    model: Option<String>,
    input: Prompts,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

/// Answers a request.
pub(crate) async fn embeddings(
    State(app): State<App>,
    session: SessionName,
    Body(request): Body<EmbeddingRequest>,
) -> Result<Json<Value>, ApiError> {
    let target = app.target(request.model.as_deref(), &session)?;
    let base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("encoding_format is {other:?}; expected float or base64");
            return Err(ApiError::field("encoding_format", message));
        }
    };
    let hidden = target.model.spec().hidden_size;
    if request.dimensions.is_some_and(|dimensions| dimensions != hidden) {
        let message = format!("the model's vectors have {hidden} dimensions; leave dimensions out");
        return Err(ApiError::field("dimensions", message));
    }
    let inputs = request.input.into_vec();
    if inputs.iter().any(Prompt::is_empty) || inputs.is_empty() {
        return Err(ApiError::field(
            "input",
            "input has an empty text or none at all; give at least one token",
        ));
    }
    let most = app.options.limits.rows;
    if inputs.len() > most {
        return Err(ApiError::field(
            "input",
            format!("input has {} texts; this server takes {most} at most", inputs.len()),
        ));
    }
    let name = target.model.name.clone();
    let (vectors, tokens) = queries::run(&app, move |cancel| {
        let language = target.language()?;
        let mut tokens = 0;
        let mut vector = |input| {
            let input = match input {
                Prompt::Text(text) => language.encode(&text, true)?,
                Prompt::Tokens(tokens) => tokens,
            };
            tokens += input.len();
            mean_hidden_state(language, &input, cancel)
        };
        let vectors = inputs.into_iter().map(&mut vector).collect::<Result<Vec<_>, ApiError>>()?;
        Ok((vectors, tokens))
    })
    .await?;
    let data = vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = match base64 {
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                Value::String(STANDARD.encode(bytes))
            }
            false => json!(vector),
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    Ok(Json(json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

/// Returns the mean hidden state of tokens after the final norm, `[hidden]`, at unit length.
///
/// # Errors
/// If there are no tokens, there are more than the context holds, or a pass fails.
pub(crate) fn mean_hidden_state(
    language: &LanguageModel,
    tokens: &[u32],
    cancel: &CancelToken,
) -> Result<Vec<f32>, ApiError> {
    let spec = language.model().spec();
    if tokens.is_empty() {
        return Err(ApiError::field("input", "a text is empty; give at least one token"));
    }
    if tokens.len() > spec.context_length {
        let message = format!(
            "a text is {} tokens long, but the model's context holds {}; split it",
            tokens.len(),
            spec.context_length
        );
        return Err(ApiError::field("input", message));
    }
    let mut state = KeyValueCache::new(spec);
    let mut pass = Pass::new(language.model()).with_precision(Precision::Exact).with_cancel(cancel);
    let mut states = pass.residual(&mut [Sequence::new(&mut state, tokens)]).map_err(KnowledgeError::from)?;
    language.model().ends().final_norm(&mut states).map_err(KnowledgeError::from)?;
    let mut vector = vec![0.0; spec.hidden_size];
    for row in states.chunks_exact(spec.hidden_size) {
        vector.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let length = norm(&vector).max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|value| *value /= length);
    Ok(vector)
}
