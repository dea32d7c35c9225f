//! The commands, a file for each: its arguments and the function that runs it.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod conformance;
pub(crate) mod convert;
pub(crate) mod extract;
pub(crate) mod list;
pub(crate) mod lql;

pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod verify;

use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_inference::{LanguageModel, Model};

use crate::library;

/// An error as the terminal shows it.
fn report(error: impl std::error::Error) -> miette::Report {
    miette::miette!("{error}")
}

/// Opens a model that takes and gives text.
fn open_language_model(path: &Path, pool: Arc<Pool>) -> miette::Result<LanguageModel> {
    LanguageModel::open(&library::find(path)?, pool).map_err(report)
}

/// Opens a model that takes token ids.
fn open_model(path: &Path, pool: Arc<Pool>) -> miette::Result<Model> {
    Model::open(&library::find(path)?, pool).map_err(report)
}
