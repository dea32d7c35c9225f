//! Opening a checkpoint: which files it consists of, what model it is, and where each of its tensors lies.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use larql_compute::{Format, Matrix};

use crate::config::{Config, shorten};
use crate::family::{Family, HUB_PREFIXES, Layout, Part, Place};
use crate::gguf::GgufFile;
use crate::safetensors::{SafetensorsFile, ShardIndex};
use crate::special_tokens::SpecialTokens;
use crate::tensor::{Encoding, StoredTensor};
use crate::{ModelError, ModelSpec, Role, Shape, WeightSource};

/// What a checkpoint's weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// safetensors as Hugging Face transformers writes them.
    Safetensors,
    /// safetensors as MLX writes them.
    Mlx,
    /// A GGUF file.
    Gguf,
}

/// A model on disk: its spec and its weights, mapped and checked against each other.
///
/// Every tensor that the spec calls for is there with the right shape, and every tensor that is there is
/// either used or known not to matter.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    kind: CheckpointKind,
    spec: ModelSpec,
    weight_files: Vec<PathBuf>,
    tensors: Vec<StoredTensor>,
    places: HashMap<Role, (usize, Place)>,
    special_tokens: SpecialTokens,
    gguf: Option<GgufFile>,
}

/// Files beside the weights that say how text becomes tokens and how the model is meant to be used.
const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
];

impl Checkpoint {
    /// Opens a `.gguf` file, or a directory that holds one or a checkpoint in safetensors. Weights are
    /// mapped, not read.
    ///
    /// # Errors
    /// Whatever is missing, damaged, contradictory or not supported, by file and name.
    pub fn open(path: &Path) -> Result<Checkpoint, ModelError> {
        match Files::find(path)? {
            Files::Gguf(file) => Checkpoint::open_gguf(path, file),
            Files::Safetensors(files) => Checkpoint::open_safetensors(path, files),
        }
    }

    fn open_gguf(path: &Path, file: PathBuf) -> Result<Checkpoint, ModelError> {
        let gguf = GgufFile::open(&file)?;
        let config = gguf.config()?;
        let family = Family::of(&config)?;
        let spec = family.read_spec(&config)?;
        let tensors = gguf.tensors().to_vec();
        let places = Placing { family, spec: &spec, layout: Layout::Gguf, path }.place(&tensors)?;
        Ok(Checkpoint {
            path: path.into(),
            kind: CheckpointKind::Gguf,
            special_tokens: SpecialTokens::of_gguf(&gguf),
            spec,
            weight_files: vec![file],
            tensors,
            places,
            gguf: Some(gguf),
        })
    }

    fn open_safetensors(path: &Path, files: SafetensorsFiles) -> Result<Checkpoint, ModelError> {
        let config = Config::read(&path.join("config.json"))?;
        reject_quantised(&config)?;
        let family = Family::of(&config)?;
        let spec = family.read_spec(&config)?;
        let Weights { tensors, files, by_mlx } = files.open(path)?;
        let (kind, layout) = match by_mlx {
            true => (CheckpointKind::Mlx, Layout::Mlx),
            false => (CheckpointKind::Safetensors, Layout::Hub),
        };
        let places = Placing { family, spec: &spec, layout, path }.place(&tensors)?;
        let special_tokens = SpecialTokens::of_directory(path, &config)?;
        Ok(Checkpoint {
            path: path.into(),
            kind,
            spec,
            weight_files: files,
            tensors,
            places,
            special_tokens,
            gguf: None,
        })
    }

    /// The file or directory that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the weights are stored in.
    pub fn kind(&self) -> CheckpointKind {
        self.kind
    }

    /// The files that hold the weights, in order.
    pub fn weight_files(&self) -> &[PathBuf] {
        &self.weight_files
    }

    /// The float format that most of the weights are in, or none if most are in blocks.
    pub fn dtype(&self) -> Option<Format> {
        let mut values: HashMap<Option<Format>, usize> = HashMap::new();
        for index in self.used() {
            let tensor = &self.tensors[index];
            if let Encoding::Format(format) = tensor.encoding {
                let format = Some(format).filter(|format| format.is_float());
                *values.entry(format).or_default() += tensor.shape.iter().product::<usize>();
            }
        }
        values.into_iter().max_by_key(|(format, count)| (*count, *format)).and_then(|(format, _)| format)
    }

