//! Matrices by role, from file names, offsets and shapes: the only module that knows the layouts of all writers, old and
//! new.

use std::collections::HashMap;

use larql_compute::{Format, Matrix};
use larql_models::{LayerRole, ModelSpec, Role, Shape};
use larql_vindex_spec::{FloatType, LayerSlot, Manifest, TensorEntry, parse_tensors};

use crate::component::{Component, LAYER_FILE_ENDING, TENSOR_MANIFEST_FILE};
use crate::files::Files;
use crate::gate_rows::GateRows;
use crate::layer_file;
use crate::{Damage, VindexError};

/// Ending of the list of tensors beside a quantised file.
const BLOCK_MANIFEST_ENDING: &str = "_manifest.json";
/// Files of tensors whose entries name none, in version 1 of the container.
const VERSION_1_WEIGHTS: &str = "model_weights.bin";

/// The weights that a vindex holds. Vectors are matrices of one row.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// Tensors that the forward pass uses.
    pub(crate) weights: HashMap<Role, Matrix>,
    /// Gate rows to search, by layer: those of `gate_vectors.bin` where it is there, which is more exact than
    /// blocks.
    pub(crate) gates: Vec<GateRows>,
}

impl Catalogue {
    /// Finds every tensor of `spec` in the existing files, and validates offsets, lengths and shapes.
    pub(crate) fn read(
        files: &mut Files,
        manifest: &Manifest,
        spec: &ModelSpec,
    ) -> Result<Catalogue, VindexError> {
        let entries = named_tensors(files)?;
        let float = float_format(manifest.float_type());
        let mut weights = HashMap::new();
        for (role, shape) in spec.tensors() {
            if let Some(entry) = entries.get(&spec.tensor_name(role))
                && let Some(matrix) = named_matrix(files, entry, shape, float)?
            {
                weights.insert(role, matrix);
            }
        }
        for layer in 0..spec.layers.len() {
            read_layer_file(files, spec, layer, &mut weights)?;
        }
        let mut gates = vec![GateRows::default(); manifest.num_layers];
        for slot in &manifest.layers {
            let pieces = gate_pieces(spec, slot.layer);
            if let Some(matrix) = gate_vectors(files, slot, manifest.hidden_size, float)? {
                let mut first = 0;
                for (role, rows) in pieces {
                    weights.entry(role).or_insert_with(|| matrix.slice_rows(first..first + rows));
                    first += rows;
                }
                gates[slot.layer] = GateRows::new(vec![matrix]);
            } else if let Some(pieces) = pieces.iter().map(|(role, _)| weights.get(role).cloned()).collect() {
                gates[slot.layer] = GateRows::new(pieces);
            }
        }
        if !weights.contains_key(&Role::Embedding)
            && let Some(bytes) = files.optional("embeddings.bin")?
        {
            let (rows, cols) = (manifest.vocab_size, manifest.hidden_size);
            let format = float_of_length("embeddings.bin", bytes.len() as u64, rows * cols, float)
                .map_err(VindexError::damaged(files.path("embeddings.bin")))?;
            let matrix = matrix(files, "embeddings.bin", "embeddings", (format, rows, cols), bytes)?;
            weights.insert(Role::Embedding, matrix);
        }
        Ok(Catalogue { weights, gates })
    }
}

/// The gate matrices of a layer with their rows, in the order in which its features are numbered.
fn gate_pieces(spec: &ModelSpec, layer: usize) -> Vec<(Role, usize)> {
    let feed_forward = &spec.layers[layer].feed_forward;
    let (experts, features) =
        feed_forward.mixture().map_or((0, 0), |mixture| (mixture.experts, mixture.features));
    let experts = (0..experts).map(|expert| (LayerRole::ExpertGate(expert), features));
    let dense = Some((LayerRole::Gate, feed_forward.dense_features())).filter(|(_, rows)| *rows > 0);
    experts.chain(dense).map(|(role, rows)| (Role::Layer(layer, role), rows)).collect()
}

/// The matrices of `layers/layer_NN.weights`, if there is such a file and they are not held yet: those of experts, or
/// of a gated layer without any.
fn read_layer_file(
    files: &mut Files,
    spec: &ModelSpec,
    layer: usize,
    weights: &mut HashMap<Role, Matrix>,
) -> Result<(), VindexError> {
    use LayerRole::{Down, ExpertDown, ExpertGate, ExpertUp, Gate, Up};
    let name = format!("layers/layer_{layer:02}{LAYER_FILE_ENDING}");
    let Some(bytes) = files.optional(&name)? else { return Ok(()) };
    let feed_forward = &spec.layers[layer].feed_forward;
    let (entries, features) = match feed_forward.mixture() {
        Some(mixture) => (mixture.experts, mixture.features),
        None => (1, feed_forward.features()),
    };
    let entries = layer_file::parse(&bytes, [entries, features, spec.hidden_size])
        .map_err(VindexError::damaged(files.path(&name)))?;
    for (index, entry) in entries.into_iter().enumerate() {
        let roles = match feed_forward.mixture() {
            Some(_) => [ExpertGate(index), ExpertUp(index), ExpertDown(index)],
            None => [Gate, Up, Down],
        };
        for (role, matrix) in roles.into_iter().zip([entry.gate, entry.up, entry.down]) {
            weights.entry(Role::Layer(layer, role)).or_insert(matrix);
        }
    }
    Ok(())
}

