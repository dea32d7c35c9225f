//! A vindex as arrays and tables: its features, their vectors, and its embedding.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder};
use arrow_array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, RecordBatchReader, StringArray,
};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use larql_compute::Matrix;
use larql_compute::vector::{dot, norm};
use larql_models::{ProjectionRoles, Role, StepRoles, WeightSource};
use larql_session::View;
use larql_vindex::search::{FeatureHit, gate_knn, relation_centre};
use larql_vindex::{FeatureStore, LabelSource, Overlay, TokenScore, VindexError};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::error::Problem;
use crate::{arrays, arrow};

/// Rows of the embedding in one batch of its stream.
const EMBEDDINGS: usize = 4096;

/// A vindex under its patches at one moment. It does not change; later edits make another one.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct Features {
    view: Arc<View>,
}

impl Features {
    pub(crate) fn new(view: Arc<View>) -> Features {
        Features { view }
    }

    fn overlay(&self) -> &Overlay {
        self.view.overlay()
    }

    fn layer(&self, layer: i64) -> Result<usize, Problem> {
        arrays::index(layer, self.overlay().layers(), "layer")
    }

    fn place(&self, layer: i64, feature: i64) -> Result<(usize, usize), Problem> {
        let layer = self.layer(layer)?;
        Ok((layer, arrays::index(feature, self.overlay().features(layer), "feature")?))
    }

    /// A layer and a feature that exist, and the width of the feature's vectors.
    pub(crate) fn size_at(&self, layer: i64, feature: i64) -> Result<(usize, usize, usize), Problem> {
        let (layer, feature) = self.place(layer, feature)?;
        Ok((layer, feature, self.overlay().hidden_size()))
    }

    /// Number of layers.
    pub(crate) fn layers(&self) -> usize {
        self.overlay().layers()
    }

    /// True if edits change vectors of a layer.
    fn is_edited(&self, layer: usize) -> bool {
        self.overlay().edits().of_layer(layer).next().is_some()
    }

    /// The one matrix of a part of the feed-forward step; none in layers that have several.
    fn matrix(
        &self,
        layer: usize,
        part: impl Fn(&StepRoles) -> Option<ProjectionRoles>,
    ) -> Result<Option<Matrix>, Problem> {
        let roles = StepRoles::of_layer(&self.view.base().spec().layers[layer].feed_forward);
        let [(step, _)] = &roles[..] else { return Ok(None) };
        let Some(projection) = part(step) else { return Ok(None) };
        Ok(Some(self.view.base().matrix(Role::Layer(layer, projection.weight))?))
    }

    /// The vectors of all features of a layer, decoded and edited, `[features, hidden]`.
    fn decoded(&self, layer: usize, part: Part) -> Result<Option<Vec<f32>>, Problem> {
        let vectors = self.overlay().feature_vectors(layer)?;
        let features = 0..self.overlay().features(layer);
        Ok(match part {
            Part::Gate => Some(features.flat_map(|feature| vectors.gate(feature)).collect()),
            Part::Up => {
                features.map(|feature| vectors.up(feature)).collect::<Option<Vec<_>>>().map(|v| v.concat())
            }
            Part::Down => {
                features.map(|feature| vectors.down(feature)).collect::<Option<Vec<_>>>().map(|v| v.concat())
            }
        })
    }

    fn decoded_array(&self, py: Python<'_>, layer: usize, part: Part) -> PyResult<Option<Py<PyAny>>> {
        let Some(values) = py.detach(|| self.decoded(layer, part))? else { return Ok(None) };
        Ok(Some(arrays::rows(py, values, self.overlay().hidden_size())?.into_any().unbind()))
    }

    fn tokens(&self, layer: usize, feature: usize) -> Result<Vec<(String, TokenScore)>, Problem> {
        let tokenizer = self.view.database().tokenizer()?;
        let text = |top: TokenScore| (tokenizer.token_text(top.token).unwrap_or_default(), top);
        Ok(self.overlay().top_tokens(layer, feature).map(text).collect())
    }
}

