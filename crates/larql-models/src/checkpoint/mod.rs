//! Opening a checkpoint: its files, its specification, and the location of each tensor.

mod affine;
mod files;
mod other_files;
pub(crate) mod packed;
mod placing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use larql_compute::{ComputeError, Format, MatRef, Matrix};
use serde::{Deserialize, Serialize};

use crate::config::{Config, shorten};
use crate::export::{SourceTensor, SourceTensors};
use crate::family::{Family, Layout, Part};
use crate::gguf::GgufFile;
use crate::tensor::{Encoding, StoredTensor};
use crate::{ModelError, ModelSpec, Role, TextFiles, WeightSource};

use affine::Packing;
use files::{SafetensorsFiles, WeightFiles};
pub(crate) use other_files::{placeholder, refuse_placeholder};
use placing::{Companion, PlacedTensor, TensorPlacement};

/// Container of a checkpoint's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
/// Every tensor that the spec requires exists with the right shape, and every tensor in the files is
/// either used or known to be unnecessary.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    kind: CheckpointKind,
    spec: ModelSpec,
    weight_files: Vec<PathBuf>,
    tensors: Vec<StoredTensor>,
    /// For each tensor the index of its weight file.
    file_of: Vec<usize>,
    placed: HashMap<Role, PlacedTensor>,
    gguf: Option<GgufFile>,
    text: TextFiles,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Opens a GGUF file (of several that make one model, any), or a directory with a checkpoint in safetensors or the
    /// GGUF files of one model. Weights are mapped, not read.
    ///
    /// # Errors
    /// Whatever is missing, damaged, contradictory or not supported, by file and name.
    pub fn open(path: &Path) -> Result<Checkpoint, ModelError> {
        let path = files::resolve(path)?;
        match WeightFiles::find(&path)? {
            WeightFiles::Safetensors(files) => Checkpoint::from_safetensors(&path, files),
            WeightFiles::Gguf(file) => {
                let checkpoint = Checkpoint::from_gguf(GgufFile::open(&file)?)?;
                Ok(Checkpoint { path, ..checkpoint })
            }
        }
    }

    /// The checkpoint that a GGUF file holds.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_gguf(gguf: GgufFile) -> Result<Checkpoint, ModelError> {
        gguf.require_whole()?;
        let config = gguf.config()?;
        let family = Family::of(&config)?;
        let spec = family.read_spec(&config)?;
        let placing = TensorPlacement { family, spec: &spec, layout: Layout::Gguf, path: gguf.path() };
        Ok(Checkpoint {
            placed: placing.place(gguf.tensors())?,
            path: gguf.path().into(),
            kind: CheckpointKind::Gguf,
            spec,
            weight_files: gguf.files().to_vec(),
            tensors: gguf.tensors().to_vec(),
            file_of: gguf.file_of().to_vec(),
            text: TextFiles::in_gguf(gguf.clone()),
            notes: gguf.notes(),
            gguf: Some(gguf),
        })
    }

    fn from_safetensors(directory: &Path, files: SafetensorsFiles) -> Result<Checkpoint, ModelError> {
        let config = Config::read(&directory.join("config.json"))?;
        reject_quantised(&config)?;
        let family = Family::of(&config)?;
        let mut spec = family.read_spec(&config)?;
        let weights = files.open(directory)?;
        let (kind, layout) = match weights.by_mlx {
            true => (CheckpointKind::Mlx, Layout::Mlx),
            false => (CheckpointKind::Safetensors, Layout::Hub),
        };
        let said_tied = spec.tied_head;
        let placing = TensorPlacement { family, spec: &spec, layout, path: directory };
        // A head that is there is looked at before it is taken for a copy of the embedding.
        if said_tied && placing.holds_head(&weights.tensors) {
            spec.tied_head = false;
        }
        let placing = TensorPlacement { family, spec: &spec, layout, path: directory };
        let placed = placing.place(&weights.tensors).map_err(|error| weights.explain(error))?;
        let mut notes = Vec::new();
        if let Some(shard) = &weights.missing {
            let shard = shard.file_name().unwrap_or_default().to_string_lossy();
            notes.push(format!(
                "the index in {} names {shard}, which is not there; the files that are there hold the whole model",
                directory.display()
            ));
        }
        let mut checkpoint = Checkpoint {
            placed,
            path: directory.into(),
            kind,
            spec,
            weight_files: weights.files,
            tensors: weights.tensors,
            file_of: weights.file_of,
            gguf: None,
            text: TextFiles::in_directory(directory),
            notes,
        };
        if said_tied && !checkpoint.spec.tied_head {
            checkpoint.judge_head()?;
        }
        Ok(checkpoint)
    }

    /// Decides on a head that is stored although the configuration says that it is the embedding: a copy is left
    /// out, another one counts.
    fn judge_head(&mut self) -> Result<(), ModelError> {
        if have_same_values(&self.matrix(Role::Head)?, &self.matrix(Role::Embedding)?) {
            self.spec.tied_head = true;
            self.placed.remove(&Role::Head);
        } else {
            self.notes.push(format!(
                "{} stores an output head that differs from the embedding, although `tie_word_embeddings` is true; \
                 the stored head is used",
                self.path.display()
            ));
        }
        Ok(())
    }

    /// Notes on irregularities in the files and how they were read, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The file or directory that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container of the weights.
    pub fn kind(&self) -> CheckpointKind {
        self.kind
    }

    /// The files that hold the weights, in order.
    pub fn weight_files(&self) -> &[PathBuf] {
        &self.weight_files
    }

    /// The float format that most of the model's weights are in, or `None` if most are in blocks.
    pub fn dtype(&self) -> Option<Format> {
        let mut values: BTreeMap<Option<Format>, usize> = BTreeMap::new();
        let formats: HashMap<usize, Format> =
            self.placed.values().map(|placed| (placed.tensor, placed.format)).collect();
        for (index, format) in formats {
            let key = Some(format).filter(|format| format.is_float());
            *values.entry(key).or_default() +=
                self.tensors[index].bytes.len() / format.block_bytes() * format.block_len();
        }
        values.into_iter().max_by_key(|(_, count)| *count).and_then(|(format, _)| format)
    }

    /// Every tensor of the files, used or not.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// The tensors that the text model does not use: vision towers, masks, copies of the embedding.
    pub fn unused_tensors(&self) -> impl Iterator<Item = &StoredTensor> {
        let used = self.used();
        let tensors = self.tensors.iter().enumerate();
        tensors.filter(move |(index, _)| !used.contains(index)).map(|(_, tensor)| tensor)
    }

    /// Formats of the stored tensors.
    pub fn source_tensors(&self) -> SourceTensors {
        let entry = |(tensor, file): (&StoredTensor, &usize)| SourceTensor {
            name: tensor.name.clone(),
            encoding: tensor.encoding.to_string(),
            file: self.weight_files[*file].file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let tensors = self.tensors.iter().zip(&self.file_of).map(entry);
        SourceTensors { kind: self.kind, tensors: tensors.collect() }
    }

    /// The files about text and use that there are in the directory that was opened: path from there, and path. A
    /// GGUF file carries what they say itself; see [`Checkpoint::gguf`].
    ///
    /// # Errors
    /// If a folder of them cannot be read.
    pub fn side_files(&self) -> Result<Vec<(String, PathBuf)>, ModelError> {
        crate::text::side_files(&self.path)
    }

    /// The tokenizer and the chat template.
    pub fn text(&self) -> &TextFiles {
        &self.text
    }

    /// The GGUF file, with its metadata, if the checkpoint is one.
    pub fn gguf(&self) -> Option<&GgufFile> {
        self.gguf.as_ref()
    }

    /// Indices of the tensors that play a role.
    fn used(&self) -> HashSet<usize> {
        self.placed.values().flat_map(PlacedTensor::tensors).collect()
    }

    fn placed(&self, role: Role) -> Result<&PlacedTensor, ModelError> {
        self.placed.get(&role).ok_or_else(|| ModelError::MissingTensor {
            role,
            name: role.tensor_name(false),
            path: self.path.clone(),
        })
    }

    /// The stored matrix that holds a role, as it lies in the file; of stacked ones the one that is meant. Vectors
    /// are matrices of one row.
    fn stored(&self, placed: &PlacedTensor) -> Result<Matrix, ModelError> {
        let tensor = &self.tensors[placed.tensor];
        let describe = |source| self.describe(placed, source);
        let (mut shape, mut bytes) = (tensor.shape.as_slice(), tensor.bytes.clone());
        if let (Some(stacked), [of, rest @ ..]) = (placed.place.stacked, shape) {
            let one = bytes.len() / of.max(&1);
            (shape, bytes) = (rest, bytes.slice(stacked.index * one..(stacked.index + 1) * one));
        }
        let cols = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().rev().skip(1).product();
        Matrix::new(placed.format, rows, cols, bytes).map_err(describe)
    }

    /// The rows of a matrix whose blocks and scales are stored apart.
    fn unpacked(&self, placed: &PlacedTensor, scales: usize) -> Result<Matrix, ModelError> {
        let (blocks, scales) = (&self.tensors[placed.tensor], &self.tensors[scales]);
        let stacked = placed.place.stacked;
        let of = stacked.map_or(1, |stacked| stacked.of).max(1);
        let groups = scales.shape.last().copied().unwrap_or(0).max(1);
        let rows = scales.bytes.len() / of / groups;
        let first = stacked.map_or(0, |stacked| stacked.index) * rows;
        let outputs = placed.place.outputs(rows);
        let count = outputs.len();
        let packed = packed::Packed { blocks: &blocks.bytes, scales: &scales.bytes, groups };
        let bytes = packed.rows(outputs.map(|row| first + row));
        Matrix::new(Format::MXFP4, count, groups * Format::MXFP4.block_len(), bytes.into())
            .map_err(|source| self.describe(placed, source))
    }

    /// The rows of a matrix in MLX's groups.
    fn ungrouped(
        &self,
        placed: &PlacedTensor,
        factors: [usize; 2],
        packing: Packing,
    ) -> Result<Matrix, ModelError> {
        let describe = |source| self.describe(placed, source);
        let floats = |index: usize| {
            let StoredTensor { shape, bytes, .. } = &self.tensors[index];
            Matrix::new(packing.factors, shape[0], shape[1], bytes.clone()).map_err(describe)
        };
        let (scales, minima) = (floats(factors[0])?, floats(factors[1])?);
        let outputs = placed.place.outputs(scales.rows());
        let codes = &self.tensors[placed.tensor].bytes;
        affine::Affine { codes, scales, minima }.rows(packing, outputs).map_err(describe)
    }

    /// For each head the rows of its keys, which are stored turned, and those of its values. They are decoded, since
    /// blocks cannot be turned.
    fn joined(&self, placed: &PlacedTensor, values: usize) -> Result<Matrix, ModelError> {
        let (keys, values) = (&self.tensors[placed.tensor], &self.tensors[values]);
        let decoded = |tensor: &StoredTensor| -> Result<Vec<f32>, ModelError> {
            let Encoding::Format(format) = tensor.encoding else { return Ok(Vec::new()) };
            let cols = tensor.shape.last().copied().unwrap_or(1);
            let rows = tensor.shape.iter().rev().skip(1).product();
            let matrix = MatRef::new(format, rows, cols, &tensor.bytes);
            Ok(matrix.map_err(|source| self.describe(placed, source))?.to_f32())
        };
        let [heads, rank, own] = keys.shape[..] else { unreachable!("its shape was checked") };
        let [_, value, _] = values.shape[..] else { unreachable!("its shape was checked") };
        let mut rows = Vec::with_capacity(heads * (own + value) * rank);
        let (key_values, value_values) = (decoded(keys)?, decoded(values)?);
        for (keys, values) in key_values.chunks_exact(rank * own).zip(value_values.chunks_exact(value * rank))
        {
            rows.extend((0..own).flat_map(|output| (0..rank).map(move |input| keys[input * own + output])));
            rows.extend_from_slice(values);
        }
        Matrix::from_f32(heads * (own + value), rank, &rows).map_err(|source| self.describe(placed, source))
    }

    fn describe(&self, placed: &PlacedTensor, source: ComputeError) -> ModelError {
        let tensor = self.tensors[placed.tensor].name.clone();
        ModelError::Tensor { path: self.path.clone(), tensor, source }
    }
}

