//! The files of a checkpoint's weights.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::other_files;
use crate::ModelError;
use crate::config::shorten;
use crate::gguf::{is_gguf, split_part};
use crate::safetensors::{SafetensorsFile, ShardIndex};
use crate::tensor::StoredTensor;

/// The file of a checkpoint whose weights are in one file.
const WHOLE: &str = "model.safetensors";
/// The list of the shards of a checkpoint.
const INDEX: &str = "model.safetensors.index.json";

/// The files that hold the weights of a checkpoint.
pub(super) enum WeightFiles {
    Gguf(PathBuf),
    Safetensors(SafetensorsFiles),
}

/// The files of a checkpoint in safetensors.
pub(super) struct SafetensorsFiles {
    files: Vec<PathBuf>,
    /// The first shard that an index names and that is not there. The files may hold everything all the same, for
    /// indices are often those of another version of the model.
    missing: Option<PathBuf>,
}

/// Combined content of the files of a checkpoint in safetensors.
pub(super) struct Weights {
    pub(super) tensors: Vec<StoredTensor>,
    pub(super) files: Vec<PathBuf>,
    /// For each tensor the index of its file.
    pub(super) file_of: Vec<usize>,
    pub(super) by_mlx: bool,
    /// A shard that an index names and that is not there.
    pub(super) missing: Option<PathBuf>,
}

/// The place of the checkpoint that `path` means: `path` itself, or the snapshot in a folder of the hub's cache.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, ModelError> {
    let folder = path.join("snapshots");
    if !folder.is_dir() || path.join("config.json").exists() {
        return Ok(path.into());
    }
    let mut snapshots = list(&folder)?;
    snapshots.retain(|snapshot| snapshot.is_dir());
    let main = std::fs::read_to_string(path.join("refs/main")).unwrap_or_default();
    let is_main = |snapshot: &PathBuf| snapshot.file_name().is_some_and(|name| *name == *main.trim());
    if let Some(place) = snapshots.iter().position(is_main) {
        return Ok(snapshots.swap_remove(place));
    }
    match (snapshots.len(), snapshots.pop()) {
        (1, Some(snapshot)) => Ok(snapshot),
        (count, _) => {
            let problem =
                format!("it is a folder of the hub's cache with {count} snapshots; give one of them");
            Err(ModelError::NotACheckpoint { path: path.into(), problem })
        }
    }
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let io = |source| ModelError::Io { path: directory.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        files.push(entry.map_err(io)?.path());
    }
    files.sort();
    Ok(files)
}

impl WeightFiles {
    /// Looks at what `path` is or, if it is a directory, holds.
    pub(super) fn find(path: &Path) -> Result<WeightFiles, ModelError> {
        let io = |source| ModelError::Io { path: path.into(), source };
        let not_a_checkpoint = |problem: String| ModelError::NotACheckpoint { path: path.into(), problem };
        if std::fs::metadata(path).map_err(io)?.is_file() {
            let start = other_files::start_of(path)?;
            if is_gguf(&start) {
                return Ok(WeightFiles::Gguf(path.into()));
            }
            return Err(match extension(path) {
                "safetensors" if other_files::placeholder(path, &start).is_none() => {
                    let directory = path.parent().unwrap_or(Path::new("."));
                    not_a_checkpoint(format!(
                        "it is one file of a checkpoint; give its directory, {}",
                        if directory.as_os_str().is_empty() {
                            ".".into()
                        } else {
                            directory.display().to_string()
                        }
                    ))
                }
                // Its name says that it should be one, so its bytes are validated as one.
                "gguf" if other_files::placeholder(path, &start).is_none() => {
                    return Ok(WeightFiles::Gguf(path.into()));
                }
                _ => other_files::no_weights(path, &start),
            });
        }
        if let Some(error) = other_files::vindex(path) {
            return Err(error);
        }
        let files = list(path)?;
        if let Some(found) = SafetensorsFiles::find(path, &files)? {
            return Ok(WeightFiles::Safetensors(found));
        }
        let mut ggufs: Vec<PathBuf> = files.iter().filter(|file| is_model_gguf(file)).cloned().collect();
        // Of a model in several files any one stands for all.
        ggufs.dedup_by_key(|file| split_part(file).map_or_else(|| file.clone(), |part| part.stem));
        match (ggufs.len(), ggufs.pop()) {
            (1, Some(file)) => Ok(WeightFiles::Gguf(file)),
            (0, _) => Err(other_files::no_weights_in(path, &files)),
            (count, _) => Err(not_a_checkpoint(format!("it holds {count} .gguf files, so name one"))),
        }
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// Returns true if a file is a GGUF file of a model, rather than of a vision tower beside one.
fn is_model_gguf(path: &Path) -> bool {
    extension(path).eq_ignore_ascii_case("gguf") && !has_name_starting(path, "mmproj")
}

fn has_name_starting(path: &Path, start: &str) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(start.as_bytes()))
}

