//! Extraction: writes a vindex from a checkpoint.

mod down_meta;
mod input;
mod manifest;
mod options;
pub(crate) mod plan;
pub(crate) mod tensors;
mod top_tokens;
pub(crate) mod workspace;
pub(crate) mod writer;

use std::path::{Path, PathBuf};

use larql_compute::Pool;
use larql_models::{Checkpoint, ColumnImportance, StoredTensor, WeightSource, safetensors_header};
use larql_vindex_spec::{ExtractLevel, FloatType, Quant};
use serde::Serialize;
use serde_json::{Map, json};

use crate::component::MANIFEST_FILE;
use crate::{Vindex, VindexError, digest};
use input::{Content, ExtractInput};
use larql_core::progress::{Meter, Progress, Stage};
use plan::Plan;
use workspace::Workspace;

pub use options::{ExtractOptions, Origin, Part, Q4kOptions, Storage};
pub use tensors::Drift;
pub(crate) use writer::write_file;

/// Result of an extraction.
#[derive(Clone, Debug, Serialize)]
pub struct ExtractReport {
    /// The vindex.
    pub path: PathBuf,
    /// The level that is complete in it; lower than the requested one if parts or layers were left out.
    pub level: ExtractLevel,
    /// Storage of the weights.
    pub quant: Quant,
    /// Encoding of plain floats.
    pub dtype: FloatType,
    /// Every file with its size in bytes.
    pub files: Vec<(String, u64)>,
    /// Difference from the source of each tensor that is not stored exactly.
    pub drift: Vec<Drift>,
    /// Number of matrices that keep the source's blocks, since those that were asked for would not be smaller.
    pub kept: usize,
}

/// Makes a vindex of a checkpoint.
///
/// `target` appears when it is complete. Until then the vindex is written to `TARGET.partial`, which stays if
/// the extraction is stopped or fails, and can then be resumed or deleted. Memory holds a part of the
/// embeddings and one layer at most. `extracted_at` in the manifest is the only thing that may differ between
/// two extractions of the same source with the same options.
///
/// # Errors
/// [`VindexError::AlreadyExists`] if `target` exists; [`VindexError::Unfinished`] if there is an
/// unfinished extraction and resuming is not asked for, [`VindexError::OtherExtraction`] if it is of another
/// source or made with other options; [`VindexError::NoSuchLayers`]; [`VindexError::Cancelled`] if `progress` is cancelled; and errors of reading
/// and writing.
pub fn extract(
    checkpoint: &Checkpoint,
    target: &Path,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<ExtractReport, VindexError> {
    // A look before the digests are computed, which may take long.
    if target.symlink_metadata().is_ok() {
        return Err(VindexError::AlreadyExists { path: target.into() });
    }
    let layers = checkpoint.spec().layers.len();
    if let Some([first, last]) = options.layers.filter(|[first, last]| first > last || *last >= layers) {
        return Err(VindexError::NoSuchLayers { first, last, layers });
    }
    let plan = Plan::new(checkpoint, |_| true, options)?;
    let input = ExtractInput::of_checkpoint(checkpoint, options, progress)?;
    write(&input, &plan, target, options, progress)
}

/// Makes a vindex of another one, with its weights in another storage. Everything else is copied: of `options` count
/// storage, importance, and whether an earlier run is resumed.
///
/// # Errors
/// As [`extract()`].
pub fn quantize(
    vindex: &Vindex,
    target: &Path,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<ExtractReport, VindexError> {
    let options = ExtractOptions {
        level: vindex.level(),
        storage: options.storage,
        importance: options.importance.clone(),
        top_k: vindex.manifest().down_top_k,
        resume: options.resume,
        ..ExtractOptions::default()
    };
    let plan = Plan::new(vindex, |role| vindex.holds(role), &options)?;
    write(&ExtractInput::of_vindex(vindex)?, &plan, target, &options, progress)
}

/// Writes a planned vindex.
fn write(
    input: &ExtractInput<'_>,
    plan: &Plan,
    target: &Path,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<ExtractReport, VindexError> {
    let identity = json!({ "source": input.fingerprint, "model": input.model, "options": options });
    let mut workspace = Workspace::open(target, identity, options.resume)?;
    if let Err(error) = write_files(input, plan, &mut workspace, options, progress) {
        workspace.discard_if_empty();
        return Err(error);
    }

    let drift = workspace.drift();
    let manifest = manifest::build(input, plan, options, workspace.files(), &drift);
    let sealed = digest::sealed(&manifest);
    let mut files: Vec<(String, u64)> =
        workspace.files().iter().map(|(name, file)| (name.clone(), file.bytes)).collect();
    files.push((MANIFEST_FILE.to_owned(), sealed.len() as u64));
    workspace.complete(MANIFEST_FILE, sealed.as_bytes())?;
    Ok(ExtractReport {
        path: target.into(),
        level: plan.level,
        quant: plan.quant(),
        dtype: plan.float,
        files,
        drift,
        kept: plan.kept,
    })
}

/// Writes everything but the manifest.
fn write_files(
    input: &ExtractInput<'_>,
    plan: &Plan,
    workspace: &mut Workspace,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<(), VindexError> {
    let pool = Pool::for_this_machine();
    write_weights(input, plan, workspace, options.importance.as_deref(), &pool, progress)?;
    for (name, entries) in plan.manifests() {
        let json = serde_json::to_vec_pretty(&entries).map_err(|e| VindexError::io(&name)(e.into()))?;
        workspace.write(&name, &json)?;
    }
    for file in &input.side_files {
        match &file.content {
            Content::Bytes(bytes) => workspace.write(&file.name, bytes)?,
            Content::Copy(path) => {
                let bytes = larql_compute::map_file(path).map_err(VindexError::io(path))?;
                workspace.write(&file.name, &bytes)?;
            }
            Content::Tensors(tensors) => {
                let mut writer = workspace.create(&file.name)?;
                let entry = |tensor: &StoredTensor| {
                    (
                        tensor.name.clone(),
                        tensor.encoding.to_string(),
                        tensor.shape.clone(),
                        tensor.bytes.len() as u64,
                    )
                };
                writer.write(&safetensors_header(Map::new(), tensors.iter().map(entry)))?;
                for tensor in tensors {
                    writer.write(&tensor.bytes)?;
                }
                workspace.finish(&file.name, writer)?;
            }
        }
    }
    if input.finds_down_meta && options.top_k > 0 && options.wants_part(Part::FfnDown) {
        down_meta::write(input.weights, options, workspace, &pool, progress)?;
    }
    Ok(())
}

fn write_weights(
    input: &ExtractInput<'_>,
    plan: &Plan,
    workspace: &mut Workspace,
    importance: Option<&ColumnImportance>,
    pool: &Pool,
    progress: &dyn Progress,
) -> Result<(), VindexError> {
    let mut meter = Meter::new(progress, Stage::Weights, plan.bytes());
    for file in &plan.files {
        meter.set_item(&file.name);
        if workspace.finished(&file.name).is_some_and(|finished| finished.bytes == file.bytes) {
            meter.advance(file.bytes)?;
            continue;
        }
        let mut writer = workspace.create(&file.name)?;
        let drift = tensors::write_tensors(file, input.weights, importance, &mut writer, pool, &mut meter)?;
        workspace.finish_with_drift(&file.name, writer, drift)?;
    }
    Ok(())
}
