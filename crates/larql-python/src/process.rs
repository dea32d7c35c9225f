//! State of the whole process: the threads, and the catalog that opens each model once.

use std::sync::{Arc, LazyLock, OnceLock};

use larql_compute::Pool;
use larql_core::progress::CancelToken;
use larql_hub::{Hub, HubSettings, Library};
use larql_session::Catalog;
use pyo3::prelude::*;

use crate::error::Problem;

static CATALOG: OnceLock<Arc<Catalog>> = OnceLock::new();

/// Returns the catalog of this process. Sessions on one model share its mapped files.
pub(crate) fn catalog(py: Python<'_>) -> PyResult<&'static Arc<Catalog>> {
    match CATALOG.get() {
        Some(catalog) => Ok(catalog),
        None => {
            let new = with_threads(py, Pool::for_this_machine())?;
            Ok(CATALOG.get_or_init(|| new))
        }
    }
}

/// Returns the token that ends the downloads of this process.
pub(crate) fn downloads() -> &'static CancelToken {
    static DOWNLOADS: LazyLock<CancelToken> = LazyLock::new(CancelToken::new);
    &DOWNLOADS
}

fn with_threads(py: Python<'_>, pool: Pool) -> PyResult<Arc<Catalog>> {
    Ok(Arc::new(Catalog::new(Arc::new(pool), library(py)?)))
}

/// Sets the number of threads that this process computes on, which is otherwise that of the machine's processors. It has to
/// be set before the first model is opened.
#[pyfunction]
pub(crate) fn set_threads(py: Python<'_>, threads: usize) -> PyResult<()> {
    if threads == 0 {
        return Err(Problem::argument("0 threads compute nothing; give at least 1").into());
    }
    let too_late =
        |_| Problem::argument("threads are set before the first model is opened; begin another process");
    Ok(CATALOG.set(with_threads(py, Pool::new(threads))?).map_err(too_late)?)
}

/// Returns the models that this user knows by name, and those of the hub: the same as those of the command line, with the
/// same variables of the hub's official client, which Python hands over.
fn library(py: Python<'_>) -> PyResult<Library> {
    let variables = py.import("os")?.getattr("environ")?;
    let variable = |name: &str| variables.call_method1("get", (name,)).ok()?.extract().ok();
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    let settings = HubSettings::from_variables(variable, home.clone());
    let hub = Hub::new(settings).map_err(|error| Problem::of_diagnostic("ModelNotFoundError", &error))?;
    let project = directories::ProjectDirs::from("", "", "larql");
    let library = project.map(|project| Library::new(project.cache_dir().join("models")));
    let library = library.unwrap_or_default().with_home(home);
    Ok(library.with_hub(Arc::new(hub), Arc::new(downloads().clone())))
}
