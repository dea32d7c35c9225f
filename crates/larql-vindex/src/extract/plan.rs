//! Plan of a new vindex: the file and place of every tensor, before any is written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use larql_compute::Format;
use larql_models::{LayerRole, Mixing, ModelError, ModelSpec, Role, Shape, WeightSource, safetensors_header};
use larql_vindex_spec::{ExtractLevel, FloatType, LayerSlot, Quant, TensorEntry};
use serde_json::{Map, Value, json};

use super::{ExtractOptions, Part, Q4kOptions, Storage};
use crate::catalogue::float_format;
use crate::component::{Component, LAYER_FILE_ENDING, Layout, TENSOR_MANIFEST_FILE};
use crate::layer_file;

/// The files of weights that an extraction writes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) files: Vec<PlannedFile>,
    /// Locations of the gate rows of each layer.
    pub(crate) slots: Vec<LayerSlot>,
    /// The level that is complete, which narrowing may have lowered.
    pub(crate) level: ExtractLevel,
    pub(crate) float: FloatType,
    /// Number of matrices that keep the source's blocks, since those that were asked for would not be smaller.
    pub(crate) kept: usize,
    layout: Layout,
}

/// A component in a given layout, and its file there.
pub(crate) type Place = (Component, Cow<'static, str>);

/// One file of weights.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    pub(crate) name: Cow<'static, str>,
    component: Component,
    /// Bytes before the tensors.
    pub(crate) header: Vec<u8>,
    pub(crate) tensors: Vec<PlannedTensor>,
    pub(crate) bytes: u64,
}

