//! Names for what people give in place of a checkpoint, with what to do about each.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::shorten;
use crate::{ModelError, python_json};

/// Bytes of a file that show its kind.
const START: u64 = 512;

/// The first bytes of a file.
pub(super) fn start_of(path: &Path) -> Result<Vec<u8>, ModelError> {
    let io = |source| ModelError::Io { path: path.into(), source };
    let mut start = Vec::new();
    File::open(path).map_err(io)?.take(START).read_to_end(&mut start).map_err(io)?;
    Ok(start)
}

/// The error for a file that is text in place of data: a pointer or a web page.
pub(crate) fn placeholder(path: &Path, start: &[u8]) -> Option<ModelError> {
    let text = start.trim_ascii_start();
    let begins =
        |words: &[u8]| text.get(..words.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(words));
    let (found, advice) = if begins(b"version https://git-lfs.github.com/") {
        (
            "a Git LFS pointer, not the file itself",
            "run `git lfs pull` in its directory, or download the file",
        )
    } else if begins(b"<!doctype html") || begins(b"<html") {
        (
            "a web page (HTML), not the file itself",
            "download the file again, from the link that names the file",
        )
    } else {
        return None;
    };
    Some(ModelError::OtherFile { path: path.into(), found: found.into(), advice: advice.into() })
}

/// Fails for a file that is a pointer or a web page.
pub(crate) fn refuse_placeholder(path: &Path) -> Result<(), ModelError> {
    placeholder(path, &start_of(path)?).map_or(Ok(()), Err)
}

/// The error for a file that holds no weights that are read, by its first bytes and its name.
pub(super) fn no_weights(path: &Path, start: &[u8]) -> ModelError {
    const CONVERT: &str = "use a version of the model in safetensors or GGUF";
    if let Some(error) = placeholder(path, start) {
        return error;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let is = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let (found, advice) = if is(&[".vindex3"]) || start.starts_with(b"VINDEX") {
        (
            "a VINDEX3 container",
            "this version reads vindex directories: extract the model again with `larql extract`",
        )
    } else if is(&[".npz"]) {
        ("an archive of NumPy arrays, as early versions of MLX wrote", "convert the model again with mlx_lm")
    } else if is(&[".onnx"]) {
        ("an ONNX graph", CONVERT)
    } else if is(&[".tflite"]) || start.get(4..8) == Some(b"TFL3") {
        ("a TensorFlow Lite model", CONVERT)
    } else if is(&[".h5", ".msgpack", ".keras"]) || start.starts_with(b"\x89HDF") {
        ("a TensorFlow or Flax checkpoint", CONVERT)
    } else if [b"lmgg", b"fmgg", b"tjgg", b"algg"].iter().any(|magic| start.starts_with(*magic)) {
        ("a GGML file, which came before GGUF", "take the model's GGUF file, or convert it with llama.cpp")
    } else if is(&[".bin", ".pt", ".pth", ".ckpt"])
        && (start.starts_with(b"PK\x03\x04") || start.starts_with(b"\x80"))
    {
        ("a PyTorch pickle, which is not read", "use the model's safetensors, or convert it")
    } else {
        let problem = "it is another kind of file".into();
        return ModelError::NotACheckpoint { path: path.into(), problem };
    };
    ModelError::OtherFile { path: path.into(), found: found.into(), advice: advice.into() }
}

/// The error for a directory without weights that are read, of which `files` are there.
pub(super) fn no_weights_in(directory: &Path, files: &[PathBuf]) -> ModelError {
    let has = |name: &str| directory.join(name).exists();
    let with_ending = |endings: &[&str]| {
        files.iter().find(|file| {
            let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            endings.contains(&ending)
        })
    };
    let other = |found: String, advice: &str| ModelError::OtherFile {
        path: directory.into(),
        found,
        advice: advice.into(),
    };
    if has("adapter_config.json") {
        let base = base_of_adapter(&directory.join("adapter_config.json"));
        let advice =
            "merge it into that model first (PEFT: merge_and_unload), and give the merged checkpoint";
        return other(format!("a LoRA adapter of {base}, not a model"), advice);
    }
    if has("consolidated.safetensors") || has("consolidated.00.pth") || has("params.json") {
        let found = "a checkpoint in the layout of its makers (consolidated weights with params.json)";
        return other(
            found.into(),
            "use the model's version for transformers, with config.json, or a GGUF file",
        );
    }
    if let Some(file) = with_ending(&["npz", "onnx", "tflite", "h5", "msgpack"]) {
        return no_weights(file, &[]);
    }
    if let Some(file) = with_ending(&["safetensors"]) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found =
            format!("a directory whose only weights are {}, which is no name for them", shorten(&name));
        return other(found, "if they are a whole model, rename the file to model.safetensors");
    }
    let problem = match with_ending(&["bin", "pt", "pth", "ckpt"]) {
        Some(_) => {
            "its weights are PyTorch pickles, which are not read: use the model's safetensors, or convert it"
        }
        None if has("config.json") => {
            "it holds a configuration and no weights; was it downloaded completely?"
        }
        None => "it holds no weights",
    };
    ModelError::NotACheckpoint { path: directory.into(), problem: problem.into() }
}

/// The model that an adapter changes, as its configuration names it.
fn base_of_adapter(config: &Path) -> String {
    let config = std::fs::read(config).ok().and_then(|bytes| python_json::parse::<Value>(&bytes).ok());
    let base = config.as_ref().and_then(|config| config.get("base_model_name_or_path")?.as_str());
    base.map_or_else(|| "a model that it does not name".into(), shorten)
}

/// Files that only vindexes have.
const OF_A_VINDEX: [&str; 7] = [
    "weight_manifest.json",
    "gate_vectors.bin",
    "gate_vectors.safetensors",
    "interleaved_q4k.bin",
    "interleaved_kquant.bin",
    "down_meta.bin",
    "embeddings.bin",
];

/// The error for a directory that is a vindex, whole or damaged.
pub(super) fn vindex(directory: &Path) -> Option<ModelError> {
    OF_A_VINDEX.iter().any(|name| directory.join(name).is_file()).then(|| {
        let (found, advice) = if directory.join("index.json").is_file() {
            (
                "a vindex already, not a checkpoint",
                "use it as it is, or give the checkpoint that it was made of",
            )
        } else if directory.extension().is_some_and(|ending| ending == "partial") {
            ("an extraction that has not finished", "resume it, or delete it and extract the model again")
        } else {
            ("a vindex whose index.json is missing", "copy all of its files, or extract the model again")
        };
        ModelError::OtherFile { path: directory.into(), found: found.into(), advice: advice.into() }
    })
}
