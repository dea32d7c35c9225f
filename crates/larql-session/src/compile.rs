//! COMPILE: what is open, edits included, as a vindex or a model of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use larql_lql::ast::{self, CompileModel, CompileVindex, ModelFormat, Source, Spanned};
use larql_lql::output::{Compiled, InsertedEdge, Output};
use larql_models::{Export, ExportOptions, SourceTensors, write_gguf, write_safetensors};
use larql_vindex::{CompileOptions, Conflict, Holdings, KnnStore, Overlay, Summary, compile};

use crate::insert::{Inserted, lower};
use crate::{ChangeError, Database, ExecuteError, Session};

pub(crate) fn vindex(session: &Session, statement: &CompileVindex) -> Result<Output, ExecuteError> {
    let started = Instant::now();
    check_name(&statement.into, Format::Vindex)?;
    let conflict = match statement.on_conflict {
        None | Some(ast::Conflict::LastWins) => Conflict::LastWins,
        Some(ast::Conflict::HighestConfidence) => Conflict::HighestConfidence,
        Some(ast::Conflict::Fail) => Conflict::Fail,
    };
    let source = source(session, &statement.source, conflict)?;
    let (overlay, lowered) = match statement.snapshot {
        true => (source.1, Vec::new()),
        false => lowered(session, source, &statement.into)?,
    };
    let before = Summary::read(overlay.base().path())?.bytes();
    let options = CompileOptions::default();
    let report = compile(&overlay, Path::new(&*statement.into), &options, session.progress())?;
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
    let by_name = match Format::of_name(&statement.into) {
        Some(Format::Gguf) => ModelFormat::Gguf,
        _ => ModelFormat::Safetensors,
    };
    let format = statement.format.unwrap_or(by_name);
    check_name(&statement.into, format.into())?;
    let source = source(session, &statement.source, Conflict::LastWins)?;
    source.0.base().require(&Holdings::PREDICTING, "a model to write")?;
    let (overlay, lowered) = lowered(session, source, &statement.into)?;
    let path = overlay.base().path();
    let source = SourceTensors::read(path)?;
    let unused = overlay.base().unused_tensors()?;
    let (text, source) = (overlay.base().text(), source.as_ref());
    let export = Export { weights: &overlay, text, path, source, unused: &unused };
    let write = match format {
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

/// Format of what COMPILE writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Vindex,
    Safetensors,
    Gguf,
}

impl From<ModelFormat> for Format {
    fn from(format: ModelFormat) -> Format {
        match format {
            ModelFormat::Safetensors => Format::Safetensors,
            ModelFormat::Gguf => Format::Gguf,
        }
    }
}

impl Format {
    /// Returns the format that the ending of a name states.
    fn of_name(name: &str) -> Option<Format> {
        let ending = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
        match &*ending {
            "vindex" => Some(Format::Vindex),
            "safetensors" => Some(Format::Safetensors),
            "gguf" => Some(Format::Gguf),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Vindex => "a vindex",
            Format::Safetensors => "a safetensors model",
            Format::Gguf => "a GGUF file",
        }
    }
}

/// Fails if the name of what is to be written states another format.
fn check_name(into: &Spanned<String>, format: Format) -> Result<(), ExecuteError> {
    match Format::of_name(into) {
        Some(named) if named != format => {
            let (path, wanted, named) = (into.value.clone(), format.name(), named.name());
            Err(ChangeError::OtherFormat { path, wanted, named, at: into.span }.into())
        }
        _ => Ok(()),
    }
}

/// Returns what is to be compiled: what is open, with its patches, or another vindex.
fn source(
    session: &Session,
    source: &Source,
    conflict: Conflict,
) -> Result<(Arc<Database>, Overlay), ExecuteError> {
    match source {
        Source::Current => {
            let view = session.viewed("COMPILE")?;
            Ok((Arc::clone(view.database()), view.patches().resolved(conflict)?))
        }
        Source::Path(name) => {
            let database = session.database(name)?;
            let overlay = database.view()?.overlay().clone();
            Ok((database, overlay))
        }
    }
}

/// Returns the overlay with the edges of its edge memory as features, and how well the model learned each.
fn lowered(
    session: &Session,
    (database, overlay): (Arc<Database>, Overlay),
    into: &Spanned<String>,
) -> Result<(Overlay, Vec<InsertedEdge>), ExecuteError> {
    if overlay.knn().is_empty() {
        return Ok((overlay, Vec::new()));
    }
    let base = database.base();
    base.require(&Holdings::PREDICTING, "turning edges of the edge memory into features")?;
    let language = database.language()?.with_cancel(session.cancel_token()).edited(overlay.edits())?;
    let lowered = lower(session, &overlay, &language, database.measured());
    let Inserted { operations, edges: inserted } = lowered.map_err(|problem| match problem {
        problem @ (ExecuteError::Edit(_) | ExecuteError::Knowledge(_)) => {
            let (entries, problem) = (overlay.knn().len(), problem.into());
            ChangeError::NotLowered { entries, problem, at: into.span }.into()
        }
        other => other,
    })?;
    let mut edits = overlay.edits().clone();
    // The edge memory is left out as a whole.
    operations.iter().for_each(|operation| edits.apply(language.model().spec(), operation));
    let lowered = Overlay::with_knn(Arc::clone(base), edits, KnnStore::default())?;
    Ok((lowered, inserted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_states_another_format_is_refused() {
        let name = |name: &str| Spanned::from(name.to_owned());
        for (into, format) in [
            ("a.vindex", Format::Vindex),
            ("models/a", Format::Vindex),
            ("a.GGUF", Format::Gguf),
            ("a.v2", Format::Gguf),
            ("a.safetensors", Format::Safetensors),
        ] {
            assert!(check_name(&name(into), format).is_ok(), "{into}");
        }
        let error = check_name(&name("a.gguf"), Format::Vindex).unwrap_err();
        assert_eq!(error.to_string(), "a.gguf is to be a vindex, but its name is that of a GGUF file");
        assert!(check_name(&name("a.gguf"), Format::Safetensors).is_err());
        assert!(check_name(&name("a.vindex"), Format::Gguf).is_err());
    }
}
