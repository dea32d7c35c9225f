//! The commands, a file for each: its arguments and the function that runs it.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod run;

use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_inference::LanguageModel;

/// An error as the terminal shows it.
fn report(error: impl std::error::Error) -> miette::Report {
    miette::miette!("{error}")
}

/// Opens a model that takes and gives text.
fn open_language_model(path: &Path, pool: Arc<Pool>) -> miette::Result<LanguageModel> {
    LanguageModel::open(path, pool).map_err(report)
}
