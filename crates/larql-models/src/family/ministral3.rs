//! Ministral 3, the text model alone and inside the multimodal one: Llama with YaRN, and queries that grow with the
//! position. Multimodal files of this kind whose text model is a Mistral are read, too.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec, QueryGrowth};

pub(super) const FAMILY: Family = Family {
    name: "ministral3",
    model_types: &["ministral3", "mistral3"],
    gguf_architectures: &["mistral3"],
    defaults,
    spec,
    place: place::common,
    unused: &["*vision_tower.*", "*multi_modal_projector.*"],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262_144,
        "rope_theta": 1_000_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "sliding_window": null,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_gguf_pairing(&mut spec, config);
    let windowed = config.optional_size("sliding_window")?.is_some();
    common::set_windows(&mut spec, config, |_| windowed)?;
    let growth = query_growth(config)?;
    for layer in &mut spec.layers {
        layer.attention.query_growth = growth;
    }
    Ok(spec)
}

/// GGUF files give the slope apart from the rotation.
fn query_growth(config: &Config) -> Result<Option<QueryGrowth>, ModelError> {
    const CONTEXT: &str = "original_max_position_embeddings";
    let Some(section) = common::scaling_section(config, "full_attention")? else { return Ok(None) };
    let slope = match config.is_gguf() {
        true => config.optional_number("attention_temperature_scale")?,
        false => section.optional_number("llama_4_scaling_beta")?,
    };
    match slope {
        None | Some(0.0) => Ok(None),
        Some(slope) => Ok(Some(QueryGrowth { slope: slope as f32, context: section.size(CONTEXT)? })),
    }
}
