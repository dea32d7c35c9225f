//! A directory as Hugging Face transformers has it: safetensors, configuration, tokenizer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use larql_compute::Format;
use serde_json::{Map, Value, json};

use super::conversion::Conversion;
use super::stored::{Stored, stored_tensors};
use super::{Export, ExportOptions, ExportReport, SourceTensors, check_free, hub_config};
use crate::checkpoint::packed::apart;
use crate::family::{Family, HUB_PREFIXES, Layout, Place};
use crate::safetensors::safetensors_header;
use crate::{CheckpointKind, ModelError, Role, StoredTensor};

/// Writes a model as a directory that transformers loads. What came from such a directory goes back as it was: each
/// tensor under its name, in its file, in its number format, and beside them the configuration and the tokenizer.
///
/// Nothing appears at `target` before all of it is there.
///
/// # Errors
/// [`ModelError::Io`] if there is something at `target`, or it cannot be written; whatever the source lacks.
pub fn write_safetensors(
    export: Export<'_>,
    target: &Path,
    options: ExportOptions,
) -> Result<ExportReport, ModelError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ModelError::Io { path, source }
    };
    check_free(target)?;
    let side_files = hub_config::side_files(export, options)?;
    let spec = export.weights.spec();
    let family = Family::of(&side_files.config)?;
    let to = family.read_spec(&side_files.config)?;
    let conversion = Conversion::between(spec, &to, target)?;
    let source = export.source.filter(|source| source.kind != CheckpointKind::Gguf);
    let plan = Plan::new(export, family, &to, source, options)?;

    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let growing = tempfile::Builder::new().prefix(".larql-export").tempdir_in(parent).map_err(io(parent))?;
    let mut files = Vec::new();
    let mut write = |name: &str, content: &mut dyn FnMut(&mut BufWriter<File>) -> Result<(), ModelError>| {
        let path = growing.path().join(name);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(io(&path))?);
        content(&mut file)?;
        let file = file.into_inner().map_err(|error| io(&path)(error.into_error()))?;
        file.sync_all().map_err(io(&path))?;
        files.push((name.to_owned(), file.metadata().map_err(io(&path))?.len()));
        Ok::<(), ModelError>(())
    };
    for (name, tensors) in &plan.files {
        write(name, &mut |file| {
            let path = target.join(name);
            file.write_all(&plan.header(tensors)).map_err(io(&path))?;
            for tensor in tensors {
                file.write_all(&tensor.content(export, &conversion, &path)?).map_err(io(&path))?;
            }
            Ok(())
        })?;
    }
    if let Some(index) = plan.index() {
        write(INDEX, &mut |file| file.write_all(&index).map_err(io(target)))?;
    }
    for (name, bytes) in &side_files.files {
        if let Some(folder) = growing.path().join(name).parent() {
            std::fs::create_dir_all(folder).map_err(io(target))?;
        }
        write(name, &mut |file| file.write_all(bytes).map_err(io(target)))?;
    }
    std::fs::rename(growing.path(), target).map_err(io(target))?;
    // Nothing is left under its name.
    let _ = growing.keep();
    let tensors = plan.files.values().map(Vec::len).sum();
    Ok(ExportReport { path: target.into(), files, tensors })
}

const INDEX: &str = "model.safetensors.index.json";

/// Assignment of tensors to files and formats.
struct Plan {
    files: BTreeMap<String, Vec<Planned>>,
    /// As the metadata of each file name the writer.
    container: &'static str,
}

/// A tensor of a file.
struct Planned {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: u64,
    content: Content,
}

/// Origin of a tensor's bytes.
enum Content {
    /// Roles, in a float format.
    Floats(Stored, Format),
    /// The codes of roles in MXFP4, sixteen bytes a group.
    Blocks(Rc<Stored>),
    /// The scales of roles in MXFP4, a byte a group.
    Scales(Rc<Stored>),
    /// Bytes that are copied without decoding.
    Kept(Bytes),
}

