//! Which tensor goes where: everything about a new vindex's files that can be known before any is written.

use std::collections::BTreeMap;

use larql_compute::Format;
use larql_models::{LayerRole, ModelError, ModelSpec, Role, Shape, WeightSource};
use larql_vindex_spec::{ExtractLevel, FloatType, LayerSlot, Quant, TensorEntry};
use serde_json::{Map, Value, json};

use super::{ExtractOptions, Q4kOptions, Storage};
use crate::catalogue::{float_format, tensor_name};
use crate::component::{Component, Layout, TENSOR_MANIFEST_FILE};

/// The files of weights that an extraction writes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) files: Vec<PlannedFile>,
    /// Where each layer's gate rows lie.
    pub(crate) slots: Vec<LayerSlot>,
    /// The level that is complete, which narrowing may have lowered.
    pub(crate) level: ExtractLevel,
    pub(crate) float: FloatType,
    layout: Layout,
}

/// A component in a given layout, and its file there.
type Place = (Component, &'static str);

/// One file of weights.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    pub(crate) name: &'static str,
    component: Component,
    /// What stands before the tensors.
    pub(crate) header: Vec<u8>,
    pub(crate) tensors: Vec<PlannedTensor>,
    pub(crate) bytes: u64,
}

/// One tensor of a file.
#[derive(Debug)]
pub(crate) struct PlannedTensor {
    pub(crate) role: Role,
    pub(crate) key: String,
    pub(crate) shape: Shape,
    pub(crate) format: Format,
    /// First byte, from the file's start.
    offset: u64,
    bytes: u64,
}

impl Plan {
    /// The plan for what `options` ask of `source`, which holds those tensors that `holds` says.
    pub(crate) fn new(
        source: &dyn WeightSource,
        holds: impl Fn(Role) -> bool,
        options: &ExtractOptions,
    ) -> Result<Plan, ModelError> {
        let spec = source.spec();
        let storing = Storing::choose(source, options.storage);
        let mut files: BTreeMap<Place, PlannedFile> = BTreeMap::new();
        let mut level = options.level;
        for (role, shape) in spec.tensors() {
            let needed_from = Component::of_role(role).level();
            if needed_from > options.level {
                continue;
            }
            if !options.wants(role) || !holds(role) {
                level = level.min(level_below(needed_from));
                continue;
            }
            for (place, format) in storing.places(source, role, shape)? {
                let tensor = PlannedTensor::new(tensor_name(spec, role), role, shape, format);
                files.entry(place).or_insert_with(|| PlannedFile::new(place)).add(tensor);
            }
        }
        let mut files: Vec<PlannedFile> = files.into_values().collect();
        files.iter_mut().filter(|file| file.name.ends_with(".safetensors")).for_each(PlannedFile::add_header);
        let slots = slots(spec, &files, options);
        Ok(Plan { files, slots, level, float: storing.float, layout: storing.layout })
    }

