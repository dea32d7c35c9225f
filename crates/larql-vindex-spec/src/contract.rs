//! Public contract v1: what a vindex must say before it is published.

use crate::{CONTAINER_VERSION, Manifest, Shard, Source};

/// The version of the contract that [`validate`] checks.
pub const CONTRACT_VERSION: u32 = 1;

/// The contract as a JSON Schema (draft 2020-12), for tools in other languages. It says what one manifest can
/// show; that shards add up and that every file has a checksum is left to [`validate_files`].
pub const SCHEMA: &str = include_str!("../schema/vindex-v1.schema.json");

/// No published file is larger: hubs and file systems handle 20 GiB well, more not everywhere.
pub const MAX_FILE_BYTES: u64 = 20 << 30;

/// One way in which a vindex breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A required field is absent or empty.
    #[error("`{field}` is missing")]
    Missing {
        /// Path of the field.
        field: String,
    },
    /// A field does not have the value that the contract asks for.
    #[error("`{field}` is {found}; the contract asks for {expected}")]
    Value {
        /// Path of the field.
        field: String,
        /// Value found.
        found: String,
        /// Expected value.
        expected: String,
    },
    /// A layer's slot gives one file and shards, or shards that do not add up.
    #[error("the slot of layer {layer} {problem}")]
    Slot {
        /// The layer.
        layer: usize,
        /// The violation, as the rest of the sentence.
        problem: String,
    },
    /// A file has no entry in `checksums`.
    #[error("`{file}` has no checksum")]
    Unchecked {
        /// The file.
        file: String,
    },
    /// A file is larger than [`MAX_FILE_BYTES`].
    #[error(
        "`{file}` has {bytes} bytes; split it into files of 20 GiB at most, named `name-00001-of-00003.bin`"
    )]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: u64,
    },
}

/// Everything in which a manifest breaks the contract, as far as the manifest alone can show it.
pub fn validate(manifest: &Manifest) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut require = |field: &str, present: bool| {
        if !present {
            violations.push(Violation::Missing { field: field.to_owned() });
        }
    };
    require("vindex_spec_version", manifest.vindex_spec_version.is_some());
    require("model", !manifest.model.is_empty());
    require("family", !manifest.family.is_empty());
    require("extract_level", manifest.extract_level.is_some());
    require("dtype", manifest.dtype.is_some());
    require("checksums", manifest.checksums.is_some());
    require("model_config", manifest.model_config.is_some());
    require("source", manifest.source.is_some());
    if let Some(source) = &manifest.source {
        let Source { base_safetensors_sha256: shards, .. } = source;
        let texts = [
            ("source.huggingface_repo", &source.huggingface_repo),
            ("source.huggingface_revision", &source.huggingface_revision),
            ("source.base_model_sha", &source.base_model_sha),
            ("source.extracted_at", &source.extracted_at),
            ("source.larql_version", &source.larql_version),
            ("source.extractor_sha", &source.extractor_sha),
        ];
        for (field, text) in texts {
            require(field, text.as_ref().is_some_and(|text| !text.is_empty()));
        }
        require("source.base_safetensors_sha256", shards.as_ref().is_some_and(|shards| !shards.is_empty()));
    }
    check_versions(manifest, &mut violations);
    check_slots(manifest, &mut violations);
    violations
}

/// As [`validate`], and checks the directory's files, given as names and sizes, against the manifest too.
pub fn validate_files<'a>(
    manifest: &Manifest,
    files: impl IntoIterator<Item = (&'a str, u64)>,
) -> Vec<Violation> {
    let mut violations = validate(manifest);
    for (file, bytes) in files {
        if bytes > MAX_FILE_BYTES {
            violations.push(Violation::TooLarge { file: file.to_owned(), bytes });
        }
        let checked = manifest.checksums.as_ref().is_some_and(|sums| sums.contains_key(file));
        if file.ends_with(".bin") && !checked {
            violations.push(Violation::Unchecked { file: file.to_owned() });
        }
    }
    violations
}

fn check_versions(manifest: &Manifest, violations: &mut Vec<Violation>) {
    let mut expect = |field: &str, found: u32, expected: u32| {
        if found != expected {
            violations.push(Violation::Value {
                field: field.to_owned(),
                found: found.to_string(),
                expected: expected.to_string(),
            });
        }
    };
    expect("version", manifest.version, CONTAINER_VERSION);
    if let Some(found) = manifest.vindex_spec_version {
        expect("vindex_spec_version", found, CONTRACT_VERSION);
    }
    let weights = manifest.level().has_model_weights();
    if manifest.has_model_weights != weights {
        violations.push(Violation::Value {
            field: "has_model_weights".to_owned(),
            found: manifest.has_model_weights.to_string(),
            expected: format!("{weights} at extract level {}", manifest.level()),
        });
    }
}

