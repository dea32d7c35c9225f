//! COMPILE: what is open, edits included, as a vindex or a model of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use larql_knowledge::LanguageModel;
use larql_lql::ast::{self, CompileModel, CompileVindex, ModelFormat, Source, Spanned};
use larql_lql::output::{Compiled, InsertedEdge, Output};
use larql_models::{Export, ExportOptions, SourceTensors, write_gguf, write_safetensors};
use larql_vindex::{CompileOptions, Conflict, KnnStore, Overlay, PatchStack, Summary, Vindex, compile};
use larql_vindex_spec::ExtractLevel;

use crate::insert::{Lowered, lower};
use crate::measured::Measured;
use crate::{ExecuteError, Session};

pub(crate) fn vindex(session: &Session, statement: &CompileVindex) -> Result<Output, ExecuteError> {
    let started = Instant::now();
    let conflict = match statement.on_conflict {
        None | Some(ast::Conflict::LastWins) => Conflict::LastWins,
        Some(ast::Conflict::HighestConfidence) => Conflict::HighestConfidence,
        Some(ast::Conflict::Fail) => Conflict::Fail,
    };
    let overlay = source(session, &statement.source, conflict)?;
    let (overlay, lowered) = match statement.snapshot {
        true => (overlay, Vec::new()),
        false => lowered(session, overlay, &statement.into)?,
    };
    let before = Summary::read(overlay.path())?.bytes();
    let report =
        compile(&overlay, Path::new(&*statement.into), &CompileOptions::default(), &*session.progress)?;
    let bytes = report.files.iter().map(|(_, bytes)| bytes).sum();
    Ok(Output::Compile(Compiled {
        path: statement.into.value.clone(),
        features: overlay.edits().len(),
        tensors: report.tensors,
        entries: overlay.knn().len(),
        lowered,
        kept: report.kept,
        bytes,
        grown: bytes as i64 - before as i64,
        seconds: started.elapsed().as_secs_f64(),
    }))
}

pub(crate) fn model(session: &Session, statement: &CompileModel) -> Result<Output, ExecuteError> {
    let started = Instant::now();
    let overlay = source(session, &statement.source, Conflict::LastWins)?;
    overlay.require(ExtractLevel::Inference, "a model to write")?;
    let (overlay, lowered) = lowered(session, overlay, &statement.into)?;
    let path = overlay.path();
    let source = SourceTensors::read(path)?;
    let unused = overlay.unused_tensors()?;
    let (text, source) = (overlay.text(), source.as_ref());
    let export = Export { weights: &overlay, text, path, source, unused: &unused };
    let write = match statement.format.unwrap_or(ModelFormat::Safetensors) {
        ModelFormat::Safetensors => write_safetensors,
        ModelFormat::Gguf => write_gguf,
    };
    let before = Summary::read(path)?.bytes();
    let report = write(export, Path::new(&*statement.into), ExportOptions::default())?;
    let bytes = report.files.iter().map(|(_, bytes)| bytes).sum();
    Ok(Output::Compile(Compiled {
        path: statement.into.value.clone(),
        features: overlay.edits().len(),
        tensors: report.tensors,
        entries: 0,
        lowered,
        kept: 0,
        bytes,
        grown: bytes as i64 - before as i64,
        seconds: started.elapsed().as_secs_f64(),
    }))
}

/// What is to be compiled: what is open, with its patches, or another vindex.
fn source(session: &Session, source: &Source, conflict: Conflict) -> Result<Overlay, ExecuteError> {
    match source {
        Source::Current => Ok(session.vindex("COMPILE")?.patches.resolved(conflict)?),
        Source::Path(name) => {
            let vindex = Arc::new(Vindex::open(&session.find(name)?)?);
            Ok(PatchStack::new(vindex)?.overlay().clone())
        }
    }
}

/// The overlay with its edges beside the weights as features, and how well the model learned each.
fn lowered(
    session: &Session,
    overlay: Overlay,
    into: &Spanned<String>,
) -> Result<(Overlay, Vec<InsertedEdge>), ExecuteError> {
    if overlay.knn().is_empty() {
        return Ok((overlay, Vec::new()));
    }
    overlay.require(ExtractLevel::Inference, "turning edges beside the weights into features")?;
    let base = LanguageModel::of_vindex(&overlay, Arc::clone(&session.pool))?;
    let language = base.edited(overlay.edits())?;
    let measured = Measured::new(&overlay, &session.library);
    let Lowered { operations, inserted } =
        lower(session, &overlay, &language, &measured).map_err(|problem| match problem {
            ExecuteError::Inference(problem) => {
                ExecuteError::NotLowered { entries: overlay.knn().len(), problem, at: into.span }
            }
            other => other,
        })?;
    let mut edits = overlay.edits().clone();
    // What is beside the weights is left out as a whole.
    operations.iter().for_each(|operation| edits.apply(language.model().spec(), operation));
    let lowered = Overlay::with_knn(Arc::clone(overlay.base()), edits, KnnStore::default())?;
    Ok((lowered, inserted))
}
