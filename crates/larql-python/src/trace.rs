//! Traces of the residual stream.

use std::path::PathBuf;

use larql_compute::Precision;
use larql_compute::vector::norm;
use larql_knowledge::LanguageModel;
use larql_lql::output::word;
use larql_trace::{AnswerTrajectory, ChainWriter, Component, ModelDigest, Positions, Trace, read_lens};
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::error::Problem;
use crate::hook::Chain;
use crate::{arrays, interrupt};

/// Residual stream of a prompt at its last token or at every token. Layer -1 is the embedding.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct ResidualTrace {
    language: LanguageModel,
    identity: Option<String>,
    prompt: String,
    trace: Trace,
}

/// Records the stream of a prompt, under hooks.
pub(crate) fn record(
    language: &LanguageModel,
    identity: Option<&str>,
    prompt: String,
    every_token: bool,
    chain: &mut Chain,
) -> Result<ResidualTrace, Problem> {
    let tokens = language.encode(&prompt, true)?;
    let positions = if every_token { Positions::All } else { Positions::Last };
    let trace = Trace::record_with(language.model(), &tokens, &positions, Some(chain))?;
    Ok(ResidualTrace { language: language.clone(), identity: identity.map(str::to_owned), prompt, trace })
}

#[pymethods]
impl ResidualTrace {
    /// The prompt.
    #[getter]
    fn prompt(&self) -> &str {
        &self.prompt
    }

    /// Texts of its tokens.
    #[getter]
    fn tokens(&self) -> Vec<String> {
        self.trace.tokens().iter().map(|token| self.text(*token)).collect()
    }

    /// Numbers of its tokens.
    #[getter]
    fn token_ids(&self) -> Vec<u32> {
        self.trace.tokens().to_vec()
    }

    /// The traced positions.
    #[getter]
    fn positions(&self) -> Vec<usize> {
        self.trace.positions().to_vec()
    }

    /// Number of layers.
    #[getter]
    fn n_layers(&self) -> usize {
        self.trace.layers()
    }

    /// Width of the residual stream.
    #[getter]
    fn hidden_size(&self) -> usize {
        self.trace.hidden_size()
    }

    /// Number of waypoints of all traced positions.
    #[getter]
    fn n_nodes(&self) -> usize {
        self.trace.positions().len() * (self.trace.layers() + 1)
    }

