//! WalkFfn: the features that a residual activates in some layers, or what their feed-forward step makes of it.

use std::time::Instant;

use larql_compute::{Activations, Precision};
use larql_inference::{Batching, FfnBackend, FfnInput, Rows};
use larql_models::FeedForwardSpec;
use larql_vindex::FeatureStore;
use larql_vindex::search::gate_knn;

use super::wire::{WalkFfnLayerResult, WalkFfnRequest, WalkFfnResponse};
use crate::error::ApiError;
use crate::larql::Asked;
use crate::queries;
use crate::sessions::Target;
use crate::state::App;

/// Features of a layer where a request gives no number.
const TOP: usize = 10;

/// Answers a request.
///
/// # Errors
/// If a layer does not exist, the residual has another length, or weights are absent.
pub(super) async fn answer(
    app: &App,
    asked: &Asked,
    request: WalkFfnRequest,
) -> Result<WalkFfnResponse, ApiError> {
    let target = asked.target(app)?;
    if request.full_output {
        app.check_runs_models()?;
    }
    let started = Instant::now();
    let results = queries::run(app, move |cancel| {
        let work = Work::new(&target, &request)?;
        let layers = work.layers(&request)?;
        let of_layer = |layer| {
            cancel.check().map_err(|_| ApiError::internal("the request was cancelled"))?;
            if request.full_output { work.output(layer) } else { work.features(layer) }
        };
        layers.into_iter().map(of_layer).collect::<Result<Vec<_>, ApiError>>()
    })
    .await?;
    Ok(WalkFfnResponse { results, latency_ms: started.elapsed().as_secs_f32() * 1e3 })
}

/// A request that was checked.
struct Work<'a> {
    target: &'a Target,
    /// `[seq_len, hidden]`
    residual: &'a [f32],
    seq_len: usize,
    top_k: Option<usize>,
}

impl<'a> Work<'a> {
    fn new(target: &'a Target, request: &'a WalkFfnRequest) -> Result<Work<'a>, ApiError> {
        let seq_len = request.seq_len.max(1) as usize;
        let hidden = target.model.spec().hidden_size;
        let (residual, found) = (&request.residual[..], request.residual.len());
        if seq_len.checked_mul(hidden) != Some(found) {
            let message = format!("expected a residual of {seq_len} x {hidden} values, found {found}");
            return Err(ApiError::field("residual", message));
        }
        if !residual.iter().all(|value| value.is_finite()) {
            return Err(ApiError::field("residual", "expected finite values, found NaN or infinity"));
        }
        let top_k = Some(request.top_k as usize).filter(|k| *k > 0);
        Ok(Work { target, residual, seq_len, top_k })
    }

    /// The layers of a request, which exist.
    fn layers(&self, request: &WalkFfnRequest) -> Result<Vec<usize>, ApiError> {
        let count = self.target.model.spec().layers.len();
        let layers = match &request.layers[..] {
            [] => vec![request.layer],
            layers => layers.to_vec(),
        };
        let layers: Vec<usize> = layers.into_iter().map(|layer| layer as usize).collect();
        match layers.iter().find(|layer| **layer >= count) {
            Some(layer) => {
                let message = format!("layer {layer} not served by this shard (owned: 0–{})", count - 1);
                Err(ApiError::field("layer", message))
            }
            None => Ok(layers),
        }
    }

    /// The strongest features of one residual, by their gates.
    fn features(&self, layer: usize) -> Result<WalkFfnLayerResult, ApiError> {
        let Some(view) = &self.target.view else {
            return Err(ApiError::invalid("a checkpoint has no features to search; serve a vindex of it"));
        };
        if self.seq_len != 1 {
            let message = format!("features are those of one residual; found seq_len {}", self.seq_len);
            return Err(ApiError::field("seq_len", message));
        }
        let top = self.top_k.unwrap_or(TOP).min(view.overlay().features(layer));
        let language = self.target.language()?;
        let hits = gate_knn(view.overlay(), language.model().pool(), layer, self.residual, top);
        Ok(WalkFfnLayerResult {
            layer: layer as u32,
            features: hits.iter().map(|hit| hit.feature as u32).collect(),
            scores: hits.iter().map(|hit| hit.gate).collect(),
            output: Vec::new(),
            seq_len: 1,
        })
    }

    /// The output of the feed-forward step.
    fn output(&self, layer: usize) -> Result<WalkFfnLayerResult, ApiError> {
        let model = self.target.language()?.model();
        let hidden = model.spec().hidden_size;
        if matches!(model.spec().layers[layer].feed_forward, FeedForwardSpec::Mixture(_)) {
            return Err(ApiError::new(
                axum::http::StatusCode::NOT_IMPLEMENTED,
                format!("layer {layer} is a mixture of experts, whose router reads more than this residual"),
            ));
        }
        let rows = Rows::new([(0, self.seq_len)], Batching::Shared);
        let input = FfnInput {
            normed: Activations::new(self.residual, hidden),
            residual: self.residual,
            expert_weights: &[],
            rows: &rows,
            precision: Precision::Exact,
        };
        let mut output = vec![0.0; self.residual.len()];
        let written = match self.top_k {
            Some(k) => model.walk_ffn(k).forward(layer, &input, &mut output),
            None => model.dense_ffn().forward(layer, &input, &mut output),
        };
        written.map_err(|error| ApiError::invalid(error.to_string()))?;
        let (layer, seq_len) = (layer as u32, self.seq_len as u32);
        Ok(WalkFfnLayerResult { layer, features: Vec::new(), scores: Vec::new(), output, seq_len })
    }
}
