//! The commands, a file for each: its arguments and the function that runs it.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod chat;
pub(crate) mod compile;
pub(crate) mod completions;
pub(crate) mod conformance;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod extract;
pub(crate) mod history;
pub(crate) mod label;
pub(crate) mod list;
pub(crate) mod lql;
pub(crate) mod probe;
pub(crate) mod repl;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod verify;

use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::facts::Facts;
use larql_eval::EvalError;
use larql_inference::Model;
use larql_knowledge::{Hint, KnowledgeError, LanguageModel, ProbeError, ProbeFileError};
use larql_models::Checkpoint;
use larql_vindex::{Holdings, Vindex};

use crate::library;

/// Returns an error as the terminal shows it: its message with the causes that the message leaves out, and the next step
/// in the terms of the command line.
fn report(error: impl std::error::Error + 'static) -> miette::Report {
    let mut message = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !message.contains(&cause) {
            message += &format!(": {cause}");
        }
    }
    match hint(&error) {
        Some(Hint::CompleteText) => {
            miette::miette!("{message}; use `larql run MODEL PROMPT` to complete a text")
        }
        Some(Hint::ProbeAgain) => miette::miette!("{message}; run `larql probe` again"),
        Some(Hint::InsertIntoMemory) => miette::miette!("{message}; use MODE KNN to insert facts"),
        _ => miette::miette!("{message}"),
    }
}

fn hint(error: &(dyn std::error::Error + 'static)) -> Option<Hint> {
    let knowledge = || error.downcast_ref::<KnowledgeError>().and_then(KnowledgeError::hint);
    let probe = || error.downcast_ref::<ProbeError>().and_then(ProbeError::hint);
    let file = || error.downcast_ref::<ProbeFileError>().and_then(ProbeFileError::hint);
    let evaluation = || error.downcast_ref::<EvalError>().and_then(EvalError::hint);
    knowledge().or_else(probe).or_else(file).or_else(evaluation)
}

/// The facts at a path, or the shipped ones.
fn facts(path: Option<&Path>) -> miette::Result<Facts> {
    path.map_or_else(|| Ok(Facts::shipped().clone()), Facts::read).map_err(report)
}

/// Opens a model that takes and gives text.
fn open_language_model(path: &Path, pool: Arc<Pool>) -> miette::Result<LanguageModel> {
    let path = library::find(path)?;
    if Vindex::is_at(&path) {
        return LanguageModel::of_vindex(&open_for_predicting(&path)?, pool).map_err(report);
    }
    let checkpoint = Checkpoint::open(&path).map_err(report)?;
    checkpoint.notes().iter().for_each(|note| eprintln!("note: {note}"));
    LanguageModel::of_checkpoint(&checkpoint, pool).map_err(report)
}

/// Opens a model that takes token ids.
fn open_model(path: &Path, pool: Arc<Pool>) -> miette::Result<Model> {
    let path = library::find(path)?;
    if Vindex::is_at(&path) {
        return Model::load(&open_for_predicting(&path)?, pool).map_err(report);
    }
    Model::open(&path, pool).map_err(report)
}

/// Opens a vindex, and says which parts it lacks before a weight is found missing.
fn open_for_predicting(path: &Path) -> miette::Result<Vindex> {
    let vindex = Vindex::open(path).map_err(report)?;
    vindex.require(&Holdings::PREDICTING, "predicting").map_err(report)?;
    Ok(vindex)
}
