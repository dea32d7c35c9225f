//! Bodies and fields of requests, whose errors are those of the interface.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ApiError;

/// A JSON body. Its content type does not matter, as `curl -d` names another one; requests of other sites' pages are refused
/// by their origin.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, ApiError> {
        let bytes = axum::body::Bytes::from_request(request, state).await.map_err(|rejection| {
            let message = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    "the body is larger than this server takes; send less at once".to_owned()
                }
                _ => format!("the body could not be read: {}", rejection.body_text()),
            };
            ApiError::new(rejection.status(), message)
        })?;
        let text = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::invalid("expected a JSON object as the body"));
        }
        let value = serde_json::from_slice(text).or_else(|error| {
            // In JSON, 10.0 is a whole number.
            let value = serde_json::from_slice(text).map(with_whole_numbers);
            value.and_then(serde_json::from_value).map_err(|_| error)
        });
        value.map(Body).map_err(|error| {
            ApiError::invalid(format!("the body is not the JSON that was expected: {error}"))
        })
    }
}

/// Writes numbers without a fraction as whole numbers.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, with_whole_numbers(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(with_whole_numbers).collect(),
        Value::Number(number) => match number.as_f64() {
            // Up to 2^53 every whole number is one of these.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= 9.007e15 => {
                (float as i64).into()
            }
            _ => Value::Number(number),
        },
        other => other,
    }
}

/// The fields of an address, after its `?`.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, ApiError> {
        let fields = axum::extract::Query::try_from_uri(&parts.uri);
        fields.map(|fields| Query(fields.0)).map_err(|rejection| {
            ApiError::invalid(format!("the address is not what was expected: {}", rejection.body_text()))
        })
    }
}