    /// Every tensor of the files, used or not.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// The tensors that the text model does not use: vision towers, masks, copies of the embedding.
    pub fn unused_tensors(&self) -> impl Iterator<Item = &StoredTensor> {
        let used = self.used();
        self.tensors.iter().enumerate().filter(move |(index, _)| !used.contains(index)).map(|(_, t)| t)
    }

    /// Which of the files about text and use there are. A GGUF file carries its own; see
    /// [`Checkpoint::gguf`].
    pub fn tokenizer_files(&self) -> Vec<PathBuf> {
        if self.kind == CheckpointKind::Gguf {
            return Vec::new();
        }
        TOKENIZER_FILES.iter().map(|name| self.path.join(name)).filter(|path| path.is_file()).collect()
    }

    /// The GGUF file, with its metadata, if the checkpoint is one.
    pub fn gguf(&self) -> Option<&GgufFile> {
        self.gguf.as_ref()
    }

    /// The tokens that start and end a text.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special_tokens
    }

    fn used(&self) -> HashSet<usize> {
        self.places.values().map(|(index, _)| *index).collect()
    }

    /// The stored tensor that holds a role, and where in it.
    fn stored(&self, role: Role) -> Result<(&StoredTensor, &Place, Format), ModelError> {
        let (index, place) = self.places.get(&role).ok_or_else(|| ModelError::MissingTensor {
            role,
            name: role.tensor_name(false),
            path: self.path.clone(),
        })?;
        let tensor = &self.tensors[*index];
        match tensor.encoding {
            Encoding::Format(format) => Ok((tensor, place, format)),
            Encoding::Other(name) => Err(unusable(&self.path, tensor, name)),
        }
    }

    fn describe(&self, tensor: &StoredTensor) -> impl Fn(larql_compute::ComputeError) -> ModelError {
        let (path, tensor) = (self.path.clone(), tensor.name.clone());
        move |source| ModelError::Tensor { path: path.clone(), tensor: tensor.clone(), source }
    }
}

impl WeightSource for Checkpoint {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        let (tensor, place, format) = self.stored(role)?;
        let cols = tensor.shape.last().copied().unwrap_or(1);
        let rows = tensor.shape.iter().rev().skip(1).product();
        let matrix = Matrix::new(format, rows, cols, tensor.bytes.clone()).map_err(self.describe(tensor))?;
        match (&place.part, place.transposed) {
            (Part::Whole, false) => Ok(matrix),
            (Part::Outputs { range, .. }, false) => Ok(matrix.slice_rows(range.clone())),
            (Part::Whole, true) => transpose(&matrix, 0..cols).map_err(self.describe(tensor)),
            (Part::Outputs { range, .. }, true) => {
                transpose(&matrix, range.clone()).map_err(self.describe(tensor))
            }
        }
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        let (tensor, place, format) = self.stored(role)?;
        let len = tensor.shape.iter().product();
        let mut values =
            Matrix::new(format, 1, len, tensor.bytes.clone()).map_err(self.describe(tensor))?.view().to_f32();
        if let Part::Outputs { range, .. } = &place.part {
            values.truncate(range.end);
            values.drain(..range.start);
        }
        Ok(values)
    }
}

/// The columns of `range` as rows, of a matrix of floats.
fn transpose(matrix: &Matrix, range: std::ops::Range<usize>) -> Result<Matrix, larql_compute::ComputeError> {
    let (format, view) = (matrix.format(), matrix.view());
    let width = format.block_bytes();
    let mut bytes = Vec::with_capacity(range.len() * view.rows() * width);
    for col in range.clone() {
        for row in 0..view.rows() {
            bytes.extend_from_slice(&view.row(row)[col * width..][..width]);
        }
    }
    Matrix::new(format, range.len(), view.rows(), bytes.into())
}

/// Finds each role's tensor among those of a checkpoint.
struct Placing<'a> {
    family: &'static Family,
    spec: &'a ModelSpec,
    layout: Layout,
    path: &'a Path,
}

