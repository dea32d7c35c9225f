//! The interface of gRPC: the service `vindex.VindexService` of `proto/vindex.proto`.
//!
//! A method asks the handler of the HTTP route of the same name, and reads its message from the handler's JSON, so that both
//! answer alike. `walk_ffn` has no such route.

mod walk_ffn;

use std::pin::Pin;
use std::time::Instant;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::Stream;
use larql_lql::ast::{Describe, Detail, Pipe, Statement};
use larql_lql::output::Output;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use crate::body::{Body, Query};
use crate::error::ApiError;
use crate::health;
use crate::larql::{
    self, Asked, DescribeQuery, InferRequest, RelationsQuery, SelectRequest, WalkQuery, edge_json, scope,
    stream_statement, subject,
};
use crate::state::{App, SessionName};

use self::wire::vindex_service_server::{VindexService, VindexServiceServer};

/// Messages and the trait of the service, as `build.rs` makes them.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub(crate) mod wire {
    tonic::include_proto!("vindex");
}

/// Path of the method that needs no key.
pub(crate) const HEALTH: &str = "/vindex.VindexService/Health";

/// Returns the router of the service.
pub(crate) fn routes(app: App) -> Router {
    let largest = app.options.limits.body_bytes;
    let service = VindexServiceServer::new(Service { app }).max_decoding_message_size(largest);
    tonic::service::Routes::new(service).into_axum_router()
}

struct Service {
    app: App,
}

/// A value that a client gave; none where it is the default of its type.
fn given<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn rows(value: u32) -> Option<usize> {
    given(value).map(|value| value as usize)
}

/// The model and the session that the metadata name.
fn asked(metadata: &MetadataMap) -> Result<Asked, Status> {
    let text = |name: &str| match metadata.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) => Ok(given(text.trim().to_owned())),
        Some(Err(_)) => {
            Err(Status::invalid_argument(format!("{name} may have visible ASCII characters only")))
        }
    };
    let session = text("x-session-id")?.map_or_else(SessionName::default, |name| SessionName::named(&name));
    Ok(Asked { model: text("x-model")?, session })
}

/// Reads a message from the JSON of a handler.
fn message<T: DeserializeOwned>(answer: Result<Json<Value>, ApiError>) -> Result<Response<T>, Status> {
    let Json(value) = answer.map_err(status)?;
    let message = serde_json::from_value(without_nulls(value));
    message.map(Response::new).map_err(|error| Status::internal(error.to_string()))
}

/// Leaves out the fields that are null, which messages do not have.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let present = fields.into_iter().filter(|(_, value)| !value.is_null());
            present.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// An error as gRPC names it.
fn status(error: ApiError) -> Status {
    let code = match error.status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        status if status.is_server_error() => Code::Internal,
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.message)
}