fn check_slots(manifest: &Manifest, violations: &mut Vec<Violation>) {
    for slot in &manifest.layers {
        let mut broken = |problem: String| violations.push(Violation::Slot { layer: slot.layer, problem });
        let Some(shards) = &slot.shards else { continue };
        if slot.file.is_some() {
            broken("gives both a file and shards".to_owned());
        }
        let total = shards.iter().try_fold(0_u64, |sum, shard| sum.checked_add(shard.length));
        if slot.length != 0 && total != Some(slot.length) {
            broken(format!("gives {} bytes, but its shards do not add up to that", slot.length));
        }
        for Shard { file, .. } in shards.iter().filter(|shard| !is_shard_name(&shard.file)) {
            broken(format!("names a shard `{file}`, which is not of the form `name-00001-of-00003.bin`"));
        }
    }
}

/// True if `name` is `stem-NNNNN-of-NNNNN.bin` with a number from one to the total.
fn is_shard_name(name: &str) -> bool {
    let number = |digits: &str| {
        let is_number = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse::<u32>().ok()).flatten()
    };
    let parts = name.strip_suffix(".bin").and_then(|stem| {
        let (rest, total) = stem.rsplit_once("-of-")?;
        let (stem, index) = rest.rsplit_once('-')?;
        Some((stem, number(index)?, number(total)?))
    });
    parts.is_some_and(|(stem, index, total)| !stem.is_empty() && (1..=total).contains(&index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishable() -> Manifest {
        let json = serde_json::json!({
            "version": 2, "vindex_spec_version": 1, "model": "m", "family": "llama", "dtype": "f16",
            "num_layers": 1, "hidden_size": 4, "intermediate_size": 8, "vocab_size": 16,
            "extract_level": "inference", "has_model_weights": true,
            "source": {
                "huggingface_repo": "o/m", "huggingface_revision": "main", "base_model_sha": "00",
                "base_safetensors_sha256": {"model.safetensors": "00"}, "extracted_at": "2026-01-01T00:00:00Z",
                "larql_version": "0.1.0", "extractor_sha": "00"
            },
            "checksums": {"gate_vectors.bin": "00"},
            "model_config": {"model_type": "llama", "head_dim": 2, "num_q_heads": 2, "num_kv_heads": 1},
            "layers": [{"layer": 0, "num_features": 8, "offset": 0, "length": 64}]
        });
        Manifest::parse(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_complete_manifest_breaks_nothing() {
        let manifest = publishable();
        assert_eq!(validate_files(&manifest, [("gate_vectors.bin", 64), ("tokenizer.json", 9)]), []);
    }

    #[test]
    fn each_omission_is_named() {
        let mut manifest = publishable();
        manifest.source.as_mut().unwrap().base_model_sha = None;
        manifest.has_model_weights = false;
        manifest.version = 1;
        let slot = &mut manifest.layers[0];
        slot.file = Some("gate_vectors.bin".into());
        slot.shards = Some(vec![Shard { file: "gate-00004-of-00003.bin".into(), offset: 0, length: 60 }]);
        let files = [("norms.bin", 1), ("gate_vectors.bin", MAX_FILE_BYTES + 1)];
        let said: Vec<String> = validate_files(&manifest, files).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "`source.base_model_sha` is missing",
                "`version` is 1; the contract asks for 2",
                "`has_model_weights` is false; the contract asks for true at extract level inference",
                "the slot of layer 0 gives both a file and shards",
                "the slot of layer 0 gives 64 bytes, but its shards do not add up to that",
                "the slot of layer 0 names a shard `gate-00004-of-00003.bin`, which is not of the form `name-00001-of-00003.bin`",
                "`norms.bin` has no checksum",
                "`gate_vectors.bin` has 21474836481 bytes; split it into files of 20 GiB at most, named `name-00001-of-00003.bin`",
            ]
        );
    }

    #[test]
    fn schema_and_validator_require_the_same() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        let complete = serde_json::to_value(publishable()).unwrap();
        let breaks = |manifest: serde_json::Value| match Manifest::parse(manifest.to_string().as_bytes()) {
            Ok(manifest) => !validate(&manifest).is_empty(),
            Err(_) => true,
        };
        let required = |schema: &serde_json::Value| -> Vec<String> {
            serde_json::from_value(schema["required"].clone()).unwrap()
        };
        for field in required(&schema) {
            let mut manifest = complete.clone();
            assert!(manifest.as_object_mut().unwrap().remove(&field).is_some(), "{field}");
            assert!(breaks(manifest), "{field}");
        }
        for part in ["source", "model_config"] {
            for field in required(&schema["properties"][part]) {
                let mut manifest = complete.clone();
                assert!(manifest[part].as_object_mut().unwrap().remove(&field).is_some(), "{part}.{field}");
                assert!(breaks(manifest), "{part}.{field}");
            }
        }
    }

    #[test]
    fn shard_names() {
        assert!(is_shard_name("gate_vectors-00001-of-00003.bin"));
        for name in [
            "gate.bin",
            "-00001-of-00003.bin",
            "g-00000-of-00003.bin",
            "g-1-of-3.bin",
            "g-0000é-of-00003.bin",
        ] {
            assert!(!is_shard_name(name), "{name}");
        }
    }
}
