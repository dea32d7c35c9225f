//! State of the whole process: the threads, and the catalog that opens each model once.

use std::sync::{Arc, OnceLock};

use larql_compute::Pool;
use larql_hub::Library;
use larql_session::Catalog;
use pyo3::prelude::*;

use crate::error::Problem;

static CATALOG: OnceLock<Arc<Catalog>> = OnceLock::new();

/// Returns the catalog of this process. Sessions on one model share its mapped files.
pub(crate) fn catalog() -> &'static Arc<Catalog> {
    CATALOG.get_or_init(|| with_threads(Pool::for_this_machine()))
}

fn with_threads(pool: Pool) -> Arc<Catalog> {
    Arc::new(Catalog::new(Arc::new(pool), library()))
}

/// Sets the number of threads that this process computes on, which is otherwise that of the machine's processors. It has to
/// be set before the first model is opened.
#[pyfunction]
pub(crate) fn set_threads(threads: usize) -> PyResult<()> {
    if threads == 0 {
        return Err(Problem::argument("0 threads compute nothing; give at least 1").into());
    }
    let too_late =
        |_| Problem::argument("threads are set before the first model is opened; begin another process");
    Ok(CATALOG.set(with_threads(Pool::new(threads))).map_err(too_late)?)
}

/// Returns the models that this user knows by name: the same as those of the command line.
fn library() -> Library {
    let project = directories::ProjectDirs::from("", "", "larql");
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    let library = project.map(|project| Library::new(project.cache_dir().join("models")));
    library.unwrap_or_default().with_home(home)
}
