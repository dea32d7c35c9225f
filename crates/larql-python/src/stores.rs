//! Files of residuals.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use larql_trace::{ChainStore, Component, ModelDigest, StoreError, Tier};
use numpy::PyArrayMethods;
use pyo3::prelude::*;

use crate::arrays;
use crate::error::Problem;

/// Reads a store, and says which file is meant.
fn open<T>(path: &Path, open: impl FnOnce(&Path) -> Result<T, StoreError>) -> PyResult<T> {
    Ok(open(path).map_err(Problem::from)?)
}

/// An array, `[hidden]`, that shows floats of a mapped store.
fn shown(values: Option<&[f32]>, store: Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let Some(values) = values else { return Ok(None) };
    let view = arrays::view(values, [1, values.len()], store)?;
    Ok(Some(view.reshape([values.len()])?.into_any().unbind()))
}

/// Chains of waypoints of tokens, mapped. Waypoint 0 is the embedding, waypoint `l + 1` is layer `l`.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct TraceStore {
    store: ChainStore,
}

impl TraceStore {
    fn vector(
        this: &Bound<'_, Self>,
        token: usize,
        waypoint: usize,
        component: Component,
    ) -> PyResult<Option<Py<PyAny>>> {
        shown(this.get().store.vector(token, waypoint, component), this.clone().into_any())
    }
}

#[pymethods]
impl TraceStore {
    #[new]
    fn new(path: PathBuf) -> PyResult<TraceStore> {
        Ok(TraceStore { store: open(&path, ChainStore::open)? })
    }

    /// Number of chains.
    #[getter]
    fn n_tokens(&self) -> usize {
        self.store.tokens()
    }

    /// Number of layers; there is one waypoint more.
    #[getter]
    fn n_layers(&self) -> usize {
        self.store.layers()
    }

    /// Width of the vectors.
    #[getter]
    fn hidden_size(&self) -> usize {
        self.store.hidden_size()
    }

    /// Residual of a token at a waypoint, `[hidden]`; none if there is no such token or waypoint.
    fn residual(this: &Bound<'_, Self>, token: usize, waypoint: usize) -> PyResult<Option<Py<PyAny>>> {
        TraceStore::vector(this, token, waypoint, Component::Residual)
    }

    /// Attention's addition to the residual, `[hidden]`.
    fn attn_delta(this: &Bound<'_, Self>, token: usize, waypoint: usize) -> PyResult<Option<Py<PyAny>>> {
        TraceStore::vector(this, token, waypoint, Component::AttentionDelta)
    }

    /// The rest of the layer's change of the residual, `[hidden]`.
    fn ffn_delta(this: &Bound<'_, Self>, token: usize, waypoint: usize) -> PyResult<Option<Py<PyAny>>> {
        TraceStore::vector(this, token, waypoint, Component::FeedForwardDelta)
    }

    /// Bytes of the file.
    fn file_size(&self) -> u64 {
        self.store.file_size()
    }

    fn __len__(&self) -> usize {
        self.store.tokens()
    }

    fn __repr__(&self) -> String {
        let store = &self.store;
        format!(
            "TraceStore({} tokens, {} layers, {} wide)",
            store.tokens(),
            store.layers(),
            store.hidden_size()
        )
    }
}

/// Residuals at the ends of windows of tokens, mapped.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct BoundaryStore {
    store: larql_trace::BoundaryStore,
}

#[pymethods]
impl BoundaryStore {
    #[new]
    fn new(path: PathBuf) -> PyResult<BoundaryStore> {
        Ok(BoundaryStore { store: open(&path, larql_trace::BoundaryStore::open)? })
    }

    /// Number of windows.
    #[getter]
    fn n_boundaries(&self) -> usize {
        self.store.boundaries()
    }

    /// Tokens of all windows.
    #[getter]
    fn total_tokens(&self) -> usize {
        self.store.total_tokens()
    }

    /// Width of the residuals.
    #[getter]
    fn hidden_size(&self) -> usize {
        self.store.hidden_size()
    }

    /// Tokens of a usual window.
    #[getter]
    fn window_size(&self) -> usize {
        self.store.window_size()
    }

    /// The residual at the end of a window, `[hidden]`; none if there is no such window.
    fn residual(this: &Bound<'_, Self>, boundary: usize) -> PyResult<Option<Py<PyAny>>> {
        shown(this.get().store.residual(boundary), this.clone().into_any())
    }

    /// The window that a token lies in.
    fn boundary_for_token(&self, token: usize) -> Option<usize> {
        self.store.boundary_for_token(token)
    }

    /// First token of a window and the one after its last; none if there is no such window.
    fn token_range(&self, boundary: usize) -> Option<(usize, usize)> {
        self.store.token_range(boundary).map(|range| (range.start, range.end))
    }

    fn __len__(&self) -> usize {
        self.store.boundaries()
    }