    /// What the manifest calls this way of storing.
    pub(crate) fn quant(&self) -> Quant {
        match self.layout {
            Layout::Floats => Quant::None,
            Layout::Blocks => Quant::Q4k,
            Layout::Source => Quant::Source,
        }
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The lists of tensors that go with the files, by file name.
    pub(crate) fn manifests(&self) -> Vec<(String, Vec<TensorEntry>)> {
        let mut listed = Vec::new();
        let mut manifests = Vec::new();
        for file in &self.files {
            let entries = file.tensors.iter().map(PlannedTensor::entry);
            match (file.component, self.layout) {
                // Readers know where these lie from the manifest's sizes.
                (Component::Embeddings | Component::Gate, Layout::Floats | Layout::Blocks) => {}
                (Component::Attention | Component::FeedForward, Layout::Blocks) => {
                    let name = format!("{}_manifest.json", file.name.trim_end_matches(".bin"));
                    manifests.push((name, entries.collect()));
                }
                (component, layout) => listed.extend(entries.map(|entry| {
                    // Widths show which float it is.
                    let is_bare_float = component == Component::Norms || layout == Layout::Floats;
                    let kind = match (entry.shape.len(), entry.format.as_deref()) {
                        (1, _) => "vector",
                        // The word that older readers know it by.
                        (_, Some("Q4_K")) if layout == Layout::Blocks => "tensor_q4k",
                        _ => "tensor",
                    };
                    TensorEntry {
                        kind: Some(kind.to_owned()),
                        format: entry.format.filter(|_| !is_bare_float),
                        file: Some(file.name.to_owned()),
                        ..entry
                    }
                })),
            }
        }
        manifests.push((TENSOR_MANIFEST_FILE.to_owned(), listed));
        manifests
    }
}

/// Choices of storage, made for one source.
struct Storing {
    layout: Layout,
    float: FloatType,
    q4k: Q4kOptions,
}

impl Storing {
    fn choose(source: &dyn WeightSource, storage: Storage) -> Storing {
        // A source that lacks some of them, a vindex of a low level, is judged by the others.
        let roles = [LayerRole::Gate, LayerRole::Up, LayerRole::Down, LayerRole::Query, LayerRole::Value];
        let matrices = roles.map(|role| source.matrix(Role::Layer(0, role)).ok());
        let formats: Vec<Format> = matrices.into_iter().flatten().map(|matrix| matrix.format()).collect();
        let suited = if formats.contains(&Format::BF16) { FloatType::Bf16 } else { FloatType::F16 };
        let all_floats = formats.iter().all(|format| format.is_float());
        let (layout, float, q4k) = match storage {
            Storage::Automatic if all_floats => (Layout::Floats, suited, Q4kOptions::default()),
            Storage::Floats(float) => (Layout::Floats, float, Q4kOptions::default()),
            Storage::Q4k(q4k) => (Layout::Blocks, suited, q4k),
            Storage::Source | Storage::Automatic => (Layout::Source, FloatType::F32, Q4kOptions::default()),
        };
        Storing { layout, float, q4k }
    }

    /// The files that hold a tensor, and its format there.
    fn places(
        &self,
        source: &dyn WeightSource,
        role: Role,
        shape: Shape,
    ) -> Result<Vec<(Place, Format)>, ModelError> {
        let (component, float) = (Component::of_role(role), float_format(self.float));
        let cols = match shape {
            Shape::Matrix(_, cols) if component != Component::Norms => cols,
            _ if self.layout == Layout::Floats => {
                return Ok(vec![(component.written_as(self.layout), float)]);
            }
            // Small tensors are not worth losing precision for.
            _ => return Ok(vec![(Component::Norms.written_as(self.layout), Format::F32)]),
        };
        let format = match (self.layout, role) {
            (Layout::Floats, _) | (Layout::Blocks, Role::Embedding) => float,
            (Layout::Source, _) => source.matrix(role)?.format(),
            (Layout::Blocks, Role::Layer(_, LayerRole::Value)) => fitting(Format::Q6_K, cols),
            (Layout::Blocks, Role::Layer(_, LayerRole::Down)) if !self.q4k.down_q4k => {
                fitting(Format::Q6_K, cols)
            }
            (Layout::Blocks, _) => fitting(Format::Q4_K, cols),
        };
        let mut places = vec![(component.written_as(self.layout), format)];
        if self.q4k.gate_vectors && component == Component::Gate {
            places.push((component.written_as(Layout::Floats), float));
        }
        Ok(places)
    }
}

/// The format as it is, or the one that other tools fall back to where rows are no whole number of its blocks.
fn fitting(format: Format, cols: usize) -> Format {
    if cols.is_multiple_of(format.block_len()) {
        return format;
    }
    let smaller = match format {
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        _ => Format::Q8_0,
    };
    if cols.is_multiple_of(smaller.block_len()) { smaller } else { Format::F16 }
}

fn level_below(level: ExtractLevel) -> ExtractLevel {
    let below = ExtractLevel::ALL.into_iter().rev().find(|other| *other < level);
    below.unwrap_or(ExtractLevel::Browse)
}

/// Where the gate rows of each wanted layer lie; in `gate_vectors.bin` before blocks.
fn slots(spec: &ModelSpec, files: &[PlannedFile], options: &ExtractOptions) -> Vec<LayerSlot> {
    let gate_file = |layer: usize| {
        let role = Role::Layer(layer, LayerRole::Gate);
        files.iter().find_map(|file| Some((file, file.tensors.iter().find(|tensor| tensor.role == role)?)))
    };
    let slot = |layer: usize| {
        let mut slot = LayerSlot {
            layer,
            num_features: spec.layers[layer].feed_forward.features(),
            ..LayerSlot::default()
        };
        if let Some((file, gate)) = gate_file(layer) {
            (slot.offset, slot.length) = (gate.offset, gate.bytes);
            let is_usual = file.name == Component::Gate.written_as(Layout::Floats).1;
            slot.file = (!is_usual).then(|| file.name.to_owned());
        }
        slot
    };
    (0..spec.layers.len()).filter(|layer| options.wants_layer(*layer)).map(slot).collect()
}

impl PlannedTensor {
    fn new(key: String, role: Role, shape: Shape, format: Format) -> PlannedTensor {
        let (rows, cols) = match shape {
            Shape::Vector(values) => (1, values),
            Shape::Matrix(rows, cols) => (rows, cols),
        };
        let row_bytes = format.row_bytes(cols).expect("formats are chosen to fit, or are those of such rows");
        PlannedTensor { role, key, shape, format, offset: 0, bytes: rows as u64 * row_bytes as u64 }
    }

