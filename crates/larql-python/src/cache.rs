//! Keys and values of a sequence, for passes that go on with it and for surgery.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use larql_inference::CopyError;
use larql_models::ModelSpec;
use pyo3::prelude::*;

use crate::arrays;
use crate::error::Problem;

/// Keys and values of the tokens of a sequence in every layer.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct KeyValueCache {
    inner: Arc<Mutex<larql_inference::KeyValueCache>>,
    layers: usize,
}

impl KeyValueCache {
    /// Returns an empty cache for a model.
    pub(crate) fn new(spec: &ModelSpec) -> KeyValueCache {
        KeyValueCache::of(larql_inference::KeyValueCache::new(spec), spec.layers.len())
    }

    fn of(cache: larql_inference::KeyValueCache, layers: usize) -> KeyValueCache {
        KeyValueCache { inner: Arc::new(Mutex::new(cache)), layers }
    }

    /// The cache, to take part in a pass.
    pub(crate) fn shared(&self) -> Arc<Mutex<larql_inference::KeyValueCache>> {
        Arc::clone(&self.inner)
    }

    /// Reads or changes the cache, unless a pass has it.
    fn with<T>(&self, work: impl FnOnce(&mut larql_inference::KeyValueCache) -> T) -> Result<T, Problem> {
        Ok(work(&mut *borrowed(&self.inner)?))
    }

    fn copy_from(
        &self,
        donor: &KeyValueCache,
        layer: usize,
        positions: (usize, usize),
    ) -> Result<(), Problem> {
        // A copy of the donor, which may be this cache itself.
        let donor = donor.with(|cache| cache.clone())?;
        self.with(|cache| cache.copy_layer(&donor, layer, positions.0..positions.1))?.map_err(Problem::from)
    }
}

/// Returns a cache for as long as nobody else has it.
///
/// # Errors
/// If a pass has it.
pub(crate) fn borrowed(
    cache: &Mutex<larql_inference::KeyValueCache>,
) -> Result<std::sync::MutexGuard<'_, larql_inference::KeyValueCache>, Problem> {
    match cache.try_lock() {
        Ok(cache) => Ok(cache),
        Err(TryLockError::Poisoned(poisoned)) => Ok(PoisonError::into_inner(poisoned)),
        Err(TryLockError::WouldBlock) => Err(Problem::argument(
            "the cache is in use by a pass; give each prompt of a pass, and each thread, a cache of its own (cache.copy())",
        )),
    }
}

#[pymethods]
impl KeyValueCache {
    /// Number of tokens.
    fn __len__(&self) -> PyResult<usize> {
        Ok(self.with(|cache| cache.len())?)
    }

    /// True: a cache without tokens is a cache too.
    fn __bool__(&self) -> bool {
        true
    }

    /// Another cache with the same keys and values.
    fn copy(&self) -> PyResult<KeyValueCache> {
        Ok(KeyValueCache::of(self.with(|cache| cache.clone())?, self.layers))
    }

    /// Forgets every token from position `length` on.
    fn truncate(&self, length: usize) -> PyResult<()> {
        Ok(self.with(|cache| cache.truncate(length))?)
    }

    /// Takes the keys and values of a layer from another cache of as many tokens.
    fn clone_layer_from(&self, donor: &KeyValueCache, layer: i64) -> PyResult<()> {
        let layer = arrays::index(layer, self.layers, "layer")?;
        let (own, other) = (self.__len__()?, donor.__len__()?);
        if own != other {
            let message = format!(
                "the donor has {other} tokens and the cache {own}; expected as many, or positions: clone_layer_position_range"
            );
            return Err(Problem::argument(message).into());
        }
        Ok(self.copy_from(donor, layer, (0, own))?)
    }

    /// Takes the keys and values of a layer at the positions from `start` up to `end`, which is left out, from another cache. The
    /// end is that of the shorter cache at most, and nothing is done if no position is left.
    fn clone_layer_position_range(
        &self,
        donor: &KeyValueCache,
        layer: i64,
        start: usize,
        end: usize,
    ) -> PyResult<()> {
        let layer = arrays::index(layer, self.layers, "layer")?;
        let end = end.min(self.__len__()?).min(donor.__len__()?);
        Ok(self.copy_from(donor, layer, (start.min(end), end))?)
    }

    fn __repr__(&self) -> PyResult<String> {
        Ok(format!("KeyValueCache({} tokens)", self.__len__()?))
    }
}

impl From<CopyError> for Problem {
    fn from(error: CopyError) -> Problem {
        Problem::argument(error)
    }
}