/// Returns true if a file is called `START-00001-of-00005.safetensors` or the like.
fn is_shard(path: &Path, start: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers =
        name.strip_prefix(start).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".safetensors"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers
        .and_then(|numbers| numbers.split_once("-of-"))
        .is_some_and(|(number, count)| is_number(number) && is_number(count))
}

impl SafetensorsFiles {
    /// Chooses the weight files of a directory from the existing `files`: one file that holds everything, before the
    /// shards of an index, before shards by their names; other precisions of the model beside them are left alone.
    fn find(directory: &Path, files: &[PathBuf]) -> Result<Option<SafetensorsFiles>, ModelError> {
        let whole = directory.join(WHOLE);
        if whole.is_file() {
            return Ok(Some(SafetensorsFiles { files: vec![whole], missing: None }));
        }
        let mut missing = None;
        let index = directory.join(INDEX);
        if index.is_file() {
            let index = ShardIndex::read(&index)?;
            let shards: Vec<PathBuf> =
                index.shards().into_iter().map(|shard| directory.join(shard)).collect();
            missing = shards.iter().find(|shard| !shard.is_file()).cloned();
            if missing.is_none() {
                return Ok(Some(SafetensorsFiles { files: shards, missing }));
            }
        }
        let chosen = |choose: &dyn Fn(&Path) -> bool| -> Vec<PathBuf> {
            files.iter().filter(|file| choose(file)).cloned().collect()
        };
        let starts = |file: &Path, start| extension(file) == "safetensors" && has_name_starting(file, start);
        let candidates = [
            chosen(&|file| is_shard(file, "model")),
            chosen(&|file| file.file_name().is_some_and(|name| name == "weights.safetensors")),
            chosen(&|file| starts(file, "model") || starts(file, "weights")),
        ];
        let found = candidates.into_iter().find(|files| !files.is_empty());
        match (found, missing) {
            (Some(files), missing) => Ok(Some(SafetensorsFiles { files, missing })),
            (None, Some(shard)) => Err(missing_shard(&shard)),
            (None, None) => Ok(None),
        }
    }

    /// Maps all files of `directory`, and checks that no tensor is in two of them.
    pub(super) fn open(self, directory: &Path) -> Result<Weights, ModelError> {
        let SafetensorsFiles { files, missing } = self;
        let mut weights =
            Weights { tensors: Vec::new(), files: Vec::new(), file_of: Vec::new(), by_mlx: false, missing };
        for path in files {
            let file = SafetensorsFile::open(&path)?;
            weights.add(path, file);
        }
        let mut names = HashSet::new();
        match weights.tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
            None => Ok(weights),
            Some(twice) => {
                let field = format!("tensor `{}`", shorten(&twice.name));
                let found = "two, in different files";
                Err(ModelError::malformed(directory, field, "one of that name", found))
            }
        }
    }
}

/// The error for a file of weights that is named and not there.
pub(super) fn missing_shard(shard: &Path) -> ModelError {
    let problem = "it is not there, though the index names it; was the model downloaded completely?";
    ModelError::Contradiction { path: shard.into(), problem: problem.into() }
}

impl Weights {
    fn add(&mut self, path: PathBuf, file: SafetensorsFile) {
        let says_mlx = file.metadata().get("format").is_some_and(|format| format == "mlx");
        self.by_mlx |= says_mlx || has_name_starting(&path, "weights");
        self.tensors.extend(file.into_tensors());
        self.file_of.resize(self.tensors.len(), self.files.len());
        self.files.push(path);
    }

    /// Turns an error in the content of the files into that of a missing shard, if one explains it.
    pub(super) fn explain(&self, error: ModelError) -> ModelError {
        match (&self.missing, &error) {
            (Some(shard), ModelError::MissingTensor { .. } | ModelError::Contradiction { .. }) => {
                missing_shard(shard)
            }
            _ => error,
        }
    }
}
