//! The specification of a vindex whose manifest has no `spec`, from older writers: `model_config`,
//! and the defaults of the family.

use larql_models::{Config, ModelSpec};
use larql_vindex_spec::{Manifest, ModelConfig};
use serde_json::{Map, Value, json};

use crate::component::{Component, MANIFEST_FILE};
use crate::files::Files;
use crate::{Damage, VindexError};

/// Epsilon of norms where these files have none, for every family.
const EPSILON: f64 = 1e-6;

/// The specification that follows from the manifest.
pub(crate) fn spec(files: &Files, manifest: &Manifest) -> Result<ModelSpec, VindexError> {
    let path = files.path(MANIFEST_FILE);
    let Some(model) = &manifest.model_config else {
        let damage = Damage::new("`spec`", "it or `model_config`", "neither");
        return Err(VindexError::damaged(&path)(damage));
    };
    let tied = !Component::Head.files().iter().any(|name| files.path(name).exists());
    Ok(ModelSpec::from_config(&Config::from_values(hub_config(manifest, model, tied), &path))?)
}

/// The settings under the names that configurations on the hub give them. What is absent stays absent.
fn hub_config(manifest: &Manifest, model: &ModelConfig, tied: bool) -> Map<String, Value> {
    let settings = [
        ("model_type", json!(model.model_type)),
        ("hidden_size", json!(manifest.hidden_size)),
        ("intermediate_size", json!(manifest.intermediate_size)),
        ("num_hidden_layers", json!(manifest.num_layers)),
        ("vocab_size", json!(manifest.vocab_size)),
        ("head_dim", json!(model.head_dim)),
        ("num_attention_heads", json!(model.num_q_heads)),
        ("num_key_value_heads", json!(model.num_kv_heads)),
        ("rope_theta", json!(model.rope_base)),
        ("rope_local_base_freq", json!(model.rope_local_base)),
        ("sliding_window", json!(model.sliding_window)),
        ("sliding_window_pattern", json!(model.sliding_window_pattern)),
        ("layer_types", json!(model.layer_types)),
        ("query_pre_attn_scalar", json!(model.query_pre_attn_scalar)),
        ("tie_word_embeddings", json!(tied)),
        ("rms_norm_eps", json!(EPSILON)),
    ];
    let given = settings.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(key, value)| (key.to_owned(), value)).collect()
}
