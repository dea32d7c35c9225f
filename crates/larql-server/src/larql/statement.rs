//! Statements: how they are carried out for a request, and `POST /v1/lql`.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use larql_core::progress::CancelToken;
use larql_lql::ast::{ExplainInfer, Pipe, ShowGraph, Spanned, Statement};
use larql_lql::output::Output;
use larql_session::{ExecuteError, Session};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use crate::body::Body;
use crate::error::ApiError;
use crate::queries;
use crate::sessions::Target;
use crate::state::{App, SessionName};

/// The model and the session that a request names: the model as in `/v1/{model}/…`, the session by its header.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) model: Option<String>,
    pub(crate) session: SessionName,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked, ApiError> {
        let session = SessionName::from_request_parts(parts, state).await?;
        let params = RawPathParams::from_request_parts(parts, state).await.ok();
        let model =
            params.iter().flatten().find(|(name, _)| *name == "model").map(|(_, model)| model.to_owned());
        Ok(Asked { model, session })
    }
}

impl Asked {
    /// Returns the model with the session's edits.
    ///
    /// # Errors
    /// 404 if there is no such model.
    pub(crate) fn target(&self, app: &App) -> Result<Target, ApiError> {
        app.target(self.model.as_deref(), &self.session)
    }
}

/// Carries out a statement that reads, and returns its result with the time it took in milliseconds.
///
/// # Errors
/// Those of the statement.
pub(crate) async fn ask(app: &App, target: &Target, statement: Statement) -> Result<(Output, f64), ApiError> {
    ask_rows(app, target, statement, None).await
}

/// As [`ask`], for at most `most_rows` rows of a listing without LIMIT. The result says how many it leaves out.
///
/// # Errors
/// Those of the statement.
pub(super) async fn ask_rows(
    app: &App,
    target: &Target,
    statement: Statement,
    most_rows: Option<usize>,
) -> Result<(Output, f64), ApiError> {
    check_allowed(app, &statement)?;
    let (shared, target) = (App::clone(app), target.clone());
    queries::run(app, move |cancel| {
        let started = Instant::now();
        let output = target.with_session(&shared, cancel, |session| {
            session.set_most_rows(most_rows);
            session.query(&statement)
        })?;
        Ok((without_paths(output, &target), started.elapsed().as_secs_f64() * 1e3))
    })
    .await
}

/// Returns a result that names the model where it named its path.
fn without_paths(output: Output, target: &Target) -> Output {
    match output {
        Output::Stats(mut stats) => {
            stats.path.clone_from(&target.model.name);
            Output::Stats(stats)
        }
        other => other,
    }
}

/// Refuses statements that read or write files of the server, or that it was started without.
fn check_allowed(app: &App, statement: &Statement) -> Result<(), ApiError> {
    let forbidden = |reason: &str| {
        let message = format!("{} {reason}", statement.name());
        Err(ApiError::new(StatusCode::FORBIDDEN, message).with_code("not_allowed"))
    };
    match statement {
        Statement::Use(_) => {
            forbidden("is not for a server; name the model in the address, as in /v1/NAME/lql")
        }
        Statement::Extract(_)
        | Statement::CompileVindex(_)
        | Statement::CompileModel(_)
        | Statement::Diff(_)
        | Statement::Merge(_)
        | Statement::BeginPatch(_)
        | Statement::SavePatch(_)
        | Statement::ApplyPatch(_)
        | Statement::ShowModels => forbidden(
            "works on files, and those of a server are not for its clients; patches are sent to /v1/patches/apply, and \
             fetched from /v1/patches",
        ),
        Statement::ExplainInfer(ExplainInfer { graph: Some(ShowGraph { save: Some(_) }), .. }) => forbidden(
            "with SAVE writes a file, and those of a server are not for its clients; leave SAVE out",
        ),
        Statement::Trace(trace) if trace.save.is_some() => forbidden(
            "with SAVE writes a file, and those of a server are not for its clients; leave SAVE out",
        ),
        Statement::Infer(infer) if infer.intervention.is_some() => forbidden(
            "with a declared intervention reads a file, and those of a server are not for its clients",
        ),
        Statement::Stats(stats) if stats.path.is_some() => {
            forbidden("of another file is not for a server; leave the path out")
        }
        change if changes_session(change) && !app.options.edit => {
            forbidden("changes the model, and this server was started with --no-edit")
        }
        Statement::Infer(_) | Statement::ExplainInfer(_) | Statement::Trace(_) => app.check_runs_models(),
        _ => Ok(()),
    }
}

/// Returns true for statements that change their session.
fn changes_session(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Insert(_)
            | Statement::Delete(_)
            | Statement::Update(_)
            | Statement::Rebalance(_)
            | Statement::Compact(_)
            | Statement::RemovePatch(_)
            | Statement::Undo
    )
}

/// Statements in LQL.
#[derive(Debug, Deserialize)]
pub(crate) struct LqlRequest {
    /// The text: statements, each up to its `;`.
    query: String,
    /// Rows of a listing without LIMIT; all if none is given.
    most_rows: Option<usize>,
}