impl WeightSource for Checkpoint {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        let placed = self.placed(role)?;
        match placed.apart {
            Companion::Nothing => {}
            Companion::Scales(scales) => return self.unpacked(placed, scales),
            Companion::Groups { scales, minima, packing } => {
                return self.ungrouped(placed, [scales, minima], packing);
            }
            Companion::LatentValues(values) => return self.joined(placed, values),
        }
        let matrix = self.stored(placed)?;
        let gathered = match (placed.place.transposed, &placed.place.part) {
            (false, Part::Whole) => return Ok(matrix),
            (false, Part::Outputs { range, .. }) => return Ok(matrix.slice_rows(range.clone())),
            (false, Part::Interleaved { .. }) => rows(&matrix, placed.place.outputs(matrix.rows())),
            (true, _) => columns(&matrix, placed.place.outputs(matrix.cols())),
        };
        gathered.map_err(|source| self.describe(placed, source))
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        let placed = self.placed(role)?;
        let values = self.stored(placed)?.view().to_f32();
        Ok(match placed.place.part {
            Part::Whole => values,
            _ => placed.place.outputs(values.len()).map(|index| values[index]).collect(),
        })
    }
}

/// Returns true if two matrices hold the same values, in whatever formats.
fn have_same_values(a: &Matrix, b: &Matrix) -> bool {
    if (a.rows(), a.cols()) != (b.rows(), b.cols()) {
        return false;
    }
    if a.format() == b.format() {
        return a.bytes() == b.bytes();
    }
    let (mut left, mut right) = (vec![0.0; a.cols()], vec![0.0; a.cols()]);
    (0..a.rows()).all(|row| {
        a.view().decode_row(row, &mut left);
        b.view().decode_row(row, &mut right);
        left == right
    })
}

