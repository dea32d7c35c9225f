//! Texts and their tokens.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::statement::Asked;
use crate::body::Query;
use crate::error::ApiError;
use crate::state::App;

/// A text.
#[derive(Debug, Deserialize)]
pub(crate) struct EncodeQuery {
    text: String,
    /// Add what the model expects around a whole text.
    #[serde(default)]
    special: bool,
}

/// Returns the tokens of a text.
pub(crate) async fn encode(
    State(app): State<App>,
    asked: Asked,
    Query(query): Query<EncodeQuery>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let tokenizer = target.model.tokenizer()?;
    let ids = tokenizer
        .encode(&query.text, query.special)
        .map_err(|error| ApiError::field("text", error.to_string()))?;
    let tokens: Vec<String> = ids.iter().map(|id| tokenizer.token_text(*id).unwrap_or_default()).collect();
    Ok(Json(json!({"token_ids": ids, "tokens": tokens, "text": query.text})))
}

/// Tokens.
#[derive(Debug, Deserialize)]
pub(crate) struct DecodeQuery {
    ids: String,
}

/// Returns the text of tokens.
pub(crate) async fn decode(
    State(app): State<App>,
    asked: Asked,
    Query(query): Query<DecodeQuery>,
) -> Result<Json<Value>, ApiError> {
    let target = asked.target(&app)?;
    let tokenizer = target.model.tokenizer()?;
    let most = tokenizer.vocab_size();
    let id = |text: &str| match text.trim().parse::<u32>() {
        Ok(id) if (id as usize) < most => Ok(id),
        _ => Err(ApiError::field(
            "ids",
            format!("ids has {text:?}; expected numbers from 0 to {}, as in 1,2,3", most - 1),
        )),
    };
    let ids: Vec<u32> = query.ids.split(',').map(id).collect::<Result<_, _>>()?;
    Ok(Json(json!({"token_ids": ids, "text": tokenizer.decode(&ids, false)})))
}