/// Carries out statements, and answers with their typed results.
pub(crate) async fn lql(
    State(app): State<App>,
    asked: Asked,
    Body(request): Body<LqlRequest>,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let results = run_statements(&app, &asked, &request.query, request.most_rows).await?;
    Ok(Json(json!({"results": results, "latency_ms": milliseconds(started)})))
}

/// Carries out statements one after another.
///
/// # Errors
/// That of the first statement that fails.
pub(crate) async fn run_statements(
    app: &App,
    asked: &Asked,
    text: &str,
    most_rows: Option<usize>,
) -> Result<Vec<Output>, ApiError> {
    let pipes = larql_lql::parse(text).map_err(|error| {
        let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
        ApiError::field("query", format!("{error}{help}"))
    })?;
    if pipes.is_empty() {
        return Err(ApiError::field("query", "there is no statement; give one, such as STATS;"));
    }
    let stages = || pipes.iter().flat_map(|pipe| &pipe.stages);
    stages().try_for_each(|stage| check_allowed(app, &stage.value))?;
    if stages().any(|stage| changes_session(&stage.value)) {
        return change(app, asked, move |session| execute(session, &pipes)).await;
    }
    let target = asked.target(app)?;
    // Which patch is open is known to the session alone, not to the view of it that readers have.
    let shows_patches = stages().any(|stage| matches!(stage.value, Statement::ShowPatches));
    if shows_patches && app.sessions.find(&target.model, asked.session.name()).is_some() {
        return change(app, asked, move |session| execute(session, &pipes)).await;
    }
    let shared = App::clone(app);
    queries::run(app, move |cancel| {
        let outputs = target.with_session(&shared, cancel, |session| {
            session.set_most_rows(most_rows);
            execute(session, &pipes)
        })?;
        Ok(outputs.into_iter().map(|output| without_paths(output, &target)).collect())
    })
    .await
}

impl Target {
    /// Hands `work` a session of its own that begins with what this target shows. Nobody else sees what becomes of it.
    fn with_session<T>(
        &self,
        app: &App,
        cancel: &CancelToken,
        work: impl FnOnce(&mut Session) -> Result<T, ExecuteError>,
    ) -> Result<T, ApiError> {
        let catalog = Arc::clone(app.sessions.catalog());
        let progress = Arc::new(cancel.clone());
        let result = match &self.view {
            Some(view) => work(&mut Session::of_view(catalog, Arc::clone(view)).with_progress(progress)),
            None => {
                let mut session = Session::new(catalog).with_progress(progress);
                session.open_path(&self.model.path).and_then(|_| work(&mut session))
            }
        };
        result.map_err(|error| self.without_path(error.into()))
    }
}

fn execute(session: &mut Session, pipes: &[Spanned<Pipe>]) -> Result<Vec<Output>, ExecuteError> {
    let mut outputs = Vec::new();
    for pipe in pipes {
        session.execute_pipe(pipe, &mut |output| outputs.push(output))?;
    }
    Ok(outputs)
}

/// Changes the session that a request names, and shows readers the result. One change at a time is made to a session.
///
/// # Errors
/// Those of the change.
pub(super) async fn change<T: Send + 'static>(
    app: &App,
    asked: &Asked,
    work: impl FnOnce(&mut Session) -> Result<T, ExecuteError> + Send + 'static,
) -> Result<T, ApiError> {
    if !app.options.edit {
        let message = "this server was started with --no-edit";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message).with_code("not_allowed"));
    }
    let target = asked.target(app)?;
    let open = app.sessions.open(&target.model, asked.session.name())?;
    let (shared, name) = (App::clone(app), asked.session.name().map(str::to_owned));
    queries::run_within(app, app.options.limits.edit_time, move |cancel| {
        let mut session = open.session.write().unwrap_or_else(PoisonError::into_inner);
        session.set_progress(Arc::new(cancel.clone()));
        let result = work(&mut session);
        // What was done before an error counts.
        shared.sessions.publish(&target.model, name.as_deref(), &open, &session);
        result.map_err(|error| target.without_path(error.into()))
    })
    .await
}

/// Carries out one pipe, and hands on each of its results as soon as it is there.
///
/// # Errors
/// Those of the statement.
pub(crate) async fn stream_statement(
    app: &App,
    asked: &Asked,
    pipe: Pipe,
    results: UnboundedSender<Output>,
) -> Result<(), ApiError> {
    pipe.stages.iter().try_for_each(|stage| check_allowed(app, &stage.value))?;
    let (target, shared) = (asked.target(app)?, App::clone(app));
    queries::run(app, move |cancel| {
        target.with_session(&shared, cancel, |session| {
            // A client that disconnects cancels the statement.
            session.execute_pipe(&pipe, &mut |output| drop(results.send(output)))
        })
    })
    .await
}

/// Milliseconds since a moment, to two decimals.
pub(super) fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e5).round() / 100.0
}