impl Planned {
    fn floats(stored: Stored, format: Format) -> Planned {
        let bytes = stored.byte_size(format).expect("floats fit any row");
        let (name, shape) = (stored.name.clone(), stored.shape.clone());
        Planned { name, dtype: format.name().into(), shape, bytes, content: Content::Floats(stored, format) }
    }

    fn kept(tensor: &StoredTensor) -> Planned {
        Planned {
            name: tensor.name.clone(),
            dtype: tensor.encoding.to_string(),
            shape: tensor.shape.clone(),
            bytes: tensor.bytes.len() as u64,
            content: Content::Kept(tensor.bytes.clone()),
        }
    }

    /// The two tensors of values in MXFP4.
    fn packed(stored: Stored) -> [Planned; 2] {
        let stored = Rc::new(stored.untransposed());
        let mut groups = stored.shape.clone();
        if let Some(inputs) = groups.last_mut() {
            *inputs /= Format::MXFP4.block_len();
        }
        let codes = Format::MXFP4.block_bytes() - 1;
        let half = |ending: &str, shape: Vec<usize>, content| Planned {
            name: format!("{}{ending}", stored.name),
            dtype: "U8".into(),
            bytes: shape.iter().map(|size| *size as u64).product(),
            shape,
            content,
        };
        let blocks = groups.iter().copied().chain([codes]).collect();
        [
            half("_blocks", blocks, Content::Blocks(Rc::clone(&stored))),
            half("_scales", groups, Content::Scales(Rc::clone(&stored))),
        ]
    }

    fn content(
        &self,
        export: Export<'_>,
        conversion: &Conversion<'_>,
        path: &Path,
    ) -> Result<Bytes, ModelError> {
        let encoded = |stored: &Stored, format| stored.bytes(format, export.weights, conversion, path);
        Ok(match &self.content {
            Content::Floats(stored, format) => encoded(stored, *format)?,
            Content::Blocks(stored) => apart(&encoded(stored, Format::MXFP4)?).0.into(),
            Content::Scales(stored) => apart(&encoded(stored, Format::MXFP4)?).1.into(),
            Content::Kept(bytes) => bytes.clone(),
        })
    }
}

