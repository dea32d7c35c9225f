//! Splits a GGUF file into parts, as llama.cpp's `llama-gguf-split` does.

use std::path::{Path, PathBuf};

use larql_models::{Encoding, GgufFile, GgufTensor, GgufValue, GgufWriter, StoredTensor};

/// Writes the parts of `file` as `STEM-00001-of-0000N.gguf` and so on; the first has all metadata.
pub(crate) fn split(file: &GgufFile, folder: &Path, stem: &str, parts: usize) -> Vec<PathBuf> {
    let chunks: Vec<&[StoredTensor]> = file.tensors().chunks(file.tensors().len().div_ceil(parts)).collect();
    let count = chunks.len();
    let mut paths = Vec::new();
    for (number, tensors) in chunks.into_iter().enumerate() {
        let whole = file.metadata().map(|(key, value)| (key.to_owned(), value.clone()));
        let mut metadata: Vec<_> = whole.filter(|_| number == 0).collect();
        for (key, value) in [("no", number), ("count", count), ("tensors.count", file.tensors().len())] {
            metadata.push((format!("split.{key}"), GgufValue::U32(value as u32)));
        }
        let described = tensors.iter().map(|tensor| {
            let Encoding::Format(format) = tensor.encoding else { panic!("{tensor:?}") };
            GgufTensor { name: tensor.name.clone(), format, shape: tensor.shape.clone() }
        });
        let path = folder.join(format!("{stem}-{:05}-of-{count:05}.gguf", number + 1));
        let mut writer = GgufWriter::create(&path, &metadata, described.collect()).unwrap();
        tensors.iter().for_each(|tensor| writer.write(&tensor.name, &tensor.bytes).unwrap());
        writer.finish().unwrap();
        paths.push(path);
    }
    paths
}