#[tonic::async_trait]
impl VindexService for Service {
    async fn describe(
        &self,
        request: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::DescribeResponse>, Status> {
        let asked = asked(request.metadata())?;
        let wire::DescribeRequest { entity, band, verbose, limit, min_score } = request.into_inner();
        let query = DescribeQuery {
            entity,
            band: given(band),
            verbose,
            limit: rows(limit),
            min_score: given(min_score),
        };
        message(larql::described(&self.app, &asked, &query).await.map(Json))
    }

    type StreamDescribeStream =
        Pin<Box<dyn Stream<Item = Result<wire::DescribeLayerEvent, Status>> + Send + 'static>>;

    async fn stream_describe(
        &self,
        request: Request<wire::DescribeRequest>,
    ) -> Result<Response<Self::StreamDescribeStream>, Status> {
        let asked = asked(request.metadata())?;
        let wire::DescribeRequest { entity, band, verbose, min_score, .. } = request.into_inner();
        let statement = Describe {
            entity: subject("entity", &entity).map_err(status)?,
            scope: Some(scope(given(band).as_deref()).map_err(status)?),
            layer: None,
            relations_only: false,
            detail: Some(Detail::Verbose),
            limit: None,
            stream: true,
        };
        let pipe = Pipe { stages: vec![Statement::Describe(statement).into()] };
        let (results, layers) = unbounded_channel();
        let app = App::clone(&self.app);
        let task = tokio::spawn(async move { stream_statement(&app, &asked, pipe, results).await });
        let described = DescribedLayers {
            layers,
            task: AbortOnDrop(task),
            verbose,
            least: min_score,
            started: Instant::now(),
            edges: 0,
            is_done: false,
        };
        Ok(Response::new(Box::pin(futures_util::stream::unfold(described, DescribedLayers::next))))
    }

    async fn walk(
        &self,
        request: Request<wire::WalkRequest>,
    ) -> Result<Response<wire::WalkResponse>, Status> {
        let asked = asked(request.metadata())?;
        let wire::WalkRequest { prompt, top, layers } = request.into_inner();
        let query = WalkQuery { prompt, top: rows(top), layers: given(layers) };
        message(larql::walk(State(App::clone(&self.app)), asked, Query(query)).await)
    }

    async fn select(
        &self,
        request: Request<wire::SelectRequest>,
    ) -> Result<Response<wire::SelectResponse>, Status> {
        let asked = asked(request.metadata())?;
        let wire::SelectRequest { entity, relation, layer, limit, min_confidence, order_by, order } =
            request.into_inner();
        let body = SelectRequest {
            entity: given(entity),
            relation: given(relation),
            layer: layer.map(|layer| layer as usize),
            limit: rows(limit),
            min_confidence: given(min_confidence).map(f64::from),
            order_by: given(order_by),
            order: given(order),
        };
        message(larql::select(State(App::clone(&self.app)), asked, Body(body)).await)
    }

    async fn infer(
        &self,
        request: Request<wire::InferRequest>,
    ) -> Result<Response<wire::InferResponse>, Status> {
        let asked = asked(request.metadata())?;
        let wire::InferRequest { prompt, top, mode } = request.into_inner();
        let body = InferRequest { prompt, top: rows(top), mode: given(mode) };
        let answer = larql::infer(State(App::clone(&self.app)), asked, Body(body)).await;
        message(answer.map(|Json(mut value)| {
            for run in ["walk", "dense"] {
                value[format!("{run}_predictions")] = value[run].take();
            }
            Json(value)
        }))
    }

    async fn get_relations(
        &self,
        request: Request<wire::RelationsRequest>,
    ) -> Result<Response<wire::RelationsResponse>, Status> {
        let asked = asked(request.metadata())?;
        let query = RelationsQuery { source: given(request.into_inner().source) };
        let answer = larql::relations(State(App::clone(&self.app)), asked, Query(query)).await;
        message(answer.map(|Json(mut value)| {
            value["total"] = value["relations"].as_array().map_or(0, Vec::len).into();
            Json(value)
        }))
    }

    async fn get_stats(
        &self,
        request: Request<wire::StatsRequest>,
    ) -> Result<Response<wire::StatsResponse>, Status> {
        let asked = asked(request.metadata())?;
        let answer = larql::stats(State(App::clone(&self.app)), asked).await;
        message(answer.map(|Json(mut value)| {
            // The routes list every layer; the message has one number.
            value["features_per_layer"] = value["features_per_layer"][0].take();
            Json(value)
        }))
    }

    async fn walk_ffn(
        &self,
        request: Request<wire::WalkFfnRequest>,
    ) -> Result<Response<wire::WalkFfnResponse>, Status> {
        let asked = asked(request.metadata())?;
        walk_ffn::answer(&self.app, &asked, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn health(
        &self,
        _: Request<wire::HealthRequest>,
    ) -> Result<Response<wire::HealthResponse>, Status> {
        message(Ok(health::health(State(App::clone(&self.app))).await))
    }
}

/// The layers of a description, as they come.
struct DescribedLayers {
    layers: UnboundedReceiver<Output>,
    task: AbortOnDrop,
    verbose: bool,
    /// Edges of smaller scores are left out.
    least: f32,
    started: Instant,
    edges: u32,
    is_done: bool,
}

/// A task that ends with the stream of its results.
struct AbortOnDrop(tokio::task::JoinHandle<Result<(), ApiError>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl DescribedLayers {
    /// The next event, with what follows it.
    async fn next(mut self) -> Option<(Result<wire::DescribeLayerEvent, Status>, DescribedLayers)> {
        if self.is_done {
            return None;
        }
        loop {
            match self.layers.recv().await {
                Some(Output::Describe(described)) => {
                    let Some(band) = described.bands.into_iter().next() else { continue };
                    let strong =
                        band.edges.iter().filter(|edge| self.least == 0.0 || edge.gate >= self.least);
                    let edges = strong.map(|edge| edge_json(edge, self.verbose)).map(without_nulls);
                    let edges = match edges.map(serde_json::from_value).collect::<Result<Vec<_>, _>>() {
                        Ok(edges) => edges,
                        Err(error) => return Some((Err(Status::internal(error.to_string())), self)),
                    };
                    self.edges += edges.len() as u32;
                    let layer = band.layer as u32;
                    let event = wire::DescribeLayerEvent { layer, edges, ..Default::default() };
                    return Some((Ok(event), self));
                }
                Some(_) => {}
                None => {
                    self.is_done = true;
                    let end = match (&mut self.task.0).await {
                        Ok(Ok(())) => Ok(wire::DescribeLayerEvent {
                            done: true,
                            total_edges: self.edges,
                            latency_ms: self.started.elapsed().as_secs_f32() * 1e3,
                            ..Default::default()
                        }),
                        Ok(Err(error)) => Err(status(error)),
                        Err(_) => Err(Status::internal("an assertion failed; please report it")),
                    };
                    return Some((end, self));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_absent_and_numbers_fit() {
        let json = serde_json::json!({
            "entity": "France", "model": "m", "next": null, "latency_ms": 1.5,
            "edges": [{"target": "Paris", "gate_score": 2.5, "layer": 3, "relation": null, "also": ["a"], "via": "probe"}]
        });
        let read: wire::DescribeResponse = message(Ok(Json(json))).unwrap().into_inner();
        assert_eq!((&*read.entity, read.latency_ms, read.edges.len()), ("France", 1.5, 1));
        assert_eq!((&*read.edges[0].target, &*read.edges[0].relation, read.edges[0].layer), ("Paris", "", 3));
    }

    #[test]
    fn errors_have_the_code_of_their_status() {
        assert_eq!(status(ApiError::field("top", "too many")).code(), Code::InvalidArgument);
        assert_eq!(status(ApiError::not_found("no such model")).code(), Code::NotFound);
        assert_eq!(status(ApiError::internal("broken")).code(), Code::Internal);
    }
}
