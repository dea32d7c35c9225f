//! Opening a checkpoint: its files, its specification, and the location of each tensor.

mod adapter;
mod affine;
mod files;
mod other_files;
pub(crate) mod packed;
mod placing;
mod quantised;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larql_compute::{ComputeError, Format, MatRef, Matrix};
use serde::{Deserialize, Serialize};

use crate::config::{Config, shorten};
use crate::export::{SourceTensor, SourceTensors};
use crate::family::{Family, Layout, Part, Stacked};
use crate::gguf::GgufFile;
use crate::tensor::{Encoding, StoredTensor};
use crate::{ModelError, ModelSpec, Role, TextFiles, WeightSource};

use adapter::Adapter;
use affine::Packing;
use files::{SafetensorsFiles, WeightFiles};
pub(crate) use other_files::{placeholder, refuse_placeholder};
use placing::{Companion, PlacedTensor, TensorPlacement};
use quantised::{Quantised, Scheme};

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
    scheme: Option<Scheme>,
    adapter: Option<Adapter>,
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
        let placing = TensorPlacement {
            family,
            spec: &spec,
            layout: Layout::Gguf,
            path: gguf.path(),
            scheme: None,
            files: (gguf.files(), gguf.file_of()),
        };
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
            scheme: None,
            adapter: None,
            gguf: Some(gguf),
        })
    }

    /// The same model with an adapter merged into its weights, as PEFT's `merge_and_unload` merges it: LoRA, with
    /// rank-stabilised scales or weights that are decomposed (DoRA) too. `directory` is that of the adapter.
    ///
    /// Matrices that it changes are in the float format that they had, or in the nearest blocks of 8 bits if they were in
    /// blocks.
    ///
    /// # Errors
    /// If there is no adapter, it is of another kind or another model, or this one is a GGUF file; by file and tensor.
    pub fn with_adapter(mut self, directory: &Path) -> Result<Checkpoint, ModelError> {
        if self.kind == CheckpointKind::Gguf {
            let advice = "give the checkpoint in safetensors that the adapter was made for";
            return Err(ModelError::unsupported(&self.path, "an adapter of a GGUF file", advice));
        }
        let adapter = Adapter::read(directory)?;
        let tensors = self.spec.tensors().into_iter();
        let placed = tensors.filter_map(|(role, shape)| Some((shape, self.placed.get(&role)?)));
        adapter.check(placed, &self.path)?;
        self.weight_files.push(adapter.file.clone());
        self.adapter = Some(adapter);
        Ok(self)
    }

    /// Name of the adapter that is merged, that of its directory.
    pub fn adapter(&self) -> Option<&str> {
        self.adapter.as_ref().map(|adapter| adapter.name.as_str())
    }

    /// The adapter, if it changes a tensor.
    fn adapter_of(&self, placed: &PlacedTensor) -> Option<&Adapter> {
        self.adapter.as_ref().filter(|adapter| adapter.changes(&placed.place.name))
    }

    /// The values of some rows of a matrix after an adapter.
    fn merged(
        &self,
        adapter: &Adapter,
        placed: &PlacedTensor,
        rows: Range<usize>,
    ) -> Result<Vec<f32>, ModelError> {
        let near = self.held(placed)?;
        let mut values = match self.defined(placed, rows.clone())? {
            Some(values) => values,
            None => near.view().slice_rows(rows.clone()).to_f32(),
        };
        let all = placed.place.outputs(placed.place.stored_outputs(near.rows()));
        adapter.merge(&placed.place.name, all.skip(rows.start), near.cols(), &mut values);
        Ok(values)
    }

    fn from_safetensors(directory: &Path, files: SafetensorsFiles) -> Result<Checkpoint, ModelError> {
        let config = Config::read(&directory.join("config.json"))?;
        let scheme = scheme(&config, directory)?;
        let family = Family::of(&config)?;
        let mut spec = family.read_spec(&config)?;
        let weights = files.open(directory)?;
        let (kind, layout) = match weights.by_mlx {
            true => (CheckpointKind::Mlx, Layout::Mlx),
            false => (CheckpointKind::Safetensors, Layout::Hub),
        };
        let said_tied = spec.tied_head;
        let files = (&weights.files[..], &weights.file_of[..]);
        let scheme_read = scheme.as_ref();
        let placing =
            TensorPlacement { family, spec: &spec, layout, path: directory, scheme: scheme_read, files };
        // A head that is there is looked at before it is taken for a copy of the embedding.
        if said_tied && placing.holds_head(&weights.tensors) {
            spec.tied_head = false;
        }
        let placing =
            TensorPlacement { family, spec: &spec, layout, path: directory, scheme: scheme_read, files };
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
            scheme,
            adapter: None,
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
        let (shape, bytes) = one_of(placed.place.stacked, tensor);
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
            let (shape, bytes) = one_of(placed.place.stacked, &self.tensors[index]);
            Matrix::new(packing.factors, shape[0], shape[1], bytes).map_err(describe)
        };
        let (scales, minima) = (floats(factors[0])?, floats(factors[1])?);
        let outputs = placed.place.outputs(scales.rows());
        let (_, codes) = one_of(placed.place.stacked, &self.tensors[placed.tensor]);
        affine::Affine { codes: &codes, scales, minima }.rows(packing, outputs).map_err(describe)
    }

    /// Library that quantised the weights, as configurations name it; none of weights in formats that can be computed with.
    pub fn quantisation(&self) -> Option<&'static str> {
        self.scheme.as_ref().map(Scheme::name)
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
        let held = self.held(placed)?;
        let Some(adapter) = self.adapter_of(placed) else { return Ok(held) };
        let format = match held.format() {
            format if format.is_float() => format,
            _ if held.cols().is_multiple_of(Format::Q8_0.block_len()) => Format::Q8_0,
            _ => Format::BF16,
        };
        let mut bytes = Vec::new();
        format
            .encode(&self.merged(adapter, placed, 0..held.rows())?, &mut bytes)
            .and_then(|()| Matrix::new(format, held.rows(), held.cols(), bytes.into()))
            .map_err(|source| self.describe(placed, source))
    }

    fn defined_rows(&self, role: Role, rows: Range<usize>) -> Result<Option<Vec<f32>>, ModelError> {
        let placed = self.placed(role)?;
        match self.adapter_of(placed) {
            // A float is the value itself, rounded as the adapter's library rounds it.
            Some(_) if placed.format.is_float() => Ok(None),
            Some(adapter) => self.merged(adapter, placed, rows).map(Some),
            None => self.defined(placed, rows),
        }
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        let placed = self.placed(role)?;
        let mut values = self.stored(placed)?.view().to_f32();
        if let Some(adapter) = self.adapter_of(placed) {
            let count = values.len();
            adapter.merge(&placed.place.name, 0..1, count, &mut values);
        }
        Ok(match placed.place.part {
            Part::Whole => values,
            _ => placed.place.outputs(values.len()).map(|index| values[index]).collect(),
        })
    }
}