/// Vector of a feature.
/// A feature that fires: its number, gate score, activation, the input times its up row, and the norm of its down vector.
type Fired = (usize, f32, Option<f32>, Option<f32>, Option<f32>);

#[derive(Clone, Copy)]
enum Part {
    Gate,
    Up,
    Down,
}

#[pymethods]
impl Features {
    /// Path of the directory.
    #[getter]
    fn path(&self) -> String {
        self.view.base().path().display().to_string()
    }

    /// Name of the model.
    #[getter]
    fn model(&self) -> &str {
        &self.view.base().manifest().model
    }

    /// Name of the model's family.
    #[getter]
    fn family(&self) -> &str {
        &self.view.base().spec().family
    }

    /// Number of layers.
    #[getter]
    fn num_layers(&self) -> usize {
        self.overlay().layers()
    }

    /// Width of the residual stream.
    #[getter]
    fn hidden_size(&self) -> usize {
        self.overlay().hidden_size()
    }

    /// Number of features of the first layer.
    #[getter]
    fn intermediate_size(&self) -> usize {
        self.view.base().spec().layers.first().map_or(0, |layer| layer.feed_forward.features())
    }

    /// Number of tokens.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.view.base().spec().vocab_size
    }

    /// Factor of embeddings.
    #[getter]
    fn embedding_scale(&self) -> f32 {
        self.view.base().spec().embedding_scale
    }

    /// Number of features of a layer; 0 if its gate rows are not held.
    fn num_features(&self, layer: i64) -> PyResult<usize> {
        Ok(self.overlay().features(self.layer(layer)?))
    }

    /// First and last layer of each band.
    fn layer_bands(&self) -> Vec<(&'static str, (usize, usize))> {
        let bands = self.view.base().manifest().bands();
        let range = |layers: Range<usize>| (layers.start, layers.end.saturating_sub(1));
        vec![
            ("syntax", range(bands.syntax.layers())),
            ("knowledge", range(bands.knowledge.layers())),
            ("output", range(bands.output.layers())),
        ]
    }

    /// Gate rows of a layer, `[features, hidden]`.
    fn gate_vectors(&self, py: Python<'_>, layer: i64) -> PyResult<Py<PyAny>> {
        let layer = self.layer(layer)?;
        match self.view.base().gate_matrices(layer) {
            [whole] if !self.is_edited(layer) => arrays::matrix(py, whole),
            _ => {
                Ok(self.decoded_array(py, layer, Part::Gate)?.ok_or_else(|| not_held("gate rows", layer))?)
            }
        }
    }

    /// Up rows of a layer, `[features, hidden]`.
    fn up_vectors(&self, py: Python<'_>, layer: i64) -> PyResult<Py<PyAny>> {
        let layer = self.layer(layer)?;
        match self.matrix(layer, |step| step.up)? {
            Some(whole) if !self.is_edited(layer) => arrays::matrix(py, &whole),
            _ => Ok(self.decoded_array(py, layer, Part::Up)?.ok_or_else(|| not_held("up rows", layer))?),
        }
    }

    /// Down vectors of a layer, `[features, hidden]`: the transposed matrix.
    fn down_vectors(&self, py: Python<'_>, layer: i64) -> PyResult<Py<PyAny>> {
        let layer = self.layer(layer)?;
        match self.matrix(layer, |step| Some(step.down))? {
            Some(whole) if !self.is_edited(layer) => arrays::matrix(py, &whole)?.getattr(py, "T"),
            _ => Ok(self
                .decoded_array(py, layer, Part::Down)?
                .ok_or_else(|| not_held("down vectors", layer))?),
        }
    }

    /// Gate row of a feature, `[hidden]`.
    fn gate_vector<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        feature: i64,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let (layer, feature) = self.place(layer, feature)?;
        let mut row = vec![0.0; self.overlay().hidden_size()];
        self.overlay().gate_row(layer, feature, &mut row);
        Ok(arrays::vector(py, row))
    }

    /// Down vector of a feature, `[hidden]`.
    fn down_vector<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        feature: i64,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let (layer, feature) = self.place(layer, feature)?;
        let mut row = vec![0.0; self.overlay().hidden_size()];
        self.overlay().down_vector(layer, feature, &mut row).map_err(Problem::from)?;
        Ok(arrays::vector(py, row))
    }

    /// Up row of a feature, `[hidden]`; none in a layer without up rows.
    fn up_vector<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        feature: i64,
    ) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        let (layer, feature) = self.place(layer, feature)?;
        let row = self.overlay().up_row(layer, feature).map_err(Problem::from)?;
        Ok(row.map(|row| arrays::vector(py, row)))
    }

    /// Mean direction of the gate rows of the features that carry a relation, `[hidden]`, of length 1; none if no feature does.
    fn relation_centre<'py>(&self, py: Python<'py>, relation: &str) -> Option<Bound<'py, PyArray1<f32>>> {
        let overlay = self.overlay();
        let centre = py.detach(|| relation_centre(overlay, overlay.labels(), relation))?;
        Some(arrays::vector(py, centre))
    }

    /// Layers that the edge memory has entries at.
    fn memory_layers(&self) -> Vec<usize> {
        self.overlay().knn().layers().collect()
    }

    /// The embedding, `[vocab, hidden]`, without the model's scale.
    fn embedding_matrix(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        arrays::matrix(py, &self.view.base().matrix(Role::Embedding).map_err(Problem::from)?)
    }

    /// Row of the embedding, `[hidden]`, without the model's scale.
    fn embedding<'py>(&self, py: Python<'py>, token: i64) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let embedding = self.view.base().matrix(Role::Embedding).map_err(Problem::from)?;
        let token = arrays::index(token, embedding.rows(), "token")?;
        let mut row = vec![0.0; embedding.cols()];
        embedding.view().decode_row(token, &mut row);
        Ok(arrays::vector(py, row))
    }

    /// Mean of the embeddings of a text's tokens, `[hidden]`, with the model's scale.
    fn embed<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let tokenizer = self.view.database().tokenizer().map_err(Problem::from)?;
        let tokens = tokenizer.encode(text, false).map_err(Problem::from)?;
        Ok(arrays::vector(py, self.view.base().embedding_query(&tokens).map_err(Problem::from)?))
    }

    /// Numbers of a text's tokens.
    #[pyo3(signature = (text, add_special = false))]
    fn encode(&self, text: &str, add_special: bool) -> PyResult<Vec<u32>> {
        let tokenizer = self.view.database().tokenizer().map_err(Problem::from)?;
        Ok(tokenizer.encode(text, add_special).map_err(Problem::from)?)
    }

    /// Text of tokens.
    #[pyo3(signature = (tokens, skip_special = false))]
    fn decode(&self, tokens: Vec<u32>, skip_special: bool) -> PyResult<String> {
        let tokenizer = self.view.database().tokenizer().map_err(Problem::from)?;
        Ok(tokenizer.decode(&tokens, skip_special))
    }

    /// The feed-forward input of a layer for an embedding, `[hidden]`: after that layer's norm.
    fn layer_query<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        query: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let layer = self.layer(layer)?;
        let query = arrays::vector_of(query, "query", self.overlay().hidden_size())?;
        Ok(arrays::vector(py, self.view.base().layer_query(layer, &query)))
    }

    /// The features of a layer whose gate rows have the largest products with a query, `[hidden]`, by magnitude: feature and
    /// gate score, strongest first.
    fn gate_knn(
        &self,
        py: Python<'_>,
        layer: i64,
        query: &Bound<'_, PyAny>,
        top_k: usize,
    ) -> PyResult<Vec<(usize, f32)>> {
        let layer = self.layer(layer)?;
        let query = arrays::vector_of(query, "query", self.overlay().hidden_size())?;
        let pool = self.view.database().pool();
        let hits = py.detach(|| gate_knn(self.overlay(), pool, layer, &query, top_k));
        Ok(hits.into_iter().map(|FeatureHit { feature, gate, .. }| (feature, gate)).collect())
    }

    /// The features of a layer with the strongest activations, or gate scores where up rows are not held, for a feed-forward
    /// input, `[hidden]`: feature, gate score, activation, the input times the up row, and the norm of the down vector.
    fn walk(
        &self,
        py: Python<'_>,
        layer: i64,
        input: &Bound<'_, PyAny>,
        top_k: usize,
    ) -> PyResult<Vec<Fired>> {
        let layer = self.layer(layer)?;
        let input = arrays::vector_of(input, "residual", self.overlay().hidden_size())?;
        let pool = self.view.database().pool();
        let ranking = larql_vindex::search::Ranking::ActivationOrGate;
        let fired = py.detach(|| {
            let overlay = self.overlay();
            let hits = larql_vindex::search::walk(overlay, pool, layer, &input, ranking, top_k)?;
            let mut down = vec![0.0; input.len()];
            let measured = |hit: FeatureHit| {
                let up = overlay.up_row(layer, hit.feature)?.map(|up| dot(&up, &input));
                let down = match overlay.down_vector(layer, hit.feature, &mut down) {
                    Err(VindexError::NotHeld { .. }) => None,
                    result => result.map(|()| Some(norm(&down)))?,
                };
                Ok((hit.feature, hit.gate, hit.activation, up, down))
            };
            hits.into_iter().map(measured).collect::<Result<_, VindexError>>()
        });
        Ok(fired.map_err(Problem::from)?)
    }

    /// The tokens that a feature writes most, strongest first: text, number and score.
    fn top_tokens(&self, layer: i64, feature: i64) -> PyResult<Vec<(String, u32, f32)>> {
        let (layer, feature) = self.place(layer, feature)?;
        let tokens = self.tokens(layer, feature)?.into_iter();
        Ok(tokens.map(|(text, top)| (text, top.token, top.score)).collect())
    }

    /// Label of a feature and its origin; none if it has no label.
    fn label(&self, layer: i64, feature: i64) -> PyResult<Option<(String, &'static str)>> {
        let (layer, feature) = self.place(layer, feature)?;
        Ok(self.overlay().label(layer, feature).map(|label| (label.relation, label.source.name())))
    }

    /// Facts for `stats`: what the manifest and the specification say.
    fn manifest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (base, facts) = (self.view.base(), PyDict::new(py));
        facts.set_item("level", base.level().name())?;
        facts.set_item("dtype", base.manifest().dtype.map(|dtype| dtype.name()))?;
        facts.set_item("num_labels", self.overlay().labels().len())?;
        let probed =
            self.overlay().labels().iter().filter(|(_, _, label)| label.source == LabelSource::Probe);
        facts.set_item("num_probe_labels", probed.count())?;
        facts.set_item("has_down_meta", base.down_meta().is_some())?;
        facts.set_item("checksum", base.base_checksum())?;
        Ok(facts)
    }

    /// Every feature of some layers as a stream with a batch for each layer: `layer`, `feature`, `tokens`, `scores`, `label`,
    /// `source`, and with `vectors` also `gate`, `[hidden]`.
    fn stream_features<'py>(
        &self,
        py: Python<'py>,
        layers: Vec<usize>,
        vectors: bool,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        for layer in &layers {
            self.layer(*layer as i64)?;
        }
        let features = Features { view: Arc::clone(&self.view) };
        let schema = features.batch_of(layers.first().copied().unwrap_or(0), vectors)?.schema();
        let batches = layers.into_iter().map(move |layer| features.batch_of(layer, vectors));
        arrow::stream(py, Box::new(Batches { schema, batches: Box::new(batches) }))
    }

    /// Every token with its row of the embedding as a stream: `token`, `text`, `embedding`, `[hidden]`, without scale.
    fn stream_embeddings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let embedding = self.view.base().matrix(Role::Embedding).map_err(Problem::from)?;
        let features = Features { view: Arc::clone(&self.view) };
        let schema = features.embeddings_of(&embedding, 0..0)?.schema();
        let starts = (0..embedding.rows()).step_by(EMBEDDINGS);
        let batches = starts.map(move |start| {
            let rows = start..(start + EMBEDDINGS).min(embedding.rows());
            features.embeddings_of(&embedding, rows)
        });
        arrow::stream(py, Box::new(Batches { schema, batches: Box::new(batches) }))
    }
}