impl Plan {
    fn new(
        export: Export<'_>,
        family: &Family,
        spec: &crate::ModelSpec,
        source: Option<&SourceTensors>,
        options: ExportOptions,
    ) -> Result<Plan, ModelError> {
        let is_mlx = source.is_some_and(|source| source.kind == CheckpointKind::Mlx);
        let layout = if is_mlx { Layout::Mlx } else { Layout::Hub };
        let known: BTreeMap<&str, _> = source
            .into_iter()
            .flat_map(|source| &source.tensors)
            .map(|tensor| (tensor.name.as_str(), tensor))
            .collect();
        let embedding = (family.place)(spec, Role::Embedding, layout).name;
        let prefixes =
            HUB_PREFIXES.iter().find(|(body, _)| known.contains_key(&*format!("{body}{embedding}")));
        // GPT-2's class looks for its decoder where no other does.
        let usual = |(body, _): &&(&str, &str)| (*body == "transformer.") == (family.name == "gpt2");
        let prefixes = prefixes.or_else(|| HUB_PREFIXES.iter().find(usual));
        let (body, head) = prefixes.unwrap_or(&HUB_PREFIXES[0]);
        let place = |role: Role| {
            let prefix = if matches!(role, Role::Head | Role::HeadBias) { head } else { body };
            let place = (family.place)(spec, role, layout);
            Place { name: format!("{prefix}{}", place.name), ..place }
        };

        let mut held = Vec::new();
        let mut floats: BTreeMap<&str, usize> = BTreeMap::new();
        for stored in stored_tensors(spec, place) {
            let format = stored.format_held(export.weights)?;
            if let Some(format) = format.filter(|format| format.is_float()) {
                *floats.entry(format.name()).or_default() += stored.shape.iter().product::<usize>();
            }
            held.push((stored, format));
        }
        // Vectors of a model that never was in safetensors get the format of most of its matrices.
        let usual = floats.into_iter().max_by_key(|(_, values)| *values).map(|(name, _)| name);
        let usual = usual.and_then(Format::from_name).unwrap_or(options.float);

        let unused = export.unused.iter().filter(|_| source.is_some()).map(Planned::kept);
        let mut files: BTreeMap<String, Vec<Planned>> = BTreeMap::new();
        let mut shards = Shards { limit: options.shard_bytes, filled: 0, number: 1 };
        for (stored, held) in held {
            let was = known.get(&*stored.name).and_then(|tensor| Format::from_name(&tensor.encoding));
            let was = was.filter(|was| was.is_float());
            let tensors = match held {
                Some(Format::MXFP4) => Vec::from(Planned::packed(stored)),
                // A vindex may hold in 32 bits what came in 16.
                Some(Format::F32) => vec![Planned::floats(stored, was.unwrap_or(Format::F32))],
                Some(format) if format.is_float() => vec![Planned::floats(stored, format)],
                Some(_) => vec![Planned::floats(stored, options.float)],
                // Vectors are handed out as f32, whatever they were.
                None => vec![Planned::floats(stored, was.unwrap_or(usual))],
            };
            for tensor in tensors {
                let file = match known.get(&*tensor.name) {
                    Some(known) => known.file.clone(),
                    None => shards.next(tensor.bytes),
                };
                files.entry(file).or_default().push(tensor);
            }
        }
        for tensor in unused {
            let file = known.get(&*tensor.name).map_or("model.safetensors", |known| &known.file);
            files.entry(file.to_owned()).or_default().push(tensor);
        }
        shards.rename(&mut files);
        Ok(Plan { files, container: if is_mlx { "mlx" } else { "pt" } })
    }

    fn header(&self, tensors: &[Planned]) -> Vec<u8> {
        let metadata = Map::from_iter([("format".to_owned(), self.container.into())]);
        let entries = tensors.iter().map(|t| (&*t.name, &*t.dtype, t.shape.clone(), t.bytes));
        safetensors_header(metadata, entries)
    }

    /// The list of shards, if there are several.
    fn index(&self) -> Option<Vec<u8>> {
        if self.files.len() < 2 {
            return None;
        }
        let all = || self.files.iter().flat_map(|(file, tensors)| tensors.iter().map(move |t| (file, t)));
        let total: u64 = all().map(|(_, tensor)| tensor.bytes).sum();
        let map: Map<String, Value> =
            all().map(|(file, tensor)| (tensor.name.clone(), file.as_str().into())).collect();
        Some(format!("{:#}\n", json!({ "metadata": { "total_size": total }, "weight_map": map })).into())
    }
}

/// Spreads tensors over files of a limited size.
struct Shards {
    limit: u64,
    filled: u64,
    number: usize,
}

impl Shards {
    /// The file for a tensor of this number of bytes.
    fn next(&mut self, bytes: u64) -> String {
        if self.filled > 0 && self.filled + bytes > self.limit {
            (self.filled, self.number) = (0, self.number + 1);
        }
        self.filled += bytes;
        Shards::provisional(self.number)
    }

    /// Sorts before every other name of a shard, in the order of the numbers.
    fn provisional(number: usize) -> String {
        format!("model-{number:05}")
    }

    /// Gives files their final names, which say how many there are.
    fn rename(&self, files: &mut BTreeMap<String, Vec<Planned>>) {
        for number in 1..=self.number {
            if let Some(tensors) = files.remove(&Shards::provisional(number)) {
                let name = match self.number {
                    1 => "model.safetensors".to_owned(),
                    count => format!("model-{number:05}-of-{count:05}.safetensors"),
                };
                files.entry(name).or_default().extend(tensors);
            }
        }
    }
}