    fn __repr__(&self) -> String {
        let store = &self.store;
        let kilobytes = store.boundaries() * store.hidden_size() * 4 / 1000;
        format!(
            "BoundaryStore({} boundaries, {} tokens, {kilobytes} KB data, window={})",
            store.boundaries(),
            store.total_tokens(),
            store.window_size()
        )
    }
}

/// Writer of a boundary store. It appends to a file of the same width that is there already.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct BoundaryWriter {
    path: PathBuf,
    hidden_size: usize,
    writer: Mutex<Option<larql_trace::BoundaryWriter>>,
}

impl BoundaryWriter {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut larql_trace::BoundaryWriter) -> Result<T, StoreError>,
    ) -> PyResult<T> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = writer.as_mut().ok_or_else(|| {
            let message =
                format!("the writer of {} is finished; make another one to append", self.path.display());
            Problem::new("ClosedError", message)
        })?;
        Ok(work(writer).map_err(Problem::from)?)
    }
}

#[pymethods]
impl BoundaryWriter {
    #[new]
    #[pyo3(signature = (path, hidden_size, window_size = 200, max_boundaries = larql_trace::BoundaryWriter::MAX_BOUNDARIES))]
    fn new(
        path: PathBuf,
        hidden_size: usize,
        window_size: usize,
        max_boundaries: usize,
    ) -> PyResult<BoundaryWriter> {
        let open = |path: &Path| {
            let model = ModelDigest::default();
            larql_trace::BoundaryWriter::open(path, hidden_size, window_size, max_boundaries, &model)
        };
        let writer = open(&path).map_err(Problem::from)?;
        Ok(BoundaryWriter { path, hidden_size, writer: Mutex::new(Some(writer)) })
    }

    /// Appends a window: its first token, its number of tokens, and the residual at its end, `[hidden]`.
    fn append(&self, token_offset: usize, window_tokens: usize, residual: &Bound<'_, PyAny>) -> PyResult<()> {
        let residual = arrays::vector_of(residual, "residual", self.hidden_size)?;
        self.with(|writer| writer.append(token_offset, window_tokens, &residual, None))
    }

    /// Number of windows.
    #[getter]
    fn n_boundaries(&self) -> PyResult<usize> {
        self.with(|writer| Ok(writer.boundaries()))
    }

    /// Tokens of all windows.
    #[getter]
    fn total_tokens(&self) -> PyResult<usize> {
        self.with(|writer| Ok(writer.total_tokens()))
    }

    /// Closes the file, and returns its path.
    fn finish(&self) -> PathBuf {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.path.clone()
    }
}

/// Residuals and deltas at the ends of windows of tokens, mapped.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct ContextStore {
    store: larql_trace::ContextStore,
}

#[pymethods]
impl ContextStore {
    #[new]
    fn new(path: PathBuf) -> PyResult<ContextStore> {
        Ok(ContextStore { store: open(&path, larql_trace::ContextStore::open)? })
    }

    /// Number of windows.
    #[getter]
    fn n_boundaries(&self) -> usize {
        self.store.boundaries()
    }

    /// Tokens of all windows.
    #[getter]
    fn total_tokens(&self) -> usize {
        self.store.total_tokens()
    }

    /// Width of the vectors.
    #[getter]
    fn hidden_size(&self) -> usize {
        self.store.hidden_size()
    }

    /// Number of layers of the model.
    #[getter]
    fn n_layers(&self) -> usize {
        self.store.layers()
    }

    /// The tier, from 1 to 4.
    #[getter]
    fn tier(&self) -> u8 {
        match self.store.tier() {
            Tier::Residual => 1,
            Tier::Critical(_) => 2,
            Tier::Full => 3,
            Tier::FullInt8 => 4,
        }
    }

    /// The layers whose feed-forward deltas are kept.
    #[getter]
    fn delta_layers(&self) -> Vec<usize> {
        self.store.delta_layers()
    }

    /// The residual at the end of a window, `[hidden]`; none if there is no such window.
    fn residual(this: &Bound<'_, Self>, boundary: usize) -> PyResult<Option<Py<PyAny>>> {
        shown(this.get().store.residual(boundary), this.clone().into_any())
    }

    /// Feed-forward deltas and attention deltas of a window, `[layers, hidden]` each, without rows where the tier has none;
    /// none if there is no such window.
    fn deltas(&self, py: Python<'_>, boundary: usize) -> PyResult<Option<(Py<PyAny>, Py<PyAny>)>> {
        let Some(contents) = self.store.contents(boundary) else { return Ok(None) };
        let rows = |values| Ok::<_, PyErr>(arrays::rows(py, values, self.hidden_size())?.into_any().unbind());
        Ok(Some((rows(contents.feed_forward_deltas)?, rows(contents.attention_deltas)?)))
    }

    fn __len__(&self) -> usize {
        self.store.boundaries()
    }
}