impl Features {
    /// The features of a layer as a batch.
    fn batch_of(&self, layer: usize, vectors: bool) -> Result<RecordBatch, Problem> {
        let (overlay, count) = (self.overlay(), self.overlay().features(layer));
        let (mut tokens, mut scores) = (Vec::with_capacity(count), ListBuilder::new(Float32Builder::new()));
        let (mut labels, mut sources) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for feature in 0..count {
            let top = self.tokens(layer, feature)?;
            scores.append_value(top.iter().map(|(_, top)| Some(top.score)));
            tokens.push(Some(top.into_iter().map(|(text, _)| text).collect()));
            let label = overlay.label(layer, feature);
            sources.push(label.as_ref().map(|label| label.source.name()));
            labels.push(label.map(|label| label.relation));
        }
        let integers = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("layer", integers(vec![layer as i64; count])),
            ("feature", integers((0..count as i64).collect())),
            ("tokens", arrow::texts(tokens)),
            ("scores", Arc::new(scores.finish())),
            ("label", Arc::new(StringArray::from(labels))),
            ("source", Arc::new(StringArray::from(sources))),
        ];
        if vectors {
            let mut values = vec![0.0; count * overlay.hidden_size()];
            for (feature, row) in values.chunks_exact_mut(overlay.hidden_size()).enumerate() {
                overlay.gate_row(layer, feature, row);
            }
            columns.push(("gate", fixed(values, overlay.hidden_size())?));
        }
        Ok(arrow::batch(columns)?)
    }

    fn embeddings_of(&self, embedding: &Matrix, rows: Range<usize>) -> Result<RecordBatch, Problem> {
        let tokenizer = self.view.database().tokenizer()?;
        let texts: Vec<Option<String>> =
            rows.clone().map(|token| tokenizer.token_text(token as u32)).collect();
        let values = embedding.view().slice_rows(rows.clone()).to_f32();
        let tokens: Vec<i64> = rows.map(|token| token as i64).collect();
        Ok(arrow::batch(vec![
            ("token", Arc::new(Int64Array::from(tokens))),
            ("text", Arc::new(StringArray::from(texts))),
            ("embedding", fixed(values, embedding.cols())?),
        ])?)
    }
}

/// A column of vectors of `width` values.
fn fixed(values: Vec<f32>, width: usize) -> Result<ArrayRef, Problem> {
    let field = Arc::new(Field::new("item", DataType::Float32, false));
    let width = i32::try_from(width).map_err(|error| Problem::new("InternalError", error))?;
    Ok(Arc::new(FixedSizeListArray::try_new(field, width, Arc::new(Float32Array::from(values)), None)?))
}

/// Batches that are made when they are asked for.
struct Batches {
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, Problem>> + Send>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        Some(batch.map_err(|problem| ArrowError::ExternalError(problem.to_string().into())))
    }
}

impl RecordBatchReader for Batches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

fn not_held(part: &str, layer: usize) -> Problem {
    Problem::new(
        "NotHeldError",
        format!(
            "the {part} of layer {layer} are not held; extract the model again WITH ALL, or WITH INFERENCE"
        ),
    )
}