/// One tensor of a file.
#[derive(Clone, Debug)]
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
    /// Plans an extraction of `source` with `options`; `holds` tells the tensors that the source has.
    pub(crate) fn new(
        source: &dyn WeightSource,
        holds: impl Fn(Role) -> bool,
        options: &ExtractOptions,
    ) -> Result<Plan, ModelError> {
        let spec = source.spec();
        let mut storing = Storing::choose(source, options);
        let parts = [Part::FfnGate, Part::FfnUp, Part::FfnDown];
        storing.gathers_experts = Component::Experts.is_in_preset(options.level)
            && parts.iter().all(|part| options.wants_part(*part));
        let mut files: BTreeMap<Place, PlannedFile> = BTreeMap::new();
        let (mut level, mut kept) = (options.level, 0);
        for (role, shape) in spec.tensors() {
            let component = Component::of_role(role);
            if !component.is_in_preset(options.level) {
                continue;
            }
            if !options.wants(role) || !holds(role) {
                level = level.min(level_below(component.level()));
                continue;
            }
            let (places, keeps_blocks) = storing.places(source, role, shape)?;
            kept += usize::from(keeps_blocks);
            for (place, format) in places {
                let tensor = PlannedTensor::new(spec.tensor_name(role), role, shape, format);
                files.entry(place.clone()).or_insert_with(|| PlannedFile::new(place)).add(tensor);
            }
        }
        let mut files: Vec<PlannedFile> = files.into_values().collect();
        files.iter_mut().for_each(|file| file.add_header(spec));
        let slots = slots(spec, &files, options);
        Ok(Plan { files, slots, level, float: storing.float, kept, layout: storing.layout })
    }

    /// Name of this storage in the manifest.
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
                (Component::Embeddings, Layout::Floats | Layout::Blocks) if file.name.ends_with(".bin") => {}
                (Component::Gate, Layout::Blocks) => {}
                // These say it themselves.
                (Component::Experts, _) if file.name.ends_with(LAYER_FILE_ENDING) => {}
                (Component::Attention | Component::FeedForward, Layout::Blocks) => {
                    let name = format!("{}_manifest.json", file.name.trim_end_matches(".bin"));
                    manifests.push((name, entries.collect()));
                }
                (component, layout) => listed.extend(entries.map(|entry| {
                    // Widths show which float it is.
                    let is_bare_float = matches!(component, Component::Norms) || layout == Layout::Floats;
                    let kind = match (entry.shape.len(), entry.format.as_deref()) {
                        (1, _) => "vector",
                        // The word that older readers know it by.
                        (_, Some("Q4_K")) if layout == Layout::Blocks => "tensor_q4k",
                        _ => "tensor",
                    };
                    TensorEntry {
                        kind: Some(kind.to_owned()),
                        format: entry.format.filter(|_| !is_bare_float),
                        file: Some(file.name.to_string()),
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
struct Storing<'a> {
    layout: Layout,
    float: FloatType,
    q4k: Q4kOptions,
    /// The formats that matrices get instead of the source's.
    mixing: Option<Mixing<'a>>,
    /// True if the matrices of each layer's experts go into a file of their own.
    gathers_experts: bool,
}

impl<'a> Storing<'a> {
    fn choose(source: &'a dyn WeightSource, options: &ExtractOptions) -> Storing<'a> {
        // A source that lacks some of them, a vindex of a low level, is judged by the others.
        use LayerRole::{Down, ExpertDown, ExpertGate, ExpertUp, Gate, Query, Up, Value};
        let roles = [Gate, Up, Down, Query, Value, ExpertGate(0), ExpertUp(0), ExpertDown(0)];
        let matrices = roles.map(|role| source.matrix(Role::Layer(0, role)).ok());
        let formats: Vec<Format> = matrices.into_iter().flatten().map(|matrix| matrix.format()).collect();
        let suited = if formats.contains(&Format::BF16) { FloatType::Bf16 } else { FloatType::F16 };
        let all_floats = formats.iter().all(|format| format.is_float());
        let (layout, float, q4k) = match options.storage {
            Storage::Automatic if all_floats => (Layout::Floats, suited, Q4kOptions::default()),
            Storage::Floats(float) => (Layout::Floats, float, Q4kOptions::default()),
            Storage::Q4k(q4k) => (Layout::Blocks, suited, q4k),
            Storage::Source | Storage::Automatic | Storage::Mix(_) => {
                (Layout::Source, FloatType::F32, Q4kOptions::default())
            }
        };
        let mixing = match options.storage {
            Storage::Mix(mix) => Some(Mixing::new(mix, source.spec(), options.importance.is_some())),
            _ => None,
        };
        Storing { layout, float, q4k, mixing, gathers_experts: false }
    }

    /// The files that hold a tensor with its format there, and whether these are the source's blocks where this layout
    /// would have others.
    fn places(
        &self,
        source: &dyn WeightSource,
        role: Role,
        shape: Shape,
    ) -> Result<(Vec<(Place, Format)>, bool), ModelError> {
        let (component, float) = (Component::of_role(role), float_format(self.float));
        let file = |component: Component, layout| -> Place {
            let (component, name) = component.written_as(layout);
            (component, name.into())
        };
        let cols = match shape {
            // Another expert is another answer.
            _ if component == Component::Router && self.layout != Layout::Floats => {
                return Ok((vec![(file(component, self.layout), Format::F32)], false));
            }
            Shape::Matrix(_, cols) if component != Component::Norms => cols,
            Shape::Vector(_) if self.layout == Layout::Floats => {
                // Checkpoints in 16 bits may hold a few vectors in 32; readers see the width by the length.
                let exact = is_exact(&source.vector(role)?, float);
                return Ok((
                    vec![(file(component, self.layout), if exact { float } else { Format::F32 })],
                    false,
                ));
            }
            _ if self.layout == Layout::Floats => {
                return Ok((vec![(file(component, self.layout), float)], false));
            }
            // Small tensors are not worth losing precision for.
            _ => return Ok((vec![(file(Component::Norms, self.layout), Format::F32)], false)),
        };
        let format = match (self.layout, component) {
            (Layout::Floats, _) => float,
            (Layout::Blocks, Component::Embeddings | Component::PerLayerInputs) => float,
            (Layout::Source, _) => match self.mixing.as_ref().and_then(|mixing| mixing.format(role)) {
                Some(format) => fitting(format, cols),
                None => source.matrix(role)?.format(),
            },
            (Layout::Blocks, Component::Down) if !self.q4k.down_q4k => fitting(Format::Q6_K, cols),
            (Layout::Blocks, _) if matches!(role, Role::Layer(_, LayerRole::Value)) => {
                fitting(Format::Q6_K, cols)
            }
            (Layout::Blocks, _) => fitting(Format::Q4_K, cols),
        };
        let chooses_blocks = self.layout == Layout::Blocks || self.mixing.is_some();
        let kept = match chooses_blocks {
            true => kept_blocks(source.matrix(role)?.format(), format, cols),
            false => None,
        };
        // Files of embeddings and the like have no word for blocks in this layout.
        let layout = if kept.is_some() && format.is_float() { Layout::Source } else { self.layout };
        let format = kept.unwrap_or(format);
        let mut places = vec![(self.expert_place(role).unwrap_or_else(|| file(component, layout)), format)];
        if self.q4k.gate_vectors && component == Component::Gate {
            places.push((file(component, Layout::Floats), float));
        }
        Ok((places, kept.is_some()))
    }

    /// The file of a layer's experts, if the role is one of their matrices and they have one. Another name is used for
    /// contents that the plain file cannot express: matrices in several formats, or in one that it does not know.
    fn expert_place(&self, role: Role) -> Option<Place> {
        use LayerRole::{ExpertDown, ExpertGate, ExpertUp};
        let Role::Layer(layer, ExpertGate(_) | ExpertUp(_) | ExpertDown(_)) = role else { return None };
        let ending = if self.layout == Layout::Floats { LAYER_FILE_ENDING } else { ".safetensors" };
        let name = format!("layers/layer_{layer:02}{ending}");
        self.gathers_experts.then_some((Component::Experts, name.into()))
    }
}

/// True if a float format represents the values exactly.
fn is_exact(values: &[f32], float: Format) -> bool {
    let (mut bytes, mut stored) = (Vec::new(), vec![0.0; values.len()]);
    let encoded = float.encode(values, &mut bytes);
    encoded.is_ok_and(|()| {
        float.decode(&bytes, &mut stored);
        stored == values
    })
}

/// The blocks that a source has, if others would take no fewer bytes.
fn kept_blocks(held: Format, wanted: Format, cols: usize) -> Option<Format> {
    let bytes = |format: Format| format.row_bytes(cols).ok();
    (held != wanted && !held.is_float() && bytes(held)? <= bytes(wanted)?).then_some(held)
}

/// The format as it is, or the one that other tools fall back to where rows are no whole number of its blocks.
fn fitting(format: Format, cols: usize) -> Format {
    if cols.is_multiple_of(format.block_len()) {
        return format;
    }
    let smaller = match format {
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q2_K | Format::Q3_K | Format::IQ4_XS => Format::IQ4_NL,
        _ => Format::Q8_0,
    };
    if cols.is_multiple_of(smaller.block_len()) { smaller } else { Format::F16 }
}

fn level_below(level: ExtractLevel) -> ExtractLevel {
    let below = ExtractLevel::ALL.into_iter().rev().find(|other| *other < level);
    below.unwrap_or(ExtractLevel::Browse)
}

/// Locations of the gate rows of each wanted layer; in `gate_vectors.bin` before blocks. Of a mixture they are a span
/// only where all experts' rows follow each other.
fn slots(spec: &ModelSpec, files: &[PlannedFile], options: &ExtractOptions) -> Vec<LayerSlot> {
    let is_gate = |role: Role, layer: usize| match role {
        Role::Layer(of, LayerRole::Gate | LayerRole::ExpertGate(_)) => of == layer,
        _ => false,
    };
    let slot = |layer: usize| {
        let feed_forward = &spec.layers[layer].feed_forward;
        let mixture = feed_forward.mixture();
        let mut slot = LayerSlot {
            layer,
            num_features: feed_forward.features(),
            num_experts: mixture.map(|mixture| mixture.experts),
            num_features_per_expert: mixture.map(|mixture| mixture.features),
            ..LayerSlot::default()
        };
        let holds_gates = |file: &&PlannedFile| file.tensors.iter().any(|tensor| is_gate(tensor.role, layer));
        let Some(file) = files.iter().find(holds_gates) else { return slot };
        let gates: Vec<&PlannedTensor> =
            file.tensors.iter().filter(|tensor| is_gate(tensor.role, layer)).collect();
        let rows: usize = gates.iter().map(|gate| gate.rows()).sum();
        let is_usual = file.name == Component::Gate.written_as(Layout::Floats).1;
        if rows == slot.num_features && (is_usual || mixture.is_none()) {
            slot.offset = gates.first().map_or(0, |gate| gate.offset);
            slot.length = gates.iter().map(|gate| gate.bytes).sum();
            slot.file = (!is_usual).then(|| file.name.to_string());
        } else {
            let experts =
                files.iter().find(|file| file.tensors.iter().any(|t| is_expert_gate(t.role, layer)));
            slot.file = experts.map(|file| file.name.to_string());
        }
        slot
    };
    (0..spec.layers.len()).filter(|layer| options.wants_layer(*layer)).map(slot).collect()
}

fn is_expert_gate(role: Role, layer: usize) -> bool {
    matches!(role, Role::Layer(of, LayerRole::ExpertGate(_)) if of == layer)
}

impl PlannedTensor {
    pub(crate) fn new(key: String, role: Role, shape: Shape, format: Format) -> PlannedTensor {
        let (rows, cols) = match shape {
            Shape::Vector(values) => (1, values),
            Shape::Matrix(rows, cols) => (rows, cols),
        };
        let row_bytes = format.row_bytes(cols).expect("formats are chosen to fit, or are those of such rows");
        PlannedTensor { role, key, shape, format, offset: 0, bytes: rows as u64 * row_bytes as u64 }
    }

    fn rows(&self) -> usize {
        match self.shape {
            Shape::Vector(_) => 1,
            Shape::Matrix(rows, _) => rows,
        }
    }

    pub(crate) fn entry(&self) -> TensorEntry {
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
    pub(crate) fn new((component, name): Place) -> PlannedFile {
        PlannedFile { name, component, header: Vec::new(), tensors: Vec::new(), bytes: 0 }
    }

    pub(crate) fn add(&mut self, tensor: PlannedTensor) {
        let offset = self.bytes;
        self.bytes += tensor.bytes;
        self.tensors.push(PlannedTensor { offset, ..tensor });
    }

    /// Puts before the tensors what their kind of file begins with.
    pub(crate) fn add_header(&mut self, spec: &ModelSpec) {
        if self.name.ends_with(".safetensors") {
            self.add_safetensors_header();
        } else if self.name.ends_with(LAYER_FILE_ENDING) {
            self.add_layer_header(spec);
        }
    }

    /// Puts the header of a layer file before the matrices of its experts.
    fn add_layer_header(&mut self, spec: &ModelSpec) {
        let Some(first) = self.tensors.first() else { return };
        let Role::Layer(layer, _) = first.role else { return };
        let Some(mixture) = spec.layers[layer].feed_forward.mixture() else { return };
        let sizes = [mixture.experts, mixture.features, spec.hidden_size];
        self.header = layer_file::header(first.format, sizes, first.bytes)
            .expect("floats are among the formats, and no size of a model is larger than a u32");
        self.start_tensors_after_header();
    }

    fn start_tensors_after_header(&mut self) {
        let length = self.header.len() as u64;
        self.bytes += length;
        self.tensors.iter_mut().for_each(|tensor| tensor.offset += length);
    }

    /// Puts a safetensors header before the tensors. Formats that safetensors has no word for are bytes there,
    /// `[rows, bytes a row]`, and the metadata say what they mean.
    fn add_safetensors_header(&mut self) {
        let mut metadata = Map::from_iter([("container".to_owned(), json!("larql"))]);
        let mut entries = Vec::new();
        for tensor in &self.tensors {
            let shape = tensor.entry().shape;
            let (dtype, shape) = if tensor.format.is_float() {
                (tensor.format.name(), shape)
            } else {
                let meaning = json!({ "format": tensor.format.name(), "shape": shape });
                metadata.insert(tensor.key.clone(), Value::String(meaning.to_string()));
                ("U8", vec![shape[0], (tensor.bytes / shape[0].max(1) as u64) as usize])
            };
            entries.push((&*tensor.key, dtype, shape, tensor.bytes));
        }
        self.header = safetensors_header(metadata, entries);
        self.start_tensors_after_header();
    }
}
