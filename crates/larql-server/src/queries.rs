//! Work that takes long, off the threads that serve connections.

use larql_core::progress::CancelToken;

use crate::error::ApiError;
use crate::state::App;

/// Runs work on a thread of its own, once there is a place. It is cancelled if it takes too long, or the client goes away.
///
/// # Errors
/// Those of the work; 504 if it takes too long.
pub(crate) async fn run<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&CancelToken) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    run_within(app, app.options.limits.query_time, work).await
}

/// As [`run`], with a bound of its own.
pub(crate) async fn run_within<T: Send + 'static>(
    app: &App,
    time: std::time::Duration,
    work: impl FnOnce(&CancelToken) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let too_long = || {
        let message =
            format!("the answer took longer than {} s and was stopped; ask for less", time.as_secs());
        ApiError::new(axum::http::StatusCode::GATEWAY_TIMEOUT, message)
    };
    let deadline = tokio::time::Instant::now() + time;
    let place = tokio::time::timeout_at(deadline, app.queries.clone().acquire_owned()).await;
    let place =
        place.map_err(|_| too_long())?.map_err(|_| ApiError::internal("the server is shutting down"))?;
    let cancel = CancelToken::new();
    let guard = CancelOnDrop(cancel.clone());
    let task = tokio::task::spawn_blocking(move || {
        let result = work(&cancel);
        drop(place);
        result
    });
    let result = tokio::time::timeout_at(deadline, task).await.map_err(|_| too_long())?;
    drop(guard);
    result.unwrap_or_else(|_| Err(ApiError::internal("an assertion failed; please report it")))
}

/// Cancels work that nobody waits for any more.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
