//! A GGUF file, as llama.cpp loads it.

use std::collections::BTreeMap;
use std::path::Path;

use larql_compute::Format;

use super::conversion::Conversion;
use super::gguf_metadata::{GgufForm, file_type};
use super::gguf_tokenizer::tokenizer_metadata;
use super::stored::{Stored, stored_tensors};
use super::{Export, ExportOptions, ExportReport, check_free};
use crate::family::Layout;
use crate::gguf::{GgufTensor, GgufValue, GgufWriter};
use crate::{ModelError, WeightSource};

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

    let mut metadata = form.metadata;
    let name = export.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    metadata.insert(1, ("general.name".into(), GgufValue::String(name)));
    metadata.extend(file_facts(&tensors));
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

/// What most of a file's matrices are in, and which generation of block formats that is.
fn file_facts(tensors: &[(Stored, Format)]) -> Vec<(String, GgufValue)> {
    /// The formats of today, those after ggml's last change of their layout.
    const QUANTIZATION_VERSION: u32 = 2;
    let mut sizes: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    for (stored, format) in tensors.iter().filter(|(stored, _)| !stored.holds_vectors()) {
        *sizes.entry(file_type(*format)).or_default() += stored.byte_size(*format).unwrap_or(0);
    }
    let most = sizes.into_iter().max_by_key(|(_, size)| *size).and_then(|(file_type, _)| file_type);
    let file_type = most.map(|number| ("general.file_type".to_owned(), GgufValue::U32(number)));
    let version = ("general.quantization_version".to_owned(), GgufValue::U32(QUANTIZATION_VERSION));
    file_type.into_iter().chain([version]).collect()
}
