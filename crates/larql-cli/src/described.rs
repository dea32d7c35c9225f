//! Models, vindexes and patches at a glance, for `show` and `list`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use larql_models::{Checkpoint, CheckpointKind, ModelSpec, Shape, WeightSource};
use larql_vindex::{Operation, Patch, SlicePart, Summary, Vindex};
use serde::Serialize;

use crate::commands::report;
use crate::precision::{self, PrecisionRow};

/// Description of the model or patch at a path.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Described {
    /// A vindex.
    Vindex {
        #[serde(flatten)]
        summary: Summary,
        #[serde(flatten)]
        facts: ModelFacts,
        /// The parts of a slice.
        #[serde(skip_serializing_if = "Option::is_none")]
        slice: Option<Vec<&'static str>>,
        precision: Vec<PrecisionRow>,
    },
    /// A GGUF file or a checkpoint directory.
    Model(Model),
    /// Edits of a vindex.
    Patch(PatchFacts),
}

/// A model as other programs have it.
#[derive(Serialize)]
pub(crate) struct Model {
    pub(crate) path: PathBuf,
    /// Format of its files.
    pub(crate) format: &'static str,
    /// Number format of most weights.
    pub(crate) dtype: Option<String>,
    pub(crate) bytes: u64,
    #[serde(flatten)]
    pub(crate) facts: ModelFacts,
}

/// Facts about a model, whatever its files are.
#[derive(Serialize)]
pub(crate) struct ModelFacts {
    pub(crate) architecture: String,
    pub(crate) parameters: usize,
    pub(crate) context_length: usize,
    pub(crate) num_layers: usize,
    pub(crate) width: usize,
    pub(crate) vocabulary: usize,
    pub(crate) chat_template: bool,
}

/// Facts about a patch.
#[derive(Serialize)]
pub(crate) struct PatchFacts {
    pub(crate) path: PathBuf,
    pub(crate) model: String,
    pub(crate) created_at: String,
    pub(crate) description: Option<String>,
    pub(crate) operations: usize,
    /// Edges that it states, as entity, relation and target.
    pub(crate) edges: Vec<String>,
    pub(crate) bytes: u64,
}

impl ModelFacts {
    fn of(spec: &ModelSpec, chat_template: bool) -> ModelFacts {
        let size = |shape: &Shape| match shape {
            Shape::Vector(size) => *size,
            Shape::Matrix(rows, columns) => rows * columns,
        };
        ModelFacts {
            architecture: spec.family.clone(),
            parameters: spec.tensors().iter().map(|(_, shape)| size(shape)).sum(),
            context_length: spec.context_length,
            num_layers: spec.layers.len(),
            width: spec.hidden_size,
            vocabulary: spec.vocab_size,
            chat_template,
        }
    }
}

impl Described {
    /// Looks at a path.
    ///
    /// # Errors
    /// If it is none of the kinds, or cannot be read.
    pub(crate) fn read(path: &Path) -> miette::Result<Described> {
        if Vindex::is_at(path) {
            let summary = Summary::read(path).map_err(report)?;
            let vindex = Vindex::open(path).map_err(report)?;
            let has_template = vindex.text().chat_template().map_err(report)?.is_some();
            let slice = vindex.slice().map(|parts| parts.iter().map(SlicePart::name).collect());
            let facts = ModelFacts::of(vindex.spec(), has_template);
            return Ok(Described::Vindex { summary, facts, slice, precision: precision::map(&vindex) });
        }
        if begins_with(path, b"{") {
            return Ok(Described::Patch(PatchFacts::read(path)?));
        }
        Ok(Described::Model(Model::read(path)?))
    }
}

impl Model {
    pub(crate) fn read(path: &Path) -> miette::Result<Model> {
        let checkpoint = Checkpoint::open(path).map_err(report)?;
        let template = checkpoint.text().chat_template().map_err(report)?;
        let size = |file: &PathBuf| file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Model {
            path: path.into(),
            format: match checkpoint.kind() {
                CheckpointKind::Safetensors => "safetensors",
                CheckpointKind::Mlx => "MLX safetensors",
                CheckpointKind::Gguf => "GGUF",
            },
            dtype: checkpoint.dtype().map(|format| format.to_string()),
            bytes: checkpoint.weight_files().iter().map(size).sum(),
            facts: ModelFacts::of(checkpoint.spec(), template.is_some()),
        })
    }
}

impl PatchFacts {
    fn read(path: &Path) -> miette::Result<PatchFacts> {
        let patch = Patch::read(path).map_err(report)?;
        let edges = patch.operations().filter_map(edge_of).collect();
        let operations = patch.operations().len();
        Ok(PatchFacts {
            path: path.into(),
            operations,
            edges,
            bytes: path.metadata().map_or(0, |metadata| metadata.len()),
            model: patch.base_model,
            created_at: patch.created_at,
            description: patch.description,
        })
    }
}

/// The edge that an operation states.
fn edge_of(operation: &Operation) -> Option<String> {
    let (entity, relation, target) = match operation {
        Operation::Insert(of) | Operation::Update(of) => {
            let edge = &of.edited.edge;
            (edge.entity.clone()?, edge.relation.clone()?, edge.target.clone()?)
        }
        Operation::InsertKnn(entry) => {
            let triple = &entry.triple;
            (triple.entity.clone(), triple.relation.clone(), triple.target.clone())
        }
        Operation::Delete { .. } | Operation::DeleteKnn { .. } => return None,
    };
    Some(format!("{entity} [{relation}] → {target}"))
}

/// True if `path` is a file that begins with `bytes`.
pub(crate) fn begins_with(path: &Path, bytes: &[u8]) -> bool {
    let mut begin = vec![0; bytes.len()];
    path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut begin).is_ok())
        && begin == bytes
}

/// The models that lie directly in a folder, in order of name: vindexes, GGUF files and checkpoint directories. What
/// looks like a model and cannot be read is there with its error.
pub(crate) fn in_folder(folder: &Path) -> miette::Result<Vec<(PathBuf, miette::Result<Described>)>> {
    let unreadable = |error: std::io::Error| miette::miette!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    let looks_like_model = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = name.ends_with(".partial") || name.ends_with(".tmp");
        let checkpoint = path.is_dir() && path.join("config.json").is_file();
        !unfinished
            && !is_later_part(&name)
            && (Vindex::is_at(path) || checkpoint || begins_with(path, b"GGUF"))
    };
    let models = paths.into_iter().filter(looks_like_model);
    Ok(models.map(|path| (path.clone(), Described::read(&path))).collect())
}

/// True if a name is that of the second or a later part of a split file, as in `model-00002-of-00012.gguf`.
fn is_later_part(name: &str) -> bool {
    let part = name.strip_suffix(".gguf").and_then(|name| name.rsplit_once("-of-")?.0.rsplit_once('-'));
    part.is_some_and(|(_, number)| number.len() == 5 && number.parse::<u32>().is_ok_and(|number| number > 1))
}

#[cfg(test)]
mod tests {
    use super::is_later_part;

    #[test]
    fn a_split_file_is_listed_once() {
        assert!(is_later_part("gemma-00002-of-00012.gguf"));
        for name in ["gemma-00001-of-00012.gguf", "gemma.gguf", "best-of-5.gguf", "a-2-of-3.gguf"] {
            assert!(!is_later_part(name), "{name}");
        }
    }
}
