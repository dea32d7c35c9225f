//! EXTRACT: a vindex from a checkpoint.

use std::path::{Path, PathBuf};
use std::time::Instant;

use larql_hub::model_name;
use larql_lql::ast::{Component, Extract, Quant};
use larql_lql::output::{Extracted, Output};
use larql_models::{Checkpoint, WeightSource};
use larql_vindex::{ExtractOptions, Part, Q4kOptions, Storage};
use larql_vindex_spec::{ExtractLevel, FloatType};

use crate::{ExecuteError, Session};

pub(crate) fn run(session: &Session, statement: &Extract) -> Result<Output, ExecuteError> {
    let model = session.find_checkpoint(&statement.model)?;
    let into = PathBuf::from(&statement.into.value);
    let parts = statement.components.iter().map(|component| part(component.value)).collect();
    let options = ExtractOptions {
        level: statement.level.unwrap_or(ExtractLevel::Browse),
        storage: match (statement.f32, statement.quant) {
            (true, _) => Storage::Floats(FloatType::F32),
            (false, Some(Quant::Q4k)) => Storage::Q4k(Q4kOptions::default()),
            (false, Some(Quant::None) | None) => Storage::Automatic,
        },
        parts: (!statement.components.is_empty()).then_some(parts),
        layers: statement.layers.map(|range| [range.value.first, range.value.last]),
        ..ExtractOptions::default()
    };
    extract(session, &model, &into, &options)
}

/// Returns the vindex beside a checkpoint, extracted at level all unless it is there, as USE MODEL … AUTO_EXTRACT asks.
pub(crate) fn automatic(session: &Session, model: &Path) -> Result<PathBuf, ExecuteError> {
    let mut into = model.as_os_str().to_owned();
    into.push(".vindex");
    let into = PathBuf::from(into);
    if !into.exists() {
        let options = ExtractOptions { level: ExtractLevel::All, ..ExtractOptions::default() };
        extract(session, model, &into, &options)?;
    }
    Ok(into)
}

fn extract(
    session: &Session,
    model: &Path,
    into: &Path,
    options: &ExtractOptions,
) -> Result<Output, ExecuteError> {
    let started = Instant::now();
    let checkpoint = Checkpoint::open(model)?;
    let report = larql_vindex::extract(&checkpoint, into, options, session.progress())?;
    let layers = &checkpoint.spec().layers;
    Ok(Output::Extract(Extracted {
        model: model_name(model),
        path: into.display().to_string(),
        level: report.level,
        dtype: report.dtype,
        quant: report.quant,
        layers: layers.len(),
        features: layers.iter().map(|layer| layer.feed_forward.features()).sum(),
        bytes: report.files.iter().map(|(_, bytes)| bytes).sum(),
        seconds: started.elapsed().as_secs_f64(),
    }))
}

fn part(component: Component) -> Part {
    match component {
        Component::FfnGate => Part::FfnGate,
        Component::FfnUp => Part::FfnUp,
        Component::FfnDown => Part::FfnDown,
        Component::Embeddings => Part::Embeddings,
        Component::AttnOv => Part::AttnOv,
        Component::AttnQk => Part::AttnQk,
    }
}
