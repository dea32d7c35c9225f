//! A GGUF file, as llama.cpp loads it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use larql_compute::Format;

use super::conversion::Conversion;
use super::gguf_metadata::{GgufForm, file_type};
use super::gguf_tokenizer::tokenizer_metadata;
use super::stored::{Stored, stored_tensors};
use super::{Export, ExportOptions, ExportReport, SourceTensors, check_free};
use crate::family::Layout;
use crate::gguf::{GgufFile, GgufTensor, GgufValue, GgufWriter};
use crate::{ModelError, WeightSource};

/// Formats of a file's matrices, by the numbers of llama.cpp.
const FILE_TYPE: &str = "general.file_type";
/// Generation of block formats that it uses.
const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// Writes a model as a GGUF file that llama.cpp loads. Matrices keep their format, blocks included; where parts of
/// one have different formats, or one that GGUF does not know, it gets [`ExportOptions::float`]. Vectors are in F32.
///
/// Nothing appears at `target` before all of it is there.
///
/// # Errors
/// [`ModelError::Io`] if there is something at `target`, or it cannot be written; [`ModelError::Contradiction`] or
/// [`ModelError::Unsupported`] for a model that GGUF cannot describe; whatever the source lacks.
pub fn write_gguf(
    export: Export<'_>,
    target: &Path,
    options: ExportOptions,
) -> Result<ExportReport, ModelError> {
    check_free(target)?;
    let weights = export.weights;
    let form = GgufForm::new(weights.spec(), target)?;
    let conversion = Conversion::between(weights.spec(), &form.spec, target)?;
    let place = |role| (form.family.place)(&form.spec, role, Layout::Gguf);
    let mut tensors = Vec::new();
    for stored in stored_tensors(&form.spec, place) {
        let format = format_of(&stored, weights, options)?;
        tensors.push((stored, format));
    }

    let original = export.text.gguf()?;
    let mut metadata = form.metadata;
    // After the architecture, which readers expect first.
    let of_model = metadata.split_off(1);
    metadata.extend(about(export, original.as_ref()));
    metadata.extend(of_model);
    let as_it_was = export.source.is_some_and(|source| are_as_they_were(&tensors, source));
    // Its word for a mixture of formats says more than what most of it is in.
    let told = original.filter(|_| as_it_was).and_then(|file| file.get(FILE_TYPE).cloned());
    metadata.extend(file_facts(&tensors, told));
    metadata.extend(tokenizer_metadata(export.text, weights.spec().vocab_size, target)?);

    let in_f32 =
        |name: &str, len: usize| GgufTensor { name: name.into(), format: Format::F32, shape: vec![len] };
    let of_stored = |(stored, format): &(Stored, Format)| GgufTensor {
        name: stored.name.clone(),
        format: *format,
        shape: stored.shape.clone(),
    };
    let divisors = form.divisors.iter().map(|(name, values)| in_f32(name, values.len()));
    let described: Vec<GgufTensor> = divisors.chain(tensors.iter().map(of_stored)).collect();
    let count = described.len();
    let mut writer = GgufWriter::create(target, &metadata, described)?;
    for (name, values) in &form.divisors {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(name, &bytes)?;
    }
    for (stored, format) in &tensors {
        writer.write(&stored.name, &stored.bytes(*format, weights, &conversion, target)?)?;
    }
    let bytes = writer.finish()?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(ExportReport { path: target.into(), files: vec![(name, bytes)], tensors: count })
}

/// Descriptive metadata of a model, which no computation needs: those of the GGUF file that it came in, such as author
/// and licence, or else its name.
fn about(export: Export<'_>, original: Option<&GgufFile>) -> Vec<(String, GgufValue)> {
    const COMPUTED: [&str; 5] =
        ["general.architecture", "general.type", FILE_TYPE, QUANTIZATION_VERSION, "general.alignment"];
    let Some(original) = original else {
        let name = export.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return vec![("general.name".into(), GgufValue::String(name))];
    };
    let told = original.metadata().filter(|(key, _)| key.starts_with("general.") && !COMPUTED.contains(key));
    told.map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

/// True if every tensor has the format that it had in the file that the model came in.
fn are_as_they_were(tensors: &[(Stored, Format)], source: &SourceTensors) -> bool {
    let encodings: HashMap<&str, &str> =
        source.tensors.iter().map(|tensor| (&*tensor.name, &*tensor.encoding)).collect();
    tensors.iter().all(|(stored, format)| encodings.get(&*stored.name) == Some(&format.name()))
}

/// The format a tensor is written in.
fn format_of(
    stored: &Stored,
    weights: &dyn WeightSource,
    options: ExportOptions,
) -> Result<Format, ModelError> {
    if stored.holds_vectors() {
        return Ok(Format::F32);
    }
    let held = stored.format_held(weights)?.filter(|format| format.ggml_type().is_some());
    Ok(held.unwrap_or(options.float))
}

/// The format of a file's matrices, from its source or from the majority of them, and the generation of block
/// formats.
fn file_facts(tensors: &[(Stored, Format)], told: Option<GgufValue>) -> Vec<(String, GgufValue)> {
    /// The formats of today, those after ggml's last change of their layout.
    const VERSION: u32 = 2;
    let mut sizes: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    for (stored, format) in tensors.iter().filter(|(stored, _)| !stored.holds_vectors()) {
        *sizes.entry(file_type(*format)).or_default() += stored.byte_size(*format).unwrap_or(0);
    }
    let most = sizes.into_iter().max_by_key(|(_, size)| *size).and_then(|(file_type, _)| file_type);
    let file_type = told.or(most.map(GgufValue::U32)).map(|value| (FILE_TYPE.to_owned(), value));
    let version = (QUANTIZATION_VERSION.to_owned(), GgufValue::U32(VERSION));
    file_type.into_iter().chain([version]).collect()
}