/// Format of floats of this type.
pub(crate) fn float_format(float: FloatType) -> Format {
    match float {
        FloatType::F32 => Format::F32,
        FloatType::F16 => Format::F16,
        FloatType::Bf16 => Format::BF16,
    }
}

/// Every tensor that a manifest lists, with its file filled in. Blocks win over floats.
fn named_tensors(files: &mut Files) -> Result<HashMap<String, TensorEntry>, VindexError> {
    let block_manifests = Component::all()
        .filter(|component| *component != Component::TensorManifest)
        .flat_map(Component::files)
        .filter_map(|name| Some((*name, format!("{}.bin", name.strip_suffix(BLOCK_MANIFEST_ENDING)?))));
    let manifests =
        std::iter::once((TENSOR_MANIFEST_FILE, VERSION_1_WEIGHTS.to_owned())).chain(block_manifests);
    let mut entries = HashMap::new();
    for (name, default_file) in manifests {
        let Some(bytes) = files.optional(name)? else { continue };
        for mut entry in parse_tensors(&bytes).map_err(VindexError::manifest(files.path(name)))? {
            entry.file.get_or_insert_with(|| default_file.clone());
            entries.insert(entry.key.clone(), entry);
        }
    }
    Ok(entries)
}

/// Returns a listed tensor; none if its file is not there, as in a slice, whose lists are those of the whole.
fn named_matrix(
    files: &mut Files,
    entry: &TensorEntry,
    shape: Shape,
    float: Format,
) -> Result<Option<Matrix>, VindexError> {
    let file = entry.file.as_deref().unwrap_or(VERSION_1_WEIGHTS);
    if files.optional(file)?.is_none() {
        return Ok(None);
    }
    let damaged = VindexError::damaged(files.path(file));
    let (dimensions, rows, cols) = match shape {
        Shape::Vector(values) => (vec![values], 1, values),
        Shape::Matrix(rows, cols) => (vec![rows, cols], rows, cols),
    };
    if entry.shape != dimensions {
        let part = format!("shape of `{}`", entry.key);
        return Err(damaged(Damage::new(
            part,
            format_args!("{dimensions:?}"),
            format_args!("{:?}", entry.shape),
        )));
    }
    let format = match entry.stated_format() {
        Some(name) => Format::from_name(name).ok_or_else(|| {
            Damage::new(format!("format of `{}`", entry.key), "the name of a number format", name)
        }),
        None => float_of_length(&entry.key, entry.length, rows * cols, float),
    };
    let format = format.map_err(damaged)?;
    let bytes = files.slice(file, &format!("`{}`", entry.key), entry.offset, entry.length)?;
    matrix(files, file, &entry.key, (format, rows, cols), bytes).map(Some)
}

/// A layer's rows of `gate_vectors.bin` or its shards, if that is where its slot says they are and the files are there.
fn gate_vectors(
    files: &mut Files,
    slot: &LayerSlot,
    hidden_size: usize,
    float: Format,
) -> Result<Option<Matrix>, VindexError> {
    let part = format!("gate rows of layer {}", slot.layer);
    let default_file = "gate_vectors.bin";
    let (file, bytes) = match &slot.shards {
        Some(shards) => {
            let mut bytes = Vec::new();
            for shard in shards {
                if files.optional(&shard.file)?.is_none() {
                    return Ok(None);
                }
                bytes.extend_from_slice(&files.slice(&shard.file, &part, shard.offset, shard.length)?);
            }
            (shards.first().map_or(default_file, |shard| &shard.file), bytes.into())
        }
        None => {
            let file = slot.file.as_deref().unwrap_or(default_file);
            // A slot without rows is that of a mixture whose rows lie with their experts.
            if file != default_file || slot.length == 0 || files.optional(file)?.is_none() {
                return Ok(None);
            }
            (file, files.slice(file, &part, slot.offset, slot.length)?)
        }
    };
    let elements = slot.num_features * hidden_size;
    let format = float_of_length(&part, bytes.len() as u64, elements, float)
        .map_err(VindexError::damaged(files.path(file)))?;
    matrix(files, file, &part, (format, slot.num_features, hidden_size), bytes).map(Some)
}

/// The format of floats whose width is their length divided by their number. Two bytes mean `float`, unless
/// that is f32, whose files hold no other halves than f16.
fn float_of_length(part: &str, length: u64, elements: usize, float: Format) -> Result<Format, Damage> {
    let (halves, singles) = ((elements as u64).saturating_mul(2), (elements as u64).saturating_mul(4));
    if length == singles {
        return Ok(Format::F32);
    }
    if length == halves {
        return Ok(if float == Format::F32 { Format::F16 } else { float });
    }
    let expected = format!("{halves} or {singles} bytes for {elements} floats");
    Err(Damage::new(format!("length of {part}"), expected, length))
}

fn matrix(
    files: &Files,
    file: &str,
    tensor: &str,
    (format, rows, cols): (Format, usize, usize),
    bytes: bytes::Bytes,
) -> Result<Matrix, VindexError> {
    Matrix::new(format, rows, cols, bytes).map_err(|source| VindexError::Tensor {
        path: files.path(file),
        tensor: tensor.to_owned(),
        source,
    })
}
