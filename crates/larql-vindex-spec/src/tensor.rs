//! Locations of named tensors: the entries of `weight_manifest.json` and of the quantised manifests.

use serde::{Deserialize, Serialize};

use crate::ManifestError;

/// One tensor of one file.
///
/// Both kinds of manifest have this form. `weight_manifest.json` gives `kind` and `file`; the manifest beside a
/// quantised file gives `format` and leaves the file to its own name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// Name of the tensor, for instance `layers.0.mlp.up_proj.weight`.
    pub key: String,
    /// `tensor` or `vector`; in files of others also `tensor_q4k`, `tensor_f16`, `packed_bf16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its dimensions, `[rows, cols]` or `[values]`.
    pub shape: Vec<usize>,
    /// Name of its format, as ggml spells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// First byte, from the file's start.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
    /// The file, inside the vindex directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl TensorEntry {
    /// Name of the format that the entry states, by itself or through its kind. Where it states none, values
    /// are floats whose width is `length` divided by the number of elements.
    pub fn stated_format(&self) -> Option<&str> {
        let implied = match self.kind.as_deref() {
            Some("tensor_q4k") => Some("Q4_K"),
            Some("tensor_f16") => Some("F16"),
            Some("packed_bf16") => Some("BF16"),
            _ => None,
        };
        self.format.as_deref().or(implied)
    }
}

/// Reads a tensor manifest.
///
/// # Errors
/// If it is not a JSON list of entries, or one names a file outside the directory.
pub fn parse_tensors(json: &[u8]) -> Result<Vec<TensorEntry>, ManifestError> {
    let entries: Vec<TensorEntry> = serde_json::from_slice(json)?;
    for entry in &entries {
        if let Some(file) = &entry.file {
            check_file_name(&format!("file of `{}`", entry.key), file)?;
        }
    }
    Ok(entries)
}

/// Refuses file names that could lead out of the vindex directory. `field` is where the name was read.
///
/// # Errors
/// If `name` is anything but plain names joined by `/`.
pub fn check_file_name(field: &str, name: &str) -> Result<(), ManifestError> {
    let is_plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    if name.split('/').all(is_plain) {
        return Ok(());
    }
    Err(ManifestError::field(field, format!("`{name}`"), "a file must lie inside the vindex directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_entry_are_read_and_written_as_they_were() {
        for json in [
            r#"[{"key":"norm.weight","kind":"vector","shape":[256],"offset":6144,"length":1024,"file":"norms.bin"}]"#,
            r#"[{"key":"layers.0.mlp.up_proj.weight","shape":[512,256],"format":"Q4_K","offset":0,"length":73728}]"#,
        ] {
            let entries = parse_tensors(json.as_bytes()).unwrap();
            assert_eq!(serde_json::to_string(&entries).unwrap(), json);
        }
    }

    #[test]
    fn kinds_of_other_writers_state_a_format() {
        let json =
            r#"[{"key":"lm_head.weight","kind":"tensor_q4k","shape":[4,256],"offset":0,"length":576}]"#;
        assert_eq!(parse_tensors(json.as_bytes()).unwrap()[0].stated_format(), Some("Q4_K"));
    }

    #[test]
    fn names_stay_inside_the_directory() {
        assert!(check_file_name("f", "layers/layer_00.weights").is_ok());
        for name in ["", "/etc/passwd", "../x", "a//b", "a/./b", "C:\\x", "a\\..\\b", "a/"] {
            assert!(check_file_name("f", name).is_err(), "{name}");
        }
    }
}