impl Placing<'_> {
    /// Where each role lies: index of the tensor, and the place in it.
    fn place(&self, tensors: &[StoredTensor]) -> Result<HashMap<Role, (usize, Place)>, ModelError> {
        let by_name: HashMap<&str, usize> =
            tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
        let (body, head) = self.prefixes(&by_name);

        let mut places = HashMap::new();
        let mut used = HashSet::new();
        for (role, shape) in self.spec.tensors() {
            let mut place = (self.family.place)(self.spec, role, self.layout);
            let prefix = if matches!(role, Role::Head | Role::HeadBias) { head } else { body };
            place.name.insert_str(0, prefix);
            let Some(index) = by_name.get(place.name.as_str()).copied() else {
                return Err(ModelError::MissingTensor { role, name: place.name, path: self.path.into() });
            };
            self.check(role, shape, &place, &tensors[index])?;
            used.insert(index);
            places.insert(role, (index, place));
        }

        let head_copy = (self.family.place)(self.spec, Role::Head, self.layout).name;
        let is_head_copy = |name: &str| self.spec.tied_head && name.strip_prefix(head) == Some(&head_copy);
        let unknown: Vec<&str> = (tensors.iter().enumerate())
            .filter(|(index, _)| !used.contains(index))
            .map(|(_, tensor)| tensor.name.as_str())
            .filter(|name| !is_head_copy(name) && !self.family.ignores(name))
            .collect();
        self.reject_unknown(&unknown)?;
        Ok(places)
    }

    /// What stands before the names of the decoder's tensors, and before the head's.
    fn prefixes(&self, by_name: &HashMap<&str, usize>) -> (&'static str, &'static str) {
        if self.layout == Layout::Gguf {
            return ("", "");
        }
        let embedding = (self.family.place)(self.spec, Role::Embedding, self.layout).name;
        let holds = |body: &str| by_name.contains_key(format!("{body}{embedding}").as_str());
        HUB_PREFIXES.iter().copied().find(|(body, _)| holds(body)).unwrap_or(HUB_PREFIXES[0])
    }

    fn check(&self, role: Role, shape: Shape, place: &Place, found: &StoredTensor) -> Result<(), ModelError> {
        let of = |outputs: usize| match place.part {
            Part::Whole => outputs,
            Part::Outputs { of, .. } => of,
        };
        let expected = match shape {
            Shape::Vector(len) => vec![of(len)],
            Shape::Matrix(outputs, inputs) if place.transposed => vec![inputs, of(outputs)],
            Shape::Matrix(outputs, inputs) => vec![of(outputs), inputs],
        };
        if found.shape != expected {
            return Err(ModelError::WrongShape {
                role,
                name: place.name.clone(),
                expected,
                found: found.shape.clone(),
                path: self.path.into(),
            });
        }
        match found.encoding {
            Encoding::Format(format) if format.is_float() || !place.transposed => Ok(()),
            Encoding::Format(format) => Err(unusable(self.path, found, format.name())),
            Encoding::Other(name) => Err(unusable(self.path, found, name)),
        }
    }

    fn reject_unknown(&self, unknown: &[&str]) -> Result<(), ModelError> {
        const SHOWN: usize = 4;
        if unknown.is_empty() {
            return Ok(());
        }
        let mut examples: Vec<String> = unknown.iter().take(SHOWN).map(|name| shorten(name)).collect();
        if unknown.len() > SHOWN {
            examples.push("...".into());
        }
        Err(ModelError::UnknownTensors {
            path: self.path.into(),
            family: self.family.name.into(),
            count: unknown.len(),
            examples: examples.join(", "),
        })
    }
}

fn unusable(path: &Path, tensor: &StoredTensor, encoding: &str) -> ModelError {
    ModelError::unsupported(
        path,
        format!("`{}` stored as {encoding}", shorten(&tensor.name)),
        "use a checkpoint in F32, F16 or BF16, or a GGUF file",
    )
}

