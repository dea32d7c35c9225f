//! STATS: what is open, and what it takes on disk.

use std::path::Path;

use larql_hub::model_name;
use larql_lql::ast;
use larql_lql::output::{FileRow, LabelCount, Output, PatchRow, Stats};
use larql_models::ModelSpec;
use larql_vindex::{LabelSource, Labels, Summary};

use crate::common::wire;
use crate::session::Opened;
use crate::{ExecuteError, Session};

pub(crate) fn run(session: &Session, statement: &ast::Stats) -> Result<Output, ExecuteError> {
    if let Some(name) = &statement.path {
        let path = session.find(name)?;
        let vindex = session.catalog().database(&path)?;
        return of_vindex(&path, vindex.base().labels(), Vec::new());
    }
    match session.opened() {
        None => Err(ExecuteError::NothingOpen),
        Some(Opened::Vindex(open)) => of_vindex(open.path(), open.view().overlay().labels(), open.rows()),
        Some(Opened::Checkpoint { path, language, .. }) => Ok(of_checkpoint(path, language.model().spec())),
    }
}

fn of_vindex(path: &Path, labels: &Labels, patches: Vec<PatchRow>) -> Result<Output, ExecuteError> {
    let summary = Summary::read(path)?;
    let files = summary.files.iter();
    Ok(Output::Stats(Stats {
        path: summary.path.display().to_string(),
        bytes: summary.bytes(),
        files: files.map(|file| FileRow { file: file.name.clone(), bytes: file.bytes }).collect(),
        model: summary.model,
        family: summary.family,
        level: Some(summary.level),
        dtype: Some(summary.dtype),
        quant: Some(summary.quant),
        layers: summary.layers,
        hidden_size: summary.hidden_size,
        vocab_size: summary.vocab_size,
        features: summary.features,
        labels: label_counts(labels),
        patches,
    }))
}

/// Returns the number of labelled features by each source that labels any.
fn label_counts(labels: &Labels) -> Vec<LabelCount> {
    let sources = [LabelSource::Probe, LabelSource::Cluster, LabelSource::Pattern, LabelSource::Inserted];
    let counts = sources.into_iter().map(|source| {
        let count = labels.iter().filter(|(_, _, label)| label.source == source).count();
        LabelCount { source: wire::source(source), count }
    });
    counts.filter(|count| count.count > 0).collect()
}

fn of_checkpoint(path: &Path, spec: &ModelSpec) -> Output {
    let files = files(path);
    Output::Stats(Stats {
        path: path.display().to_string(),
        model: model_name(path),
        family: spec.family.clone(),
        level: None,
        dtype: None,
        quant: None,
        layers: spec.layers.len(),
        hidden_size: spec.hidden_size,
        vocab_size: spec.vocab_size,
        features: spec.layers.iter().map(|layer| layer.feed_forward.features()).sum(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        files,
        labels: Vec::new(),
        patches: Vec::new(),
    })
}

/// The files of a directory by name; a file is its own only one. What cannot be read has no size to tell.
fn files(path: &Path) -> Vec<FileRow> {
    let row = |path: &Path| {
        let bytes = std::fs::metadata(path).ok().filter(|data| data.is_file())?.len();
        Some(FileRow { file: path.file_name()?.to_string_lossy().into_owned(), bytes })
    };
    let mut files: Vec<FileRow> = match std::fs::read_dir(path) {
        Ok(entries) => entries.filter_map(|entry| row(&entry.ok()?.path())).collect(),
        Err(_) => row(path).into_iter().collect(),
    };
    files.sort_by(|a, b| a.file.cmp(&b.file));
    files
}