    /// The residual after a layer, `[hidden]`; none if the position was not traced.
    #[pyo3(signature = (layer, position = None))]
    fn residual<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        position: Option<usize>,
    ) -> PyResult<OptionalVector<'py>> {
        self.vector(py, layer, position, Component::Residual)
    }

    /// Attention's addition to the residual in a layer, `[hidden]`.
    #[pyo3(signature = (layer, position = None))]
    fn attn_delta<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        position: Option<usize>,
    ) -> PyResult<OptionalVector<'py>> {
        self.vector(py, layer, position, Component::AttentionDelta)
    }

    /// The rest of the layer's change of the residual, `[hidden]`.
    #[pyo3(signature = (layer, position = None))]
    fn ffn_delta<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        position: Option<usize>,
    ) -> PyResult<OptionalVector<'py>> {
        self.vector(py, layer, position, Component::FeedForwardDelta)
    }

    /// The likeliest tokens after a layer by the logit lens, with their probabilities.
    #[pyo3(signature = (layer, position = None, k = 5))]
    fn top_k(
        &self,
        py: Python<'_>,
        layer: i64,
        position: Option<usize>,
        k: usize,
    ) -> PyResult<Vec<(String, f32)>> {
        let Some(residual) = self.at(layer, position, Component::Residual)? else { return Ok(Vec::new()) };
        let model = self.language.model();
        let read =
            py.detach(|| read_lens(model, residual, k, &[], Precision::Exact)).map_err(Problem::from)?;
        let top = read.into_iter().flat_map(|reading| reading.top);
        Ok(top.map(|next| (self.text(next.token), next.probability)).collect())
    }

    /// Rank of a token, given as text, after a layer by the logit lens; 1 is the likeliest. None if the position was not
    /// traced or the text is no token.
    #[pyo3(signature = (token, layer, position = None))]
    fn rank_of(
        &self,
        py: Python<'_>,
        token: &str,
        layer: i64,
        position: Option<usize>,
    ) -> PyResult<Option<usize>> {
        let Some(residual) = self.at(layer, position, Component::Residual)? else { return Ok(None) };
        let tokens =
            self.language.encode_answer(&self.prompt, self.trace.tokens(), token).map_err(Problem::from)?;
        let Some(token) = tokens.first().copied() else { return Ok(None) };
        let model = self.language.model();
        let read =
            py.detach(|| read_lens(model, residual, 0, &[token], Precision::Exact)).map_err(Problem::from)?;
        Ok(read.first().and_then(|reading| reading.target).map(|target| target.rank))
    }

    /// The trajectory of an answer at the prompt's last token, layer by layer from the embedding. Hooks of the recording do
    /// not take part in it.
    fn answer_trajectory(&self, py: Python<'_>, answer: &str) -> PyResult<Vec<AnswerWaypoint>> {
        let cancel = self.language.model().cancel_token().clone();
        interrupt::run(py, &cancel, || {
            let tokens = self.trace.tokens();
            let answer = self.language.encode_answer(&self.prompt, tokens, answer)?;
            let trajectory = AnswerTrajectory::follow(self.language.model(), tokens, &answer, false)?;
            Ok(trajectory.deciding_waypoints().iter().map(|waypoint| AnswerWaypoint(*waypoint)).collect())
        })
    }

    /// The likeliest token and the norms after each layer at the last traced position, from the embedding.
    fn summary(&self, py: Python<'_>) -> PyResult<Vec<LayerSummary>> {
        let Some(last) = self.trace.positions().len().checked_sub(1) else { return Ok(Vec::new()) };
        let read =
            py.detach(|| self.trace.read_position(self.language.model(), last)).map_err(Problem::from)?;
        let stream = self.trace.position(last);
        let summary = |(waypoint, reading): (usize, larql_trace::LensReading)| {
            let top = reading.top.first();
            LayerSummary {
                layer: waypoint as i64 - 1,
                residual_norm: norm(stream.residual(waypoint)),
                attn_delta_norm: norm(stream.attention_delta(waypoint)),
                ffn_delta_norm: norm(stream.feed_forward_delta(waypoint)),
                top1_token: top.map_or_else(String::new, |top| self.text(top.token)),
                top1_prob: top.map_or(0.0, |top| top.probability),
            }
        };
        Ok(read.into_iter().enumerate().map(summary).collect())
    }

    /// Likeliest token and its probability at every waypoint of every traced position: `[positions][layers + 1]`.
    fn lens(&self, py: Python<'_>) -> PyResult<Vec<Vec<(String, f32)>>> {
        let read = py.detach(|| self.trace.read(self.language.model())).map_err(Problem::from)?;
        let top = |reading: larql_trace::LensReading| {
            reading.top.first().map_or_else(Default::default, |top| (self.text(top.token), top.probability))
        };
        Ok(read.into_iter().map(|readings| readings.into_iter().map(top).collect()).collect())
    }

    /// Logits after the last token, `[vocab]`.
    fn last_logits<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        arrays::vector(py, self.trace.last_logits().to_vec())
    }

    /// Appends the chains of all traced positions to a file, and returns their number.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<usize> {
        let model = self.identity.as_deref().map_or_else(ModelDigest::default, ModelDigest::of);
        let (hidden, layers) = (self.trace.hidden_size(), self.trace.layers());
        py.detach(|| {
            let mut writer = ChainWriter::open(&path, hidden, layers, &model)?;
            writer.append_trace(&self.trace)
        })
        .map_err(Problem::from)?;
        Ok(self.trace.positions().len())
    }

    fn __repr__(&self) -> String {
        format!(
            "ResidualTrace({:?}, {} positions, {} layers)",
            self.prompt,
            self.trace.positions().len(),
            self.trace.layers()
        )
    }
}

/// A vector that may be absent.
type OptionalVector<'py> = Option<Bound<'py, PyArray1<f32>>>;

