//! `index.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tensor::check_file_name;
use crate::{Band, ExtractLevel, FloatType, LayerBands, ManifestError, Quant};

/// The container version that is written. Version 1 is read for the fields that both share.
pub const CONTAINER_VERSION: u32 = 2;

/// No model has more layers than this; a manifest that says so is damaged.
const MAX_LAYERS: usize = 4096;

/// Bound on every width and count of rows, so that products of two of them fit into 64 bits with room for
/// element widths.
const MAX_DIMENSION: usize = 1 << 26;

/// Content of `index.json`. Fields that this version does not know are kept in `extra` and written
/// back, here and in every part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Container version.
    pub version: u32,
    /// Version of the public contract that the vindex follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vindex_spec_version: Option<u32>,
    /// Name of the model.
    #[serde(default)]
    pub model: String,
    /// Name of its family.
    #[serde(default)]
    pub family: String,
    /// Origin of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// SHA-256 of files, by name, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<BTreeMap<String, String>>,
    /// Layers of the model; [`Manifest::layers`] may list fewer.
    pub num_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Features of the widest layer.
    pub intermediate_size: usize,
    /// Rows of the embedding matrix.
    pub vocab_size: usize,
    /// Factor of the embeddings before the first layer.
    #[serde(default = "one")]
    pub embed_scale: f32,
    /// Preset of the components; see [`Manifest::level`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract_level: Option<ExtractLevel>,
    /// Encoding of plain floats; see [`Manifest::float_type`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<FloatType>,
    /// Storage of weights: plain floats or blocks.
    #[serde(default)]
    pub quant: Quant,
    /// Division of the layers; see [`Manifest::bands`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_bands: Option<LayerBands>,
    /// The layers whose features are held.
    pub layers: Vec<LayerSlot>,
    /// Output tokens remembered for each feature.
    #[serde(default = "ten")]
    pub down_top_k: usize,
    /// True if a forward pass is possible; older files have it in place of a level.
    #[serde(default)]
    pub has_model_weights: bool,
    /// Settings of the forward pass beyond the sizes, in files without `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_config: Option<ModelConfig>,
    /// The whole model specification, as the reader of models defines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Value>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
    /// SHA-256 of `index.json` itself with these 64 digits as zeros. Written last, so that it is found at the
    /// file's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_digest: Option<String>,
}

/// Origin of the weights of a vindex.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// `owner/name` on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huggingface_repo: Option<String>,
    /// Its commit or branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huggingface_revision: Option<String>,
    /// One digest for the whole source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model_sha: Option<String>,
    /// SHA-256 of each weight file, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_safetensors_sha256: Option<BTreeMap<String, String>>,
    /// Time of extraction, as ISO 8601. The only field that may differ between two extractions of the same
    /// input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extracted_at: Option<String>,
    /// Version of the program that wrote the vindex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub larql_version: Option<String>,
    /// Commit or digest of the program that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extractor_sha: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Location of the gate rows of one layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerSlot {
    /// Number of the layer.
    pub layer: usize,
    /// Features in it.
    pub num_features: usize,
    /// First byte in the file.
    #[serde(default)]
    pub offset: u64,
    /// Number of bytes.
    #[serde(default)]
    pub length: u64,
    /// The file, if it is not `gate_vectors.bin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The files, if the layer is spread over several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<Vec<Shard>>,
    /// Experts, in a mixture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_experts: Option<usize>,
    /// Features of each expert, in a mixture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_features_per_expert: Option<usize>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A part of a layer's gate rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// The file.
    pub file: String,
    /// First byte in it.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// The forward pass's settings in files that hold no `spec`. What is absent is the family's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// `model_type` of the source's configuration.
    pub model_type: String,
    /// Width of an attention head.
    pub head_dim: usize,
    /// Query heads.
    pub num_q_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Base of rotary positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_base: Option<f64>,
    /// The same in layers with a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_local_base: Option<f64>,
    /// Tokens that a layer with a window sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// Interval of the layers without a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window_pattern: Option<usize>,
    /// Kind of each layer: `sliding_attention` or `full_attention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<String>>,
    /// Attention scores are divided by its square root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_pre_attn_scalar: Option<f64>,
    /// True if values are keys.
    #[serde(default)]
    pub attention_k_eq_v: bool,
    /// The mixture's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moe: Option<Value>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn one() -> f32 {
    1.0
}

