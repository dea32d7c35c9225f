//! COMPILE: what is open, edits included, as a vindex or a model of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use larql_models::{Export, ExportOptions, SourceTensors, write_gguf, write_safetensors};
use larql_vindex::{CompileOptions, Conflict, Overlay, PatchStack, Summary, Vindex, compile};
use larql_vindex_spec::ExtractLevel;

use super::{ExecuteError, Session};
use crate::ast::{self, CompileModel, CompileVindex, ModelFormat, Source, Spanned};
use crate::output::{Compiled, Output};

pub(super) fn vindex(session: &Session, statement: &CompileVindex) -> Result<Output, ExecuteError> {
    let started = Instant::now();
    let conflict = match statement.on_conflict {
        None | Some(ast::Conflict::LastWins) => Conflict::LastWins,
        Some(ast::Conflict::HighestConfidence) => Conflict::HighestConfidence,
        Some(ast::Conflict::Fail) => Conflict::Fail,
    };
    let overlay = source(session, &statement.source, conflict)?;
    if !statement.snapshot {
        check_lowered(&overlay, &statement.into)?;
    }
    let before = Summary::read(overlay.path())?.bytes();
    let report =
        compile(&overlay, Path::new(&*statement.into), &CompileOptions::default(), &*session.progress)?;
    let bytes = report.files.iter().map(|(_, bytes)| bytes).sum();
    Ok(Output::Compile(Compiled {
        path: statement.into.value.clone(),
        features: overlay.edits().len(),
        tensors: report.tensors,
        entries: overlay.knn().len(),
        kept: report.kept,
        bytes,
        grown: bytes as i64 - before as i64,
        seconds: started.elapsed().as_secs_f64(),
    }))
}

pub(super) fn model(session: &Session, statement: &CompileModel) -> Result<Output, ExecuteError> {
    let started = Instant::now();
    let overlay = source(session, &statement.source, Conflict::LastWins)?;
    overlay.require(ExtractLevel::Inference, "a model to write")?;
    check_lowered(&overlay, &statement.into)?;
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

/// Edges beside the weights are lost where only weights are written.
fn check_lowered(overlay: &Overlay, into: &Spanned<String>) -> Result<(), ExecuteError> {
    match overlay.knn().len() {
        0 => Ok(()),
        entries => Err(ExecuteError::NotLowered { entries, at: into.span }),
    }
}
