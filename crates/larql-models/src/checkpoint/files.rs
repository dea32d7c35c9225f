//! Which files a checkpoint's weights are in.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::ModelError;
use crate::config::shorten;
use crate::safetensors::{SafetensorsFile, ShardIndex};
use crate::tensor::StoredTensor;

/// The files that hold the weights of a checkpoint.
pub(super) enum WeightFiles {
    Gguf(PathBuf),
    Safetensors(SafetensorsFiles),
}

/// The files of a checkpoint in safetensors.
pub(super) enum SafetensorsFiles {
    /// Shards listed in an index.
    Indexed(PathBuf),
    /// One file, or several without an index, as older versions of MLX wrote them.
    Listed(Vec<PathBuf>),
}

/// What the files of a checkpoint in safetensors hold together.
pub(super) struct Weights {
    pub(super) tensors: Vec<StoredTensor>,
    pub(super) files: Vec<PathBuf>,
    /// For each tensor the index of its file.
    pub(super) file_of: Vec<usize>,
    pub(super) by_mlx: bool,
}

impl WeightFiles {
    /// Looks at what `path` is or, if it is a directory, holds.
    pub(super) fn find(path: &Path) -> Result<WeightFiles, ModelError> {
        let not_a_checkpoint =
            |problem: &str| ModelError::NotACheckpoint { path: path.into(), problem: problem.into() };
        let io = |source| ModelError::Io { path: path.into(), source };
        if std::fs::metadata(path).map_err(io)?.is_file() {
            return match extension(path) {
                "gguf" => Ok(WeightFiles::Gguf(path.into())),
                _ => Err(not_a_checkpoint("it is another kind of file")),
            };
        }
        let index = path.join("model.safetensors.index.json");
        if index.is_file() {
            return Ok(WeightFiles::Safetensors(SafetensorsFiles::Indexed(index)));
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            files.push(entry.map_err(io)?.path());
        }
        files.sort();
        let with_extension = |wanted: &str| -> Vec<PathBuf> {
            files.iter().filter(|file| extension(file) == wanted).cloned().collect()
        };
        let mut weights = with_extension("safetensors");
        weights.retain(|file| has_name_starting(file, "model") || has_name_starting(file, "weights"));
        if !weights.is_empty() {
            return Ok(WeightFiles::Safetensors(SafetensorsFiles::Listed(weights)));
        }
        let mut ggufs = with_extension("gguf");
        match (ggufs.len(), ggufs.pop()) {
            (1, Some(file)) => Ok(WeightFiles::Gguf(file)),
            (0, _) if with_extension("bin").is_empty() => Err(not_a_checkpoint("it holds no weights")),
            (0, _) => Err(not_a_checkpoint("its weights are PyTorch pickles, which are not read")),
            (count, _) => Err(not_a_checkpoint(&format!("it holds {count} .gguf files, so name one"))),
        }
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn has_name_starting(path: &Path, start: &str) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(start.as_bytes()))
}

impl SafetensorsFiles {
    /// Maps all files of `directory`, and checks that the index, if there is one, tells the truth and that no
    /// tensor is in two of them.
    pub(super) fn open(self, directory: &Path) -> Result<Weights, ModelError> {
        let mut weights =
            Weights { tensors: Vec::new(), files: Vec::new(), file_of: Vec::new(), by_mlx: false };
        match self {
            SafetensorsFiles::Listed(files) => {
                for path in files {
                    let file = SafetensorsFile::open(&path)?;
                    weights.add(path, file);
                }
            }
            SafetensorsFiles::Indexed(index) => {
                let index = ShardIndex::read(&index)?;
                for shard in index.shards() {
                    let path = directory.join(shard);
                    let file = SafetensorsFile::open(&path)?;
                    index.check_shard(shard, file.tensors())?;
                    weights.add(path, file);
                }
            }
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

impl Weights {
    fn add(&mut self, path: PathBuf, file: SafetensorsFile) {
        let says_mlx = file.metadata().get("format").is_some_and(|format| format == "mlx");
        self.by_mlx |= says_mlx || has_name_starting(&path, "weights");
        self.tensors.extend(file.into_tensors());
        self.file_of.resize(self.tensors.len(), self.files.len());
        self.files.push(path);
    }
}