fn ten() -> usize {
    10
}

impl Manifest {
    /// Reads `index.json` and checks everything in it that can be validated without other files.
    ///
    /// # Errors
    /// [`ManifestError`] names the field, what it says and what would be right.
    pub fn parse(json: &[u8]) -> Result<Manifest, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The text of `index.json`, with a newline at its end.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self)
            .expect("a manifest has string keys and finite numbers, which is all that JSON asks");
        json.push('\n');
        json
    }

    /// The level of the vindex. Old files state only whether there are model weights.
    pub fn level(&self) -> ExtractLevel {
        let implied = if self.has_model_weights { ExtractLevel::Inference } else { ExtractLevel::Browse };
        self.extract_level.unwrap_or(implied)
    }

    /// Encoding of plain floats; f32 in files that do not say.
    pub fn float_type(&self) -> FloatType {
        self.dtype.unwrap_or(FloatType::F32)
    }

    /// The bands of layers, derived from the number of layers in files that do not state them.
    pub fn bands(&self) -> LayerBands {
        self.layer_bands.unwrap_or_else(|| LayerBands::derive(self.num_layers))
    }

    /// The slot of a layer, if its features are held.
    pub fn slot(&self, layer: usize) -> Option<&LayerSlot> {
        self.layers.iter().find(|slot| slot.layer == layer)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if !(1..=CONTAINER_VERSION).contains(&self.version) {
            return Err(ManifestError::Version { found: self.version });
        }
        let sizes = [
            ("num_layers", self.num_layers, MAX_LAYERS),
            ("hidden_size", self.hidden_size, MAX_DIMENSION),
            ("intermediate_size", self.intermediate_size, MAX_DIMENSION),
            ("vocab_size", self.vocab_size, MAX_DIMENSION),
        ];
        for (field, found, most) in sizes {
            check_size(field.to_owned(), found, most)?;
        }
        if self.down_top_k > MAX_DIMENSION {
            return Err(ManifestError::field("down_top_k", self.down_top_k, "no vocabulary is as large"));
        }
        if !self.embed_scale.is_finite() {
            return Err(ManifestError::field("embed_scale", self.embed_scale, "a finite number is expected"));
        }
        self.check_bands()?;
        self.check_slots()?;
        for name in self.checksums.iter().flatten().map(|(name, _)| name) {
            check_file_name("checksums", name)?;
        }
        Ok(())
    }

    fn check_bands(&self) -> Result<(), ManifestError> {
        let Some(bands) = self.layer_bands else { return Ok(()) };
        let named = [("syntax", bands.syntax), ("knowledge", bands.knowledge), ("output", bands.output)];
        for (name, band) in named {
            let layers = band.layers();
            if band != Band::empty() && (layers.is_empty() || layers.end > self.num_layers) {
                let found = format!("{layers:?}");
                let expected = format!("the model has {} layers", self.num_layers);
                return Err(ManifestError::field(format!("layer_bands.{name}"), found, expected));
            }
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), ManifestError> {
        let mut seen = vec![false; self.num_layers];
        for (index, slot) in self.layers.iter().enumerate() {
            let field = |name: &str| format!("layers[{index}].{name}");
            match seen.get_mut(slot.layer) {
                None => {
                    let expected = format!("the model has {} layers", self.num_layers);
                    return Err(ManifestError::field(field("layer"), slot.layer, expected));
                }
                Some(true) => {
                    return Err(ManifestError::field(
                        field("layer"),
                        slot.layer,
                        "that layer is listed before",
                    ));
                }
                Some(unseen) => *unseen = true,
            }
            check_size(field("num_features"), slot.num_features, MAX_DIMENSION)?;
            if slot.offset.checked_add(slot.length).is_none() {
                return Err(ManifestError::field(field("length"), slot.length, "no file is as long"));
            }
            for name in slot.file.iter().chain(slot.shards.iter().flatten().map(|shard| &shard.file)) {
                check_file_name(&field("file"), name)?;
            }
        }
        Ok(())
    }
}