/// Checkpoints whose weights are quantised outside GGUF say so in their configuration.
fn reject_quantised(config: &Config) -> Result<(), ModelError> {
    let advice = "use the unquantised checkpoint, or a GGUF file";
    if let Some(quantisation) = config.section("quantization")? {
        let bits = quantisation.optional_size("bits")?;
        let bits = bits.map_or_else(|| "few".into(), |bits| bits.to_string());
        let feature = format!("a model that MLX quantised to {bits} bits");
        return Err(ModelError::unsupported(config.path(), feature, advice));
    }
    if let Some(quantisation) = config.section("quantization_config")? {
        let method = quantisation.optional_text("quant_method")?.unwrap_or("an unnamed method");
        let feature = format!("a model quantised by {}", shorten(method));
        return Err(ModelError::unsupported(config.path(), feature, advice));
    }
    Ok(())
}

/// Which files make up a checkpoint.
enum Files {
    Gguf(PathBuf),
    Safetensors(SafetensorsFiles),
}

enum SafetensorsFiles {
    /// Shards listed in an index.
    Indexed(PathBuf),
    /// One file, or several without an index, as older versions of MLX wrote them.
    Listed(Vec<PathBuf>),
}

/// Tensors of all files of a checkpoint in safetensors.
struct Weights {
    tensors: Vec<StoredTensor>,
    files: Vec<PathBuf>,
    by_mlx: bool,
}

impl Files {
    fn find(path: &Path) -> Result<Files, ModelError> {
        let not_a_checkpoint =
            |problem: &str| ModelError::NotACheckpoint { path: path.into(), problem: problem.into() };
        let io = |source| ModelError::Io { path: path.into(), source };
        if std::fs::metadata(path).map_err(io)?.is_file() {
            return match extension(path) {
                "gguf" => Ok(Files::Gguf(path.into())),
                _ => Err(not_a_checkpoint("it is another kind of file")),
            };
        }
        let index = path.join("model.safetensors.index.json");
        if index.is_file() {
            return Ok(Files::Safetensors(SafetensorsFiles::Indexed(index)));
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            files.push(entry.map_err(io)?.path());
        }
        files.sort();
        let ending = |ending: &str| files.iter().filter(|file| extension(file) == ending).collect::<Vec<_>>();
        let weights: Vec<PathBuf> = ending("safetensors")
            .into_iter()
            .filter(|file| {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("model") || name.starts_with("weights")
            })
            .cloned()
            .collect();
        if !weights.is_empty() {
            return Ok(Files::Safetensors(SafetensorsFiles::Listed(weights)));
        }
        match ending("gguf").as_slice() {
            [file] => Ok(Files::Gguf(file.to_path_buf())),
            [] if ending("bin").is_empty() && ending("pth").is_empty() => {
                Err(not_a_checkpoint("it holds no weights"))
            }
            [] => Err(not_a_checkpoint("its weights are PyTorch pickles, which are not read")),
            many => Err(not_a_checkpoint(&format!("it holds {} GGUF files; name one", many.len()))),
        }
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

impl SafetensorsFiles {
    fn open(self, directory: &Path) -> Result<Weights, ModelError> {
        let mut weights = Weights { tensors: Vec::new(), files: Vec::new(), by_mlx: false };
        match self {
            SafetensorsFiles::Listed(files) => {
                for path in files {
                    weights.add(path, |_| Ok(()))?;
                }
            }
            SafetensorsFiles::Indexed(index) => {
                let index = ShardIndex::read(&index)?;
                for shard in index.shards() {
                    weights.add(directory.join(shard), |tensors| index.check_shard(shard, tensors))?;
                }
            }
        }
        let mut names = HashSet::new();
        match weights.tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
            Some(twice) => Err(ModelError::malformed(
                directory,
                format!("tensor `{}`", shorten(&twice.name)),
                "one of that name",
                "two, in different files",
            )),
            None => Ok(weights),
        }
    }
}

impl Weights {
    fn add(
        &mut self,
        path: PathBuf,
        check: impl Fn(&[StoredTensor]) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let file = SafetensorsFile::open(&path)?;
        check(file.tensors())?;
        let old_mlx_name =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"weights"));
        self.by_mlx |= old_mlx_name || file.metadata().get("format").is_some_and(|format| format == "mlx");
        self.tensors.extend(file.into_tensors());
        self.files.push(path);
        Ok(())
    }
}