impl ResidualTrace {
    fn text(&self, token: u32) -> String {
        self.language.tokenizer().token_text(token).unwrap_or_default()
    }

    /// The vector of a layer and position; none if the position was not traced.
    fn at(
        &self,
        layer: i64,
        position: Option<usize>,
        component: Component,
    ) -> Result<Option<&[f32]>, Problem> {
        let layers = self.trace.layers();
        let waypoint = usize::try_from(layer + 1).ok().filter(|waypoint| *waypoint <= layers);
        let waypoint = waypoint.ok_or_else(|| {
            let message =
                format!("layer {layer} does not exist; there are {layers}, and -1 is the embedding");
            Problem::new("ArgumentIndexError", message)
        })?;
        let positions = self.trace.positions();
        let index = match position {
            None => positions.len().checked_sub(1),
            Some(position) => positions.iter().position(|traced| *traced == position),
        };
        Ok(index.map(|index| self.trace.position(index).vector(waypoint, component)))
    }

    fn vector<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        position: Option<usize>,
        component: Component,
    ) -> PyResult<OptionalVector<'py>> {
        let values = self.at(layer, position, component)?;
        Ok(values.map(|values| arrays::vector(py, values.to_vec())))
    }
}

/// An answer after one layer.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct AnswerWaypoint(larql_trace::AnswerWaypoint);

#[pymethods]
impl AnswerWaypoint {
    /// The layer; -1 is the embedding.
    #[getter]
    fn layer(&self) -> i64 {
        self.0.layer
    }

    /// Rank of the answer's token by the logit lens; 1 is the likeliest.
    #[getter]
    fn rank(&self) -> usize {
        self.0.rank
    }

    /// Probability of the answer's token.
    #[getter]
    fn prob(&self) -> f32 {
        self.0.probability
    }

    /// Probability of all tokens of the answer.
    #[getter]
    fn whole_prob(&self) -> f32 {
        self.0.whole_probability
    }

    /// Logit of the answer's token.
    #[getter]
    fn logit(&self) -> f32 {
        self.0.logit
    }

    /// Contribution of attention to the logit.
    #[getter]
    fn attn_logit(&self) -> f32 {
        self.0.attention
    }

    /// Contribution of the feed-forward step to the logit.
    #[getter]
    fn ffn_logit(&self) -> f32 {
        self.0.feed_forward
    }

    /// The logit's change because the residual's norm changes. The three add up to the logit's change.
    #[getter]
    fn norm_logit(&self) -> f32 {
        self.0.rescaling
    }

    /// Norm of the residual.
    #[getter]
    fn residual_norm(&self) -> f32 {
        self.0.residual_norm
    }

    /// Part of the layer that moves the logit.
    #[getter]
    fn who(&self) -> String {
        word(&self.0.pusher())
    }

    fn __repr__(&self) -> String {
        let larql_trace::AnswerWaypoint { layer, rank, probability, attention, feed_forward, .. } = self.0;
        let name = if layer < 0 { "emb".to_owned() } else { format!("L{layer}") };
        format!(
            "AnswerWaypoint({name}, rank={rank}, prob={probability:.3}, attn={attention:.1}, ffn={feed_forward:.1})"
        )
    }
}

/// State of the residual stream after one layer.
#[pyclass(frozen, get_all, module = "larql._larql")]
pub(crate) struct LayerSummary {
    /// The layer; -1 is the embedding.
    layer: i64,
    /// Norm of the residual.
    residual_norm: f32,
    /// Norm of attention's addition.
    attn_delta_norm: f32,
    /// Norm of the rest of the layer's change.
    ffn_delta_norm: f32,
    /// The likeliest next token by the logit lens.
    top1_token: String,
    /// Its probability.
    top1_prob: f32,
}

#[pymethods]
impl LayerSummary {
    fn __repr__(&self) -> String {
        let LayerSummary { layer, top1_token, top1_prob, residual_norm, .. } = self;
        let name = if *layer < 0 { "emb".to_owned() } else { format!("L{layer}") };
        format!("LayerSummary({name}, {top1_token:?}, prob={top1_prob:.3}, norm={residual_norm:.1})")
    }
}
