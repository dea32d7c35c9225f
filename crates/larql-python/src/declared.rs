//! Declared interventions: captures and changes of a pass as data.

use std::sync::{Arc, Mutex, PoisonError};

use larql_knowledge::LanguageModel;
use larql_trace::{Declaration, Receipt};
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays;
use crate::error::Problem;

/// A declaration that was resolved for a model. It counts what it changed, over all passes that it took part in.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct Intervention {
    inner: Arc<Mutex<larql_trace::Intervention>>,
}

impl Intervention {
    /// Resolves a declaration in JSON for a model, which runs the prompts that it names.
    pub(crate) fn resolve(language: &LanguageModel, json: &str) -> Result<Intervention, Problem> {
        let encode = |prompt: &str| language.encode(prompt, true).map_err(|error| error.to_string());
        let resolved = Declaration::from_json(json)?.resolve(language.model(), &encode)?;
        Ok(Intervention { inner: Arc::new(Mutex::new(resolved)) })
    }

    /// The intervention, to take part in passes.
    pub(crate) fn shared(&self) -> Arc<Mutex<larql_trace::Intervention>> {
        Arc::clone(&self.inner)
    }

    fn receipt(&self, py: Python<'_>) -> Receipt {
        py.detach(|| self.inner.lock().unwrap_or_else(PoisonError::into_inner).receipt())
    }
}

#[pymethods]
impl Intervention {
    /// SHA-256 of the declaration in its normal form, in hexadecimal digits.
    #[getter]
    fn digest(&self, py: Python<'_>) -> String {
        self.receipt(py).digest
    }

    /// For each change of the declaration the number of rows that it changed.
    #[getter]
    fn fired(&self, py: Python<'_>) -> Vec<usize> {
        self.receipt(py).fired
    }

    /// For each capture of the declaration the values of all rows so far, one after the other.
    #[getter]
    fn captured<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyArray1<f32>>> {
        let captured =
            py.detach(|| self.inner.lock().unwrap_or_else(PoisonError::into_inner).captured().to_vec());
        captured.into_iter().map(|values| arrays::vector(py, values)).collect()
    }

    /// Forgets what was captured and counted, so that another run begins anew.
    fn reset(&self, py: Python<'_>) {
        py.detach(|| self.inner.lock().unwrap_or_else(PoisonError::into_inner).reset());
    }
}