/// Some rows of a matrix.
fn rows(matrix: &Matrix, rows: impl ExactSizeIterator<Item = usize>) -> Result<Matrix, ComputeError> {
    let (count, view) = (rows.len(), matrix.view());
    let mut bytes = Vec::with_capacity(count * view.row_bytes());
    rows.for_each(|row| bytes.extend_from_slice(view.row(row)));
    Matrix::new(matrix.format(), count, matrix.cols(), bytes.into())
}

/// Some columns, as rows, of a matrix of floats.
fn columns(matrix: &Matrix, columns: impl ExactSizeIterator<Item = usize>) -> Result<Matrix, ComputeError> {
    let (format, view, count) = (matrix.format(), matrix.view(), columns.len());
    let width = format.block_bytes();
    let mut bytes = Vec::with_capacity(count * view.rows() * width);
    for col in columns {
        for row in 0..view.rows() {
            bytes.extend_from_slice(&view.row(row)[col * width..][..width]);
        }
    }
    Matrix::new(format, count, view.rows(), bytes.into())
}

/// Checkpoints whose weights are quantised outside GGUF say so in their configuration.
fn reject_quantised(config: &Config) -> Result<(), ModelError> {
    let advice = "use the unquantised checkpoint, or a GGUF file";
    if let Some(quantisation) = config.section("quantization")? {
        return match quantisation.optional_text("mode")? {
            // How many bits and how large groups are shows in each tensor, which may differ.
            None | Some("affine") => Ok(()),
            Some(mode) => {
                let feature = format!("a model that MLX quantised by {}", shorten(mode));
                Err(ModelError::unsupported(config.path(), feature, advice))
            }
        };
    }
    if let Some(quantisation) = config.section("quantization_config")? {
        let method = quantisation.optional_text("quant_method")?.unwrap_or("an unnamed method");
        if method == "mxfp4" {
            return Ok(());
        }
        let feature = format!("a model quantised by {}", shorten(method));
        return Err(ModelError::unsupported(config.path(), feature, advice));
    }
    Ok(())
}