impl Checkpoint {
    /// The matrix of a role as the checkpoint holds it, without an adapter.
    fn held(&self, placed: &PlacedTensor) -> Result<Matrix, ModelError> {
        match &placed.apart {
            Companion::Nothing => {}
            Companion::Scales(scales) => return self.unpacked(placed, *scales),
            Companion::Groups { scales, minima, packing } => {
                return self.ungrouped(placed, [*scales, *minima], *packing);
            }
            Companion::LatentValues(values) => return self.joined(placed, *values),
            Companion::Quantised(quantised) => {
                return quantised.rows(placed.place.outputs(quantised.outputs()));
            }
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

    /// As [`WeightSource::defined_rows`], without an adapter.
    fn defined(&self, placed: &PlacedTensor, rows: Range<usize>) -> Result<Option<Vec<f32>>, ModelError> {
        let Companion::Quantised(quantised) = &placed.apart else { return Ok(None) };
        let outputs = placed.place.outputs(quantised.outputs()).skip(rows.start).take(rows.len());
        values(quantised, outputs).map(Some)
    }
}

/// Shape and bytes of a tensor, or of the one that is meant where it holds several.
fn one_of(stacked: Option<Stacked>, tensor: &StoredTensor) -> (&[usize], Bytes) {
    match (stacked, tensor.shape.as_slice()) {
        (Some(stacked), [of, rest @ ..]) => {
            let one = tensor.bytes.len() / of.max(&1);
            (rest, tensor.bytes.slice(stacked.index * one..(stacked.index + 1) * one))
        }
        (_, shape) => (shape, tensor.bytes.clone()),
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

/// The values of some outputs, one after the other.
fn values(
    quantised: &Quantised,
    outputs: impl ExactSizeIterator<Item = usize>,
) -> Result<Vec<f32>, ModelError> {
    let mut values = vec![0.0; outputs.len() * quantised.inputs()];
    for (output, values) in outputs.zip(values.chunks_exact_mut(quantised.inputs().max(1))) {
        quantised.values(output, values)?;
    }
    Ok(values)
}

/// The way in which a library quantised a checkpoint, as its configuration says, or a file of GPTQ's first tools beside
/// it. MLX's way shows in the tensors.
fn scheme(config: &Config, directory: &Path) -> Result<Option<Scheme>, ModelError> {
    if let Some(quantisation) = config.section("quantization")? {
        return match quantisation.optional_text("mode")? {
            // How many bits and how large groups are shows in each tensor, which may differ.
            None | Some("affine") => Ok(None),
            Some(mode) => {
                let feature = format!("a model that MLX quantised by {}", shorten(mode));
                let advice = "use the unquantised checkpoint, or a GGUF file";
                Err(ModelError::unsupported(config.path(), feature, advice))
            }
        };
    }
    let of_gptq = directory.join("quantize_config.json");
    match Scheme::of(config)? {
        None if of_gptq.is_file() && !config.gives("quantization_config") => {
            Scheme::of_gptq_file(&Config::read(&of_gptq)?).map(Some)
        }
        scheme => Ok(scheme),
    }
}
