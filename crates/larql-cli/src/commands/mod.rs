//! The commands, a file for each: its arguments and the function that runs it.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod chat;
pub(crate) mod compile;
pub(crate) mod completions;
pub(crate) mod conformance;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod diag;
pub(crate) mod eval;
pub(crate) mod extract;
pub(crate) mod hf;
pub(crate) mod history;
pub(crate) mod label;
pub(crate) mod link;
pub(crate) mod list;
pub(crate) mod lql;
pub(crate) mod mcp;
pub(crate) mod model;
pub(crate) mod parity;
pub(crate) mod probe;
pub(crate) mod publish;
pub(crate) mod pull;
pub(crate) mod quantize;
pub(crate) mod repl;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod slice;
pub(crate) mod tokenize;
pub(crate) mod trace;
pub(crate) mod verify;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::facts::Facts;
use larql_eval::EvalError;
use larql_inference::Model;
use larql_knowledge::{Hint, KnowledgeError, LanguageModel, ProbeError, ProbeFileError};
use larql_lql::ast::{ApplyPatch, Spanned, Statement};
use larql_models::Checkpoint;
use larql_vindex::{Holdings, Vindex, VindexError};

use crate::library;

/// Returns an error as the terminal shows it: its message with the causes that the message leaves out, and the next step
/// in the terms of the command line.
pub(crate) fn report(error: impl std::error::Error + 'static) -> miette::Report {
    let mut message = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !message.contains(&cause) {
            message += &format!(": {cause}");
        }
    }
    if let Some(hint) = hint_of_path(&error) {
        return miette::miette!(help = hint, "{message}");
    }
    match hint(&error) {
        Some(Hint::CompleteText) => {
            miette::miette!("{message}; use `larql run MODEL PROMPT` to complete a text")
        }
        Some(Hint::ProbeAgain) => miette::miette!("{message}; run `larql probe` again"),
        Some(Hint::InsertIntoMemory) => miette::miette!("{message}; use MODE KNN to insert facts"),
        Some(Hint::LongerContext) => miette::miette!("{message}, or allow more with --context"),
        _ => miette::miette!("{message}"),
    }
}

/// Advice for a path that holds no vindex.
fn hint_of_path(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let Some(VindexError::NotAVindex { path, .. }) = error.downcast_ref::<VindexError>() else { return None };
    let is_model = path.is_file() || path.join("config.json").is_file();
    let path = path.display();
    is_model.then(|| format!("`larql show {path}` says what it is, and `larql extract {path} -o NAME.vindex` makes a vindex of a model"))
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

/// Opens a model that takes and gives text, with patches over it.
pub(crate) fn open_edited_model(
    path: &Path,
    patches: &[PathBuf],
    pool: Arc<Pool>,
) -> miette::Result<LanguageModel> {
    if patches.is_empty() {
        return open_language_model(path, pool);
    }
    let mut session = library::session(pool)?;
    session.open_path(&library::find(path)?)?;
    for patch in patches {
        let path = Spanned::from(patch.display().to_string());
        session.execute(&Statement::ApplyPatch(ApplyPatch { path }))?;
    }
    Ok(session.language()?.clone())
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

/// Text on standard input, without line breaks at its end; none if it is a terminal or empty.
fn piped() -> miette::Result<Option<String>> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return Ok(None);
    }
    let mut text = String::new();
    input.read_to_string(&mut text).map_err(|error| miette::miette!("standard input: {error}"))?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok((!text.is_empty()).then_some(text))
}
