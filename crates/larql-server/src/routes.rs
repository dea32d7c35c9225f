//! The table of routes, and the layers around them.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::error::ApiError;
use crate::metrics::RequestLabels;
use crate::options::ServeOptions;
use crate::protection::{Protection, cors, protect};
use crate::state::App;
use crate::{explorer, grpc, health, larql, mcp, ollama, openai, openapi, websocket};

/// A route: its path, and its handlers by method.
type Route = (&'static str, MethodRouter<App>);

/// The routes that ask one model, after `/v1` and the part that names it.
macro_rules! of_models {
    ($model:literal) => {{
        let routes: [Route; 17] = [
            (concat!("/v1", $model, "/describe"), get(larql::describe)),
            (concat!("/v1", $model, "/walk"), get(larql::walk)),
            (concat!("/v1", $model, "/select"), post(larql::select)),
            (concat!("/v1", $model, "/relations"), get(larql::relations)),
            (concat!("/v1", $model, "/stats"), get(larql::stats)),
            (concat!("/v1", $model, "/infer"), post(larql::infer)),
            (concat!("/v1", $model, "/explain-infer"), post(larql::explain_infer)),
            (concat!("/v1", $model, "/trace"), post(larql::trace)),
            (concat!("/v1", $model, "/lql"), post(larql::lql)),
            (concat!("/v1", $model, "/insert"), post(larql::insert)),
            (concat!("/v1", $model, "/patches"), get(larql::list_patches)),
            (concat!("/v1", $model, "/patches/apply"), post(larql::apply_patch)),
            (
                concat!("/v1", $model, "/patches/{name}"),
                get(larql::show_patch).merge(delete(larql::remove_patch)),
            ),
            (concat!("/v1", $model, "/token/encode"), get(larql::encode)),
            (concat!("/v1", $model, "/token/decode"), get(larql::decode)),
            (concat!("/v1", $model, "/warmup"), post(larql::warmup)),
            (concat!("/v1", $model, "/stream"), get(websocket::connect)),
        ];
        routes
    }};
}

/// Returns the routes that a server with these options has.
fn table(options: &ServeOptions) -> Vec<Route> {
    let mut routes = vec![
        ("/v1/health", get(health::health)),
        ("/metrics", get(health::metrics)),
        ("/v1/models", get(openai::list_models)),
        ("/v1/models/{name}", get(openai::show_model)),
        ("/v1/completions", post(openai::completions)),
        ("/v1/chat/completions", post(openai::chat_completions)),
        ("/v1/embeddings", post(openai::embeddings)),
        ("/v1/responses", post(openai::create_response)),
        ("/v1/responses/{id}", get(openai::show_response).merge(delete(openai::delete_response))),
        ("/api/generate", post(ollama::generate)),
        ("/api/chat", post(ollama::chat)),
        ("/api/embed", post(ollama::embed)),
        ("/api/embeddings", post(ollama::embeddings)),
        ("/api/tags", get(ollama::tags)),
        ("/api/ps", get(ollama::ps)),
        ("/api/show", post(ollama::show)),
        ("/api/version", get(ollama::version)),
        ("/v1/runtime", get(larql::runtime)),
        ("/v1/capabilities", get(larql::capabilities)),
        ("/v1/sessions", get(larql::list_sessions)),
        ("/v1/sessions/{id}", get(larql::show_session)),
    ];
    if options.docs {
        routes.push(("/", get(explorer::page)));
        routes.push(("/openapi.json", get(openapi::openapi)));
        routes.push(("/explorer/{*file}", get(explorer::file)));
    }
    routes.extend(of_models!(""));
    if options.models.len() > 1 {
        routes.extend(of_models!("/{model}"));
    }
    routes
}

/// Path of the Model Context Protocol.
const MCP: &str = "/mcp";

/// Returns the paths of the routes that a server with these options has.
pub(crate) fn paths(options: &ServeOptions) -> Vec<&'static str> {
    table(options).into_iter().map(|(path, _)| path).chain([MCP]).collect()
}

/// Returns true for routes whose errors OpenAI's clients read.
fn is_openai(path: &str) -> bool {
    const ROUTES: [&str; 5] =
        ["/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/responses"];
    ROUTES
        .iter()
        .any(|route| path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Returns the router of a server.
pub(crate) fn router(app: App) -> Router {
    let routes = table(&app.options);
    let router =
        routes.into_iter().fold(Router::new(), |router, (path, handlers)| router.route(path, handlers));
    let router = router
        .route_service(MCP, mcp::http_service(App::clone(&app)))
        .fallback(|| async {
            ApiError::not_found("there is no such route; GET /v1/capabilities lists those that there are")
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this route has other methods; /openapi.json lists them",
            )
        })
        .with_state(App::clone(&app));
    guarded(router, &app)
}

/// Returns the router of gRPC.
pub(crate) fn grpc_router(app: App) -> Router {
    guarded(grpc::routes(App::clone(&app)), &app)
}

/// Puts the layers around routes that bound, protect and count requests.
fn guarded(router: Router, app: &App) -> Router {
    let limits = app.options.limits;
    let protection = Arc::new(Protection::new(&app.options));
    router
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(RequestBodyTimeoutLayer::new(limits.body_time))
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::internal("an assertion failed; please report it").into_response()
        }))
        .layer(from_fn_with_state(protection, protect))
        .layer(cors(&app.options.cors_origins))
        .layer(from_fn_with_state(App::clone(app), observe))
}

/// Layer that counts and logs requests, and writes errors in the shape of the route.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let mut response = next.run(request).await;
    if is_openai(&path)
        && let Some(error) = response.extensions_mut().remove::<ApiError>()
    {
        response = error.response(error.nested());
    }
    let (status, time) = (response.status().as_u16(), started.elapsed());
    app.served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    app.metrics.requests.get_or_create(&RequestLabels { route, status }).inc();
    app.metrics.request_seconds.observe(time.as_secs_f64());
    if app.options.access_log {
        // The path alone: what is asked is nobody's business.
        let line = format!(
            "{} {method} {path} {status} {:.1} ms\n",
            jiff::Timestamp::now(),
            time.as_secs_f64() * 1e3
        );
        // A log that nobody reads any more stops no request.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    response
}