    fn entry(&self) -> TensorEntry {
        TensorEntry {
            key: self.key.clone(),
            kind: None,
            shape: match self.shape {
                Shape::Vector(values) => vec![values],
                Shape::Matrix(rows, cols) => vec![rows, cols],
            },
            format: Some(self.format.name().to_owned()),
            offset: self.offset,
            length: self.bytes,
            file: None,
        }
    }
}

impl PlannedFile {
    fn new((component, name): Place) -> PlannedFile {
        PlannedFile { name, component, header: Vec::new(), tensors: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, tensor: PlannedTensor) {
        let offset = self.bytes;
        self.bytes += tensor.bytes;
        self.tensors.push(PlannedTensor { offset, ..tensor });
    }

    /// Puts a safetensors header before the tensors: u64 length and JSON, padded with spaces so that tensors
    /// start at a cache line. Formats that safetensors has no word for are bytes there, `[rows, bytes a row]`,
    /// and the metadata say what they mean.
    fn add_header(&mut self) {
        const ALIGNMENT: usize = 64;
        let mut metadata = Map::from_iter([("container".to_owned(), json!("larql"))]);
        let mut header = Map::new();
        for tensor in &self.tensors {
            let entry = tensor.entry();
            let (dtype, shape) = if tensor.format.is_float() {
                (tensor.format.name(), entry.shape)
            } else {
                let meaning = json!({ "format": tensor.format.name(), "shape": entry.shape });
                metadata.insert(tensor.key.clone(), Value::String(meaning.to_string()));
                let rows = entry.shape[0];
                ("U8", vec![rows, (tensor.bytes / rows.max(1) as u64) as usize])
            };
            let ends = [tensor.offset, tensor.offset + tensor.bytes];
            header
                .insert(tensor.key.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": ends }));
        }
        header.insert("__metadata__".to_owned(), Value::Object(metadata));
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize((text.len() + 8).next_multiple_of(ALIGNMENT) - 8, b' ');
        self.header = [&(text.len() as u64).to_le_bytes(), &text[..]].concat();
        let length = self.header.len() as u64;
        self.bytes += length;
        self.tensors.iter_mut().for_each(|tensor| tensor.offset += length);
    }
}
