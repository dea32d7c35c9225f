//! State that all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use tokio::sync::Semaphore;

use crate::engine::Scheduler;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::openai::StoredResponses;
use crate::options::ServeOptions;
use crate::sessions::{Sessions, Target};

/// The server, as handlers see it.
pub(crate) struct AppState {
    pub(crate) options: ServeOptions,
    pub(crate) models: Models,
    pub(crate) sessions: Sessions,
    pub(crate) scheduler: Scheduler,
    pub(crate) metrics: Arc<Metrics>,
    /// Places for questions in LQL.
    pub(crate) queries: Arc<Semaphore>,
    /// Answers that later ones can continue.
    pub(crate) responses: StoredResponses,
    /// Paths of the routes that are mounted.
    pub(crate) routes: Vec<&'static str>,
    pub(crate) started: Instant,
    /// Requests that were answered.
    pub(crate) served: AtomicU64,
    next_id: AtomicU64,
    id_base: u64,
}

/// Shared state.
pub(crate) type App = Arc<AppState>;

impl AppState {
    /// Returns the state of a server that has answered nothing yet.
    pub(crate) fn new(
        options: ServeOptions,
        models: Models,
        sessions: Sessions,
        scheduler: Scheduler,
        metrics: Arc<Metrics>,
        routes: Vec<&'static str>,
    ) -> AppState {
        AppState {
            queries: Arc::new(Semaphore::new(options.limits.queries)),
            responses: StoredResponses::new(options.limits.responses),
            options,
            models,
            sessions,
            scheduler,
            metrics,
            routes,
            started: Instant::now(),
            served: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            id_base: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64),
        }
    }

    /// Returns a name that no other answer of this server has.
    pub(crate) fn new_id(&self, prefix: &str) -> String {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}-{:016x}{number:08x}", self.id_base)
    }

    /// Checks that the server answers questions that run a model.
    ///
    /// # Errors
    /// 503 if it was started without.
    pub(crate) fn check_runs_models(&self) -> Result<(), ApiError> {
        let message = "this server does not run models; it was started with --no-infer";
        let refusal = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message);
        self.options.infer.then_some(()).ok_or_else(refusal)
    }

    /// Returns the model that a request names, with the edits of its session.
    ///
    /// # Errors
    /// 404 if there is no such model.
    pub(crate) fn target(&self, model: Option<&str>, session: &SessionName) -> Result<Target, ApiError> {
        let model = self.models.find(model)?;
        Ok(self.sessions.target(model, session.name()))
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Characters of a session's name.
const LONGEST_SESSION_NAME: usize = 128;

/// The session that a request names by the header `X-Session-Id`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionName(Option<String>);

impl SessionName {
    /// Returns the name of a session of the server's own choice.
    pub(crate) fn named(name: &str) -> SessionName {
        SessionName(Some(name.to_owned()))
    }

    /// Returns the name; none for the session that all share.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<S: Sync> FromRequestParts<S> for SessionName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<SessionName, ApiError> {
        let Some(value) = parts.headers.get("x-session-id") else { return Ok(SessionName(None)) };
        let name =
            value.to_str().ok().filter(|name| name.len() <= LONGEST_SESSION_NAME).ok_or_else(|| {
                ApiError::invalid(format!(
                    "expected an X-Session-Id of at most {LONGEST_SESSION_NAME} visible ASCII characters"
                ))
            })?;
        Ok(SessionName(Some(name.trim().to_owned()).filter(|name| !name.is_empty())))
    }
}
