//! Input of an extraction: weights, their origin, and the files that go along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use larql_models::{Checkpoint, CheckpointKind, SourceTensors, StoredTensor, WeightSource};
use larql_vindex_spec::Source;

use super::options::ExtractOptions;
use crate::component::{Component, MANIFEST_FILE, TOKENIZER_GGUF_FILE, UNUSED_FILE};
use crate::summary::directory_files;
use crate::{Vindex, VindexError, digest};
use larql_core::progress::{Meter, Progress, Stage};

/// Everything that goes into a new vindex.
pub(crate) struct ExtractInput<'a> {
    pub(crate) weights: &'a dyn WeightSource,
    /// Name of the model.
    pub(crate) model: String,
    pub(crate) source: Source,
    /// Library that quantised the source, if its weights had to be repacked.
    pub(crate) quantisation: Option<&'static str>,
    /// Digest of the source, so that an extraction from other weights is not resumed.
    pub(crate) fingerprint: String,
    pub(crate) side_files: Vec<SideFile>,
    /// True if the tokens that features write must still be computed.
    pub(crate) finds_down_meta: bool,
}

/// A file that is copied unchanged.
pub(crate) struct SideFile {
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// Origin of a side file's bytes.
pub(crate) enum Content {
    Copy(PathBuf),
    Bytes(Vec<u8>),
    /// A safetensors file of these.
    Tensors(Vec<StoredTensor>),
}

impl<'a> ExtractInput<'a> {
    /// A checkpoint, with the digests of its weight files and those of its other files that the level includes.
    pub(crate) fn of_checkpoint(
        checkpoint: &'a Checkpoint,
        options: &ExtractOptions,
        progress: &dyn Progress,
    ) -> Result<ExtractInput<'a>, VindexError> {
        let digests = digests(checkpoint.weight_files(), progress)?;
        let fingerprint = digest::of_digests(&digests);
        let origin = &options.origin;
        Ok(ExtractInput {
            weights: checkpoint,
            model: origin.model.clone().unwrap_or_else(|| model_name(checkpoint.path())),
            source: Source {
                huggingface_repo: origin.huggingface_repo.clone(),
                huggingface_revision: origin.huggingface_revision.clone(),
                base_model_sha: Some(fingerprint.clone()),
                base_safetensors_sha256: Some(digests),
                larql_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                extractor_sha: origin.extractor_sha.clone(),
                extra: checkpoint
                    .adapter()
                    .map(|name| ("adapter".to_owned(), name.into()))
                    .into_iter()
                    .collect(),
                ..Source::default()
            },
            quantisation: checkpoint.quantisation(),
            fingerprint,
            side_files: side_files(checkpoint, options)?,
            finds_down_meta: true,
        })
    }

    /// A vindex, with all of its files that do not hold weights.
    pub(crate) fn of_vindex(vindex: &'a Vindex) -> Result<ExtractInput<'a>, VindexError> {
        let manifest = vindex.manifest();
        let manifest_path = vindex.path().join(MANIFEST_FILE);
        let json = std::fs::read(&manifest_path).map_err(VindexError::io(manifest_path))?;
        let kept = |component| match component {
            Component::Tokenizer | Component::Config | Component::SourceTensors | Component::Unused => true,
            Component::Labels | Component::KnnStore => true,
            Component::DownMeta => vindex.down_meta().is_some(),
            _ => false,
        };
        let files = directory_files(vindex.path())?.into_iter().map(|(name, _)| name);
        let files = files.filter(|name| Component::of_file(name).is_some_and(kept));
        Ok(ExtractInput {
            weights: vindex,
            model: manifest.model.clone(),
            source: manifest.source.clone().unwrap_or_default(),
            quantisation: None,
            fingerprint: digest::of_bytes(&json),
            side_files: files
                .map(|name| SideFile { content: Content::Copy(vindex.path().join(&name)), name })
                .collect(),
            finds_down_meta: false,
        })
    }
}

fn digests(files: &[PathBuf], progress: &dyn Progress) -> Result<BTreeMap<String, String>, VindexError> {
    let mut total = 0;
    for path in files {
        total += std::fs::metadata(path).map_err(VindexError::io(path))?.len();
    }
    let mut meter = Meter::new(progress, Stage::Digests, total);
    let mut digests = BTreeMap::new();
    for path in files {
        let name = file_name(path);
        meter.set_item(&name);
        digests.insert(name, digest::of_file(path, &mut meter)?);
    }
    Ok(digests)
}

fn side_files(checkpoint: &Checkpoint, options: &ExtractOptions) -> Result<Vec<SideFile>, VindexError> {
    let copies = checkpoint.side_files()?.into_iter().map(|(name, path)| (name, Content::Copy(path)));
    let metadata =
        checkpoint.gguf().map(|gguf| (TOKENIZER_GGUF_FILE.to_owned(), Content::Bytes(gguf.metadata_only())));
    let tensors = serde_json::to_vec_pretty(&checkpoint.source_tensors()).ok();
    let tensors = tensors.map(|json| (SourceTensors::FILE.to_owned(), Content::Bytes(json)));
    // Those of a GGUF file may be in blocks, which safetensors have no word for.
    let keeps_unused = options.keep_unused && checkpoint.kind() != CheckpointKind::Gguf;
    let unused: Vec<StoredTensor> = checkpoint.unused_tensors().filter(|_| keeps_unused).cloned().collect();
    let unused = (!unused.is_empty()).then(|| (UNUSED_FILE.to_owned(), Content::Tensors(unused)));
    // What a probe left with a checkpoint holds for every vindex of it.
    let labels = Component::Labels.files().iter().map(|name| checkpoint.path().join(name));
    let labels = labels.filter(|path| path.is_file()).map(|path| (file_name(&path), Content::Copy(path)));
    let files = copies.chain(labels).chain(metadata).chain(tensors).chain(unused).filter(|(name, _)| {
        Component::of_file(name).is_some_and(|component| component.is_in_preset(options.level))
    });
    Ok(files.map(|(name, content)| SideFile { name, content }).collect())
}

/// Default name of a checkpoint: its directory, or its file without ending and number; a snapshot in the
/// hub's cache by its repository.
fn model_name(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let repository = absolute
        .ancestors()
        .nth(2)
        .filter(|_| absolute.parent().is_some_and(|folder| folder.ends_with("snapshots")))
        .and_then(|folder| folder.file_name()?.to_str()?.strip_prefix("models--"))
        .and_then(|repository| repository.rsplit("--").next());
    if let Some(name) = repository {
        return name.to_owned();
    }
    let absolute = path.canonicalize().unwrap_or(absolute);
    let name = if absolute.is_dir() { absolute.file_name() } else { absolute.file_stem() };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once("-of-").and_then(|(rest, count)| Some((rest.rsplit_once('-')?, count))) {
        Some(((stem, number), count)) if is_number(number) && is_number(count) => stem.to_owned(),
        _ => name,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
