//! The Python package: an extension module with sessions, weights as arrays, passes with hooks, and traces.
//!
//! This crate turns Python's arguments into those of the other crates, and their results into objects, arrays and Arrow
//! streams. It knows nothing of how anything is computed. The package in `python/larql` gives its classes their documented
//! names.
//!
//! In reading order: `engine` and `answer` (statements and their results), `features` (a vindex as arrays and tables),
//! `model` with `hook`, `cache`, `declared` and `generation` (the model as it runs), `trace` and `stores` (the residual stream); then
//! what they share: `arrays`, `arrow`, `error`, `interrupt` and `process`.
//!
//! Long work runs without the interpreter's lock, and Ctrl-C ends it.

mod answer;
mod arrays;
mod arrow;
mod cache;
mod declared;
mod engine;
mod error;
mod features;
mod generation;
mod hook;
mod interrupt;
mod model;
mod process;
mod stores;
mod trace;

use pyo3::prelude::*;

/// The extension module `larql._larql`.
#[pymodule(gil_used = true)]
mod _larql {
    #[pymodule_export]
    use super::answer::Answer;
    #[pymodule_export]
    use super::cache::KeyValueCache;
    #[pymodule_export]
    use super::declared::Intervention;
    #[pymodule_export]
    use super::engine::{Engine, execute_alone, quoted};
    #[pymodule_export]
    use super::features::Features;
    #[pymodule_export]
    use super::generation::Generation;
    #[pymodule_export]
    use super::hook::HookPoint;
    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::process::set_threads;
    #[pymodule_export]
    use super::stores::{BoundaryStore, BoundaryWriter, ContextStore, TraceStore};
    #[pymodule_export]
    use super::trace::{AnswerWaypoint, LayerSummary, ResidualTrace};

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name of a version")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