fn check_size(field: String, found: usize, most: usize) -> Result<(), ManifestError> {
    if found == 0 || found > most {
        return Err(ManifestError::field(field, found, format!("a number from 1 to {most} is expected")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As an old tool writes it: nulls, missing fields, unknown fields, at every level.
    const OLD: &str = r#"{
        "version": 2, "model": "m", "family": "llama", "tool_note": {"a": [1, 2.5]},
        "source": {"huggingface_repo": "m", "huggingface_revision": null, "safetensors_sha256": "abc"},
        "num_layers": 2, "hidden_size": 4, "intermediate_size": 8, "vocab_size": 16, "embed_scale": 25.298221,
        "layer_bands": null, "has_model_weights": true,
        "layers": [
            {"layer": 0, "num_features": 8, "offset": 0, "length": 64, "tint": "blue"},
            {"layer": 1, "num_features": 8, "offset": 64, "length": 64}
        ],
        "model_config": {"model_type": "llama", "head_dim": 2, "num_q_heads": 2, "num_kv_heads": 1, "moe": null, "x": 1}
    }"#;

    fn parse_with(edit: impl FnOnce(&mut Value)) -> Result<Manifest, ManifestError> {
        let mut value: Value = serde_json::from_str(OLD).unwrap();
        edit(&mut value);
        Manifest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn old_files_have_defaults() {
        let manifest = Manifest::parse(OLD.as_bytes()).unwrap();
        assert_eq!(manifest.level(), ExtractLevel::Inference);
        assert_eq!(manifest.float_type(), FloatType::F32);
        assert_eq!(manifest.quant, Quant::None);
        assert_eq!(manifest.down_top_k, 10);
        assert_eq!(manifest.bands(), LayerBands::derive(2));
    }

    #[test]
    fn unknown_fields_survive_a_round_trip() {
        let manifest = Manifest::parse(OLD.as_bytes()).unwrap();
        let written = manifest.to_json();
        let value: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(value["tool_note"]["a"][1], 2.5);
        assert_eq!(value["source"]["safetensors_sha256"], "abc");
        assert_eq!(value["layers"][0]["tint"], "blue");
        assert_eq!(value["model_config"]["x"], 1);
        assert_eq!(Manifest::parse(written.as_bytes()).unwrap(), manifest);
        assert_eq!(manifest.embed_scale, 25.298221);
    }

    #[test]
    fn invalid_sizes_are_refused_with_field_and_value() {
        type Edit = fn(&mut Value);
        let cases: [(&str, Edit); 7] = [
            ("container version 3", |v| v["version"] = 3.into()),
            ("`num_layers` is 0", |v| v["num_layers"] = 0.into()),
            ("`hidden_size` is 99999999999", |v| v["hidden_size"] = 99_999_999_999_u64.into()),
            ("`layers[1].layer` is 0, but that layer", |v| v["layers"][1]["layer"] = 0.into()),
            ("`layers[1].layer` is 7, but the model has 2", |v| v["layers"][1]["layer"] = 7.into()),
            ("inside the vindex directory", |v| v["layers"][1]["file"] = "../gate.bin".into()),
            ("`layer_bands.output` is 1..4", |v| v["layer_bands"] = serde_json::json!({"output": [1, 3]})),
        ];
        for (expected, edit) in cases {
            let error = parse_with(edit).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic(position in 0..OLD.len(), byte: u8) {
            let mut bytes = OLD.as_bytes().to_vec();
            bytes[position] = byte;
            if let Ok(manifest) = Manifest::parse(&bytes) {
                prop_assert!(Manifest::parse(manifest.to_json().as_bytes()).is_ok());
            }
        }

        #[test]
        fn truncated_files_are_errors(length in 0..OLD.len()) {
            prop_assert!(Manifest::parse(&OLD.as_bytes()[..length]).is_err());
        }
    }
}
