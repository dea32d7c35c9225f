//! Errors as HTTP answers.
//!
//! Handlers return an [`ApiError`]. It is written in the shape of the interface that was asked: OpenAI's routes nest it,
//! all others give a message alone. See [`crate::routes`] for which is which.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use larql_knowledge::KnowledgeError;
use larql_session::ExecuteError;
use miette::Diagnostic;
use serde_json::{Value, json};

use crate::engine::EngineError;

/// Failure of a request.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    /// Status code.
    pub(crate) status: StatusCode,
    /// Sentence for people: the problem, and the next step.
    pub(crate) message: String,
    /// Name of the field at fault.
    pub(crate) param: Option<String>,
    /// Word for programs.
    pub(crate) code: Option<&'static str>,
    /// Seconds after which another try may succeed.
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    /// Returns an error with a status and a message.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// Returns an error of the caller's (400).
    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// Returns an error about one field (400).
    pub(crate) fn field(param: &str, message: impl Into<String>) -> ApiError {
        ApiError { param: Some(param.to_owned()), ..ApiError::invalid(message) }
    }

    /// Returns an error about something that there is not (404).
    pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    /// Returns an error of the server's (500).
    pub(crate) fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Adds a word for programs.
    pub(crate) fn with_code(self, code: &'static str) -> ApiError {
        ApiError { code: Some(code), ..self }
    }

    /// Returns the kind of error as OpenAI names it.
    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "service_unavailable_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// Returns the error as OpenAI's routes write it.
    pub(crate) fn nested(&self) -> Value {
        let ApiError { message, param, code, .. } = self;
        json!({"error": {"message": message, "type": self.kind(), "param": param, "code": code}})
    }

    /// Returns the error as all other routes write it.
    pub(crate) fn flat(&self) -> Value {
        json!({"error": self.message})
    }

    /// Returns the answer with a body.
    pub(crate) fn response(&self, body: Value) -> Response {
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // Browsers ask for a password then, which is the key.
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"larql\", charset=\"UTF-8\""),
            );
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.response(self.flat());
        // The layer that knows the route writes it in that route's shape.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> ApiError {
        let message = error.to_string();
        match error {
            EngineError::Full { seconds, .. } => ApiError {
                retry_after: Some(seconds),
                code: Some("queue_full"),
                ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
            },
            EngineError::TooLong { .. } => ApiError::invalid(message).with_code("context_length_exceeded"),
            EngineError::Invalid(_) => ApiError::invalid(message),
            EngineError::Pass(_) => ApiError::internal(message),
            EngineError::Stopped => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message),
        }
    }
}

impl From<ExecuteError> for ApiError {
    fn from(error: ExecuteError) -> ApiError {
        if matches!(error, ExecuteError::Interrupted) {
            return ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "the statement took too long and was stopped; ask for less",
            );
        }
        let status = match error {
            ExecuteError::NotFound { .. } => StatusCode::NOT_FOUND,
            ExecuteError::NotAvailable { .. } => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        };
        let help = error.help().map(|help| help.to_string());
        let message = match help {
            Some(help) => format!("{error}; {help}"),
            None => error.to_string(),
        };
        ApiError::new(status, message)
    }
}

impl From<KnowledgeError> for ApiError {
    fn from(error: KnowledgeError) -> ApiError {
        ApiError::from(ExecuteError::from(error))
    }
}
