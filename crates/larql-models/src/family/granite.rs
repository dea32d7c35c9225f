//! Granite 3: Llama with four multipliers, on embeddings, scores, branches and logits.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec};

pub(super) const FAMILY: Family = Family {
    name: "granite",
    model_types: &["granite"],
    gguf_architectures: &["granite"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

pub(super) fn defaults() -> Value {
    json!({
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "mlp_bias": false,
        "embedding_multiplier": 1.0,
        "attention_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "logits_scaling": 1.0,
    })
}

pub(super) fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_biases(&mut spec, config)?;
    common::set_gguf_pairing(&mut spec, config);
    spec.embedding_scale = config.number("embedding_multiplier")? as f32;
    spec.logit_scale = config.number("logits_scaling")?.recip() as f32;
    for layer in &mut spec.layers {
        layer.attention.score_scale = config.number("attention_multiplier")? as f32;
        layer.residual_multiplier = config.number("residual_multiplier")? as f32;
    }
    Ok(spec)
}
